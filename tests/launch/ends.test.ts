// SPDX-License-Identifier: MIT
/** What seedstrap leaves when it ends: no QEMU, and a terminal that is the caller's again. */
import { afterEach, expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { shellQuote } from "../../src/launch/process.ts";
import { TempDirs } from "../support/files.ts";
import { MAIN, seedstrap, start, testWith } from "../support/run.ts";
import { testAtTerminal } from "../support/terminal.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { eventually, pidsWith, QEMU } from "./guest.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";

testWith(QEMU).each(["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGKILL"] as const)(
  "QEMU ends with %s to seedstrap",
  async (signal) => {
    if (
      signal === "SIGKILL" && spawnSync("setpriv", ["--pdeathsig", "KILL", "true"]).status !== 0
    ) {
      console.log("skipped: QEMU on SIGKILL: there is no setpriv with --pdeathsig");
      return;
    }
    const dir = realpathSync(temp.make());
    const { tree, mirror } = writeMiniTree(dir);
    const target = join(dir, "target");
    const args = ["--qemu", "--external-sources", "--target-size", "64M"];
    const built = await seedstrap(
      ["build", ...args, "-m", `file://${mirror}`, "--tree", tree, "-t", target],
    );
    expect(built).toMatchObject({ code: 0 });
    // The boot sector of this checkout is an endless loop.
    const child = start([process.execPath, MAIN, "run", target, "--accel", "tcg"]);
    const stderr = new Response(child.stderr).text();
    const guests = () => pidsWith(join(target, "init.img"));
    expect(await eventually(() => guests().length === 1)).toBe(true);
    child.kill(signal);
    const code = await child.exited;
    expect(await eventually(() => guests().length === 0, 10_000)).toBe(true);
    if (signal === "SIGKILL") return;
    expect(await stderr).toContain("Interrupted");
    expect(code).toBe(130);
  },
);

testAtTerminal()("a bootstrap with job control leaves the terminal to the caller", async () => {
  const dir = temp.make();
  const mini = miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "the seed" } });
  const { tree, mirror } = writeMiniTree(dir, mini);
  const bin = join(dir, "bin");
  mkdirSync(bin);
  const shell = '#!/bin/sh\nexec bash --norc -i -c "sleep 60 & jobs; exit 0"\n';
  writeFileSync(join(bin, "chroot"), shell, { mode: 0o755 });
  writeFileSync(join(bin, "sudo"), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
  const argv = [process.execPath, MAIN, "-c", "-i", "--external-sources"];
  const whole = [...argv, "-m", `file://${mirror}`, "--tree", tree, "-t", join(dir, "target")];
  const groups = 'ps -o pgid= -o tpgid= -p $$ | sed "s/^/groups /"';
  const child = Bun.spawn(
    ["script", "-qefc", `${shellQuote(whole)}; ${groups}`, join(dir, "typescript")],
    {
      env: { HOME: dir, PATH: `${bin}:${process.env["PATH"]}` },
      stdin: "pipe",
      stdout: "ignore",
      stderr: "ignore",
    },
  );
  expect(await child.exited).toBe(0);
  const said = readFileSync(join(dir, "typescript"), "latin1");
  expect(said).toMatch(/\[1\]\+\s+Running\s+sleep 60/);
  expect(said).not.toContain("no job control");
  const [, own, foreground] = /groups +(\d+) +(\d+)/.exec(said)!;
  expect(foreground).toBe(own!);
});
