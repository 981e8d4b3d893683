// SPDX-License-Identifier: MIT
/** What README.md shows as printed by a command is what the command prints. */
import { afterAll, expect, test as always } from "bun:test";
import { readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { seedstrap, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { bootSector } from "../job/boot_sector.ts";

const README = readFileSync(join(import.meta.dirname!, "../../README.md"), "utf8");
const temp = new TempDirs();
afterAll(() => temp.release());
const test = testWith("qemu-system-x86_64");

/** The lines that README.md shows for each command, without those that it leaves out. */
const shown = new Map(
  [...README.matchAll(/<!-- printed by: (.*) -->\n\n((?: {4}.*\n|\n(?= {4}))+)/g)].map(
    ([, command, block]) => {
      const lines = block!.split("\n").map((line) => line.slice(4));
      return [command!, lines.filter((line) => line !== "" && line !== "…" && !/^\$ /.test(line))];
    },
  ),
);

/** Fails unless the lines are printed, in their order. */
function expectInOrder(command: string, printed: string): void {
  const lines = printed.split("\n");
  const wanted = shown.get(command)!;
  expect(wanted.length).toBeGreaterThan(3);
  expect(lines.filter((line) => wanted.includes(line))).toEqual(wanted);
}

always("README.md shows what three commands print", () => {
  expect([...shown.keys()]).toEqual([
    "demo --keep lb",
    "plan --qemu --external-sources --tree lb/tree -m ./lb/mirror",
    "run target",
  ]);
});

test("README.md shows what the demo prints, and a plan of its tree", async () => {
  const dir = temp.make();
  const [demo, plan] = [...shown.keys()];
  for (const command of [demo!, plan!]) {
    const ran = await seedstrap(command.split(" "), { cwd: dir });
    expect(ran.code).toBe(0);
    expectInOrder(command, ran.stdout);
  }
}, 120_000);

test("README.md shows how a failed run ends", async () => {
  const dir = realpathSync(temp.make());
  const command = "run target";
  const console = shown.get(command)!.filter((line) => line.startsWith("  | "))
    .map((line) => line.slice("  | ".length));
  const step = "mes-0.27.1";
  const text = [` +> pkg=${step}`, " +> kaem --file pass1.kaem", ...console].join("\r\n");
  const files = {
    "builder-hex0/builder-hex0-x86-stage1.hex0": bootSector(`\r\n${text}\r\n`, "reset"),
    "steps/manifest": `build: ${step}\n`,
    [`steps/${step}/pass1.kaem`]: "exec true\n",
  };
  const { tree } = writeMiniTree(dir, miniTree({ files }));
  const build = ["build", "--qemu", "-qs", "64M", "--tree", tree, "--offline"];
  expect(await seedstrap(build, { cwd: dir })).toMatchObject({ code: 0 });
  const ran = await seedstrap([...command.split(" "), "--accel", "tcg"], { cwd: dir });
  expect(ran.code).toBe(12);
  expectInOrder(command, ran.stderr.replaceAll(`${dir}/`, ""));
});
