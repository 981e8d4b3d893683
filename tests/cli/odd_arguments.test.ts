// SPDX-License-Identifier: MIT
/**
 * Every argument that is a path, with everything that a path can lead to, as an ordinary user.
 * `SEEDSTRAP_TABLE=FILE bun test tests/cli/odd_arguments.test.ts` writes what each got.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { asNobody, nobodyObstacle } from "../support/nobody.ts";
import { run } from "../support/run.ts";
import { argumentsIn, BOOTS, MAY_END_WELL, ODD, writeScene } from "./odd_arguments.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const why = nobodyObstacle();
if (why !== undefined) console.log(`skipped: tests as another user: ${why}`);

const dir = temp.make();
let command: string[] = [];
/** What does not end has waited for what never comes: 124 is of timeout(1). */
const call = (args: readonly string[]) =>
  run(["timeout", "--kill-after=5", "50", ...command, ...args], { cwd: dir });

function tell(text: string): void {
  const table = process.env["SEEDSTRAP_TABLE"];
  if (table !== undefined) appendFileSync(table, `${text.replaceAll(dir, "DIR")}\n`);
}

describe.skipIf(why !== undefined)("is refused with the path and what to do, or used:", () => {
  beforeAll(async () => {
    command = asNobody(dir);
    await writeScene(dir, async (args) => expect(await call(args)).toMatchObject({ code: 0 }));
  }, 60_000);

  for (const [number, name] of Object.keys(argumentsIn("", "")).entries()) {
    test(name, async () => {
      const kinds = Object.keys(ODD).filter((kind) => BOOTS[name]?.includes(kind) !== true);
      await Promise.all(kinds.map(async (kind, index) => {
        const place = join(dir, "work", `${number}-${index}`);
        const odd = join(place, "odd");
        mkdirSync(place);
        ODD[kind]!(odd);
        // Of what is unreadable, and of a directory of others, root stays the owner.
        const isOthers = kind === "unreadable" || kind === "a directory of others";
        spawnSync("chown", ["-h", "65534:65534", place, ...(isOthers ? [] : [odd])]);
        const args = argumentsIn(dir, join(place, "out"))[name]!;
        const ran = await call(args.map((word) => word.replace(/X$/, odd)));
        tell(`${name}: ${kind}: ${ran.code}\n${ran.stderr.replaceAll(/^/gm, "    ").trimEnd()}`);
        const got = `${kind}: ${ran.code}\n${ran.stdout}${ran.stderr}`;
        expect(got).not.toMatch(/bug:|undefined|NaN|\[object|^\s+at .*:\d+:\d+\)$/m);
        if (ran.code === 0) {
          expect(MAY_END_WELL[name] ?? []).toContain(kind);
          return;
        }
        expect([2, 3, 4, 6, 7, 11, 5]).toContain(ran.code);
        expect(got).toMatch(/^seedstrap: /m);
        expect(got).toContain(odd);
        if (ran.code !== 11) expect(got).toMatch(/^ {2}hint: /m);
      }));
    }, 120_000);
  }
});
