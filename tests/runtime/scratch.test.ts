// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { chmodSync, existsSync, readdirSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { ownName } from "../../src/runtime/lock.ts";
import { makeScratch } from "../../src/runtime/scratch.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { asNobody, nobodyObstacle } from "../support/nobody.ts";
import { DENO, start } from "../support/run.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const MODULE = fileURLToPath(new URL("../../src/runtime/scratch.ts", import.meta.url).href);

test("makeScratch() removes what a killed process left, under both runtimes", async () => {
  const script = join(temp.make(), "maker.ts");
  writeFiles(join(script, ".."), {
    "maker.ts": `
      import { makeScratch } from ${JSON.stringify(MODULE)};
      console.log(makeScratch(process.argv[2]));
      setInterval(() => {}, 1000);`,
  });
  for (const command of [[process.execPath], [DENO, "run", "--allow-all"]]) {
    const prefix = join(temp.make(), ".out.part-");
    const child = start([...command, script, prefix]);
    const { value } = await child.stdout.getReader().read();
    const made = new TextDecoder().decode(value).trim();
    writeFiles(made, { "half/written": "x" });
    // While the process runs, its directory is kept.
    const own = makeScratch(prefix);
    expect(existsSync(join(made, "half/written"))).toBe(true);
    child.kill("SIGKILL");
    await child.exited;
    const next = makeScratch(prefix);
    expect(readdirSync(join(prefix, "..")).map((name) => join(prefix, "..", name)).sort())
      .toEqual([own, next].sort());
    expect(statSync(next).mode % 0o1000).toBe(0o700);
  }
}, 20_000);

test("makeScratch() removes only names that a process made with that prefix", () => {
  const dir = temp.make();
  const dead = "99999999-5";
  const others = [
    `.out.part-${ownName()}-abcdef`,
    `.out.part-${dead}-abcde`,
    ".out.part-abcdef",
    `.out.part-5.part-${dead}-abcdef`,
    `.other.part-${dead}-abcdef`,
    `out.part-${dead}-abcdef`,
  ];
  for (const name of others) writeFiles(dir, { [`${name}/`]: "" });
  writeFiles(dir, { [`.out.part-${dead}-fileAA`]: "x", "kept/x": "x" });
  symlinkSync("kept", join(dir, `.out.part-${dead}-linkAA`));
  writeFiles(dir, { [`.out.part-${dead}-abcdef/x`]: "x" });
  const before = readdirSync(dir);
  makeScratch(join(dir, ".out.part-"));
  const gone = before.filter((name) => !existsSync(join(dir, name)));
  expect(gone).toEqual([`.out.part-${dead}-abcdef`]);
  expect(existsSync(join(dir, "kept/x"))).toBe(true);
});

const obstacle = nobodyObstacle();
if (obstacle !== undefined) console.log(`skipped: a directory that nobody may write: ${obstacle}`);

test.skipIf(obstacle !== undefined)(
  "makeScratch() removes directories in which their owner may not write",
  () => {
    const dir = temp.make();
    const source = join(dir, "maker.ts");
    writeFiles(dir, {
      "maker.ts": `
        import { makeScratch } from ${JSON.stringify(MODULE)};
        makeScratch(process.argv[2]);`,
    });
    const place = temp.make();
    const left = join(place, ".out.part-99999999-5-abcdef");
    writeFiles(left, { "locked/inner/x": "x", "closed/x": "x" });
    chmodSync(join(left, "locked/inner"), 0o555);
    chmodSync(join(left, "closed"), 0);
    Bun.spawnSync(["chown", "-R", "65534:65534", place]);
    const command = asNobody(dir, source);
    const { exitCode } = Bun.spawnSync([...command, join(place, ".out.part-")], { cwd: place });
    expect(exitCode).toBe(0);
    expect(readdirSync(place).filter((name) => name.includes("99999999"))).toEqual([]);
  },
);
