// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { DENO, run } from "../support/run.ts";
import { concat } from "../support/sources.ts";
import { compress, COMPRESSIONS, noise, rawTar } from "./support.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const missing = COMPRESSIONS.filter((program) => Bun.which(program) === null);
if (missing.length > 0) console.log(`skipped: archives under Deno: no ${missing.join(", ")} here`);

test.skipIf(missing.length > 0)(
  "Deno and Bun list the same members and report the same errors",
  async () => {
    const dir = temp.make();
    const tar = rawTar([{ name: "a", data: noise(300_000) }, { name: "b", data: noise(999, 2) }]);
    const half = 150_000;
    const paths = COMPRESSIONS.flatMap((program) => {
      const parts = [tar.subarray(0, half), tar.subarray(half)];
      const [first, second] = parts.map((part) => compress(program, part));
      const whole = concat([first!, second!]);
      const damaged = whole.slice();
      damaged[first!.length + 5000] = damaged[first!.length + 5000]! ^ 16;
      const variants = {
        good: whole,
        cut: whole.subarray(0, -7),
        "cut-early": whole.subarray(0, first!.length - 900),
        garbage: concat([whole, noise(5)]),
        "late-garbage": concat([whole, new Uint8Array(600_000), noise(5)]),
        damaged,
      };
      return Object.entries(variants).map(([name, bytes]) => {
        const path = join(dir, `${name}.${program}`);
        writeFileSync(path, bytes);
        return path;
      });
    });
    const script = new URL("list.ts", import.meta.url).pathname;
    const root = new URL("../..", import.meta.url).pathname;
    const bun = await run([process.execPath, script, ...paths], { cwd: root });
    const deno = await run([DENO, "run", "--quiet", "--allow-all", script, ...paths], {
      cwd: root,
    });
    expect(deno.stderr).toBe("");
    expect(deno.stdout).toBe(bun.stdout);
    const lines = bun.stdout.trim().split("\n");
    expect(lines).toHaveLength(paths.length);
    paths.forEach((path, index) => {
      const isGood = path.includes("/good.");
      expect([path, lines[index]!.startsWith("{")]).toEqual([path, isGood]);
      if (isGood) expect(JSON.parse(lines[index]!).expandedBytes).toBe(tar.length);
      else expect(lines[index]).toContain(path);
    });
  },
);
