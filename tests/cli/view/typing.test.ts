// SPDX-License-Identifier: MIT
/** Typing into a guest that QEMU runs. */
import { afterEach, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { TempDirs } from "../../support/files.ts";
import { MAIN, seedstrap, testWith } from "../../support/run.ts";
import { Terminal, testInTmux } from "../../support/tmux.ts";
import { miniTree, writeMiniTree } from "../../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const [inTmux, withQemu] = [testInTmux(), testWith("qemu-system-x86_64")];
const test = inTmux === withQemu ? inTmux : inTmux.skip;

/** A boot sector that prints " +> ok" on COM1, and then whatever comes in there. */
const ECHO = [
  "FA BA F8 03", // cli; mov dx, 0x3f8
  "B0 0D EE B0 0A EE", // mov al, n; out dx, al: a line of its own
  ...[..." +> ok "].map((char) => `B0 ${char.charCodeAt(0).toString(16)} EE`),
  "BA FD 03 EC A8 01 74 FB", // mov dx, 0x3fd; in al, dx; test al, 1; jz to the in
  "BA F8 03 EC EE EB F1", // mov dx, 0x3f8; in al, dx; out dx, al; jmp to the first of these
].join(" ");

test("i types into the guest, Ctrl-A too, and Ctrl-] ends that", async () => {
  const dir = temp.make();
  const zeros = " 00".repeat(510 - ECHO.split(" ").length);
  const files = { "builder-hex0/builder-hex0-x86-stage1.hex0": `${ECHO}${zeros} 55 AA\n` };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ files }));
  const target = join(dir, "target");
  const build = ["build", "-q", "--external-sources", "-qs", "64M", "-m", `file://${mirror}`];
  const built = await seedstrap([...build, "--tree", tree, "-t", target, "--distfiles", dir]);
  expect(built.code).toBe(0);
  const argv = [process.execPath, MAIN, "run", target, "--accel", "tcg"];
  using run = new Terminal(argv, { columns: 80, rows: 24, cwd: dir });
  const mode = (rows: string[]) => rows.at(-4)!;
  await run.shows((rows) => rows.includes(" +> ok"));
  run.press("x", "i");
  await run.shows((rows) => mode(rows).startsWith("-- KEYS GO TO THE GUEST, in QEMU under TCG"));
  // Ctrl-A x would end QEMU, Ctrl-A c would lead to its monitor.
  run.press("a", "C-a", "x", "C-a", "c", "p", "q", "Enter", "C-]", "p");
  const shown = await run.shows((rows) =>
    mode(rows).startsWith("-- PAUSED, 0 lines wait, in QEMU")
  );
  expect(run.exitCode()).toBeUndefined();
  expect(shown.at(-1)).toStartWith("p go on");
  run.press("p");
  await run.shows((rows) => rows.includes(" +> ok axcpq"));
  const log = readFileSync(join(target, ".seedstrap/runs/1.log"), "latin1");
  expect(log).toEndWith(" +> ok a\x01x\x01cpq\r");
  run.press("C-c");
  expect(await run.ended()).toBe(130);
}, 60_000);
