// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { MAIN, seedstrap, start, testWith } from "../support/run.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

test("demo --keep takes a new or an empty directory, and nothing else", async () => {
  const dir = temp.make();
  const file = join(dir, "file");
  writeFileSync(file, "mine");
  for (const keep of [file, join(file, "below"), dir]) {
    const ran = await seedstrap(["demo", "--keep", keep]);
    expect(ran.stderr).toContain(keep);
    expect(ran.stderr).not.toContain("bug:");
    expect(ran.code).toBe(7);
  }
  expect(readdirSync(dir)).toEqual(["file"]);
  expect(readFileSync(file, "utf8")).toBe("mine");
});

test.each(["demo", "preflight --qemu"])(
  "%s names the temporary directory that it cannot write to",
  async (args) => {
    const nowhere = join(temp.make(), "nowhere");
    const ran = await seedstrap(args.split(" "), { env: { TMPDIR: nowhere } });
    expect(ran.stderr).toContain(`Cannot write to ${nowhere}: ENOENT`);
    expect(ran.code).toBe(7);
  },
);

test("demo --keep leaves nothing in the directory before it is whole, and begins again", async () => {
  const dir = temp.make();
  const keep = join(dir, "kept");
  for (const [signal, left] of [["SIGKILL", 1], ["SIGTERM", 0]] as const) {
    const child = start([process.execPath, MAIN, "demo", "--keep", keep], { cwd: dir });
    const reader = child.stdout.getReader();
    for (let said = ""; !said.includes("== Boot");) {
      said += new TextDecoder().decode((await reader.read()).value);
    }
    child.kill(signal);
    await child.exited;
    expect(readdirSync(dir).filter((name) => name === "kept")).toEqual([]);
    expect(readdirSync(dir)).toHaveLength(left);
  }
});

testWith("qemu-system-x86_64")("demo --keep ends by saying that it is no bootstrap", async () => {
  const ran = await seedstrap(["demo", "--keep", join(temp.make(), "kept")]);
  expect(ran.stdout).toEndWith(
    "\nIt is no bootstrap to run: what is built of its tree boots the preflight program, and no more\n",
  );
  expect(ran.code).toBe(0);
}, 120_000);
