// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beginRun, lastRun, MAX_RUNS } from "../../src/record/run.ts";
import { TempDirs, writeFiles } from "../support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const DONE = { verdict: "done", why: "it is done", lines: [] } as const;

/** Records a run, and returns the name of its log. */
function recorded(dir: string): string {
  const run = beginRun(dir);
  run.finish(DONE);
  expect(lastRun(dir)).toMatchObject({ ...DONE, logPath: run.logPath });
  expect(readFileSync(run.logPath, "utf8")).toBe("");
  return run.logPath.slice(join(dir, ".seedstrap/runs/").length);
}

test("a run gets the number after the highest of all logs and outcomes", () => {
  const dir = temp.make();
  expect(recorded(dir)).toBe("1.log");
  writeFiles(dir, { ".seedstrap/runs/7.log": "of a run without an outcome" });
  expect(recorded(dir)).toBe("8.log");
  writeFiles(dir, { ".seedstrap/runs/11.json": "of a run without a log" });
  expect(recorded(dir)).toBe("12.log");
  expect(readFileSync(join(dir, ".seedstrap/runs/7.log"), "utf8")).toStartWith("of a run");
});

test("a run takes no log that is there, whatever it is", () => {
  const dir = temp.make();
  // The highest number that is known: the next two are not found by it.
  writeFiles(dir, {
    ".seedstrap/runs/999999999.json": "{}",
    ".seedstrap/runs/1000000000.log": "x",
  });
  mkdirSync(join(dir, ".seedstrap/runs/1000000001.log"));
  expect(beginRun(dir).logPath).toEndWith("/1000000002.log");
  expect(readFileSync(join(dir, ".seedstrap/runs/1000000000.log"), "utf8")).toBe("x");
});

test("the last runs are kept, and no directory in place of an older one is in the way", () => {
  const dir = temp.make();
  for (const name of ["1.json/x", "2.log/x", "3.log", "4.events", "5.times", "12.part/x"]) {
    writeFiles(dir, { [`.seedstrap/runs/${name}`]: "x" });
  }
  for (let run = 0; run < MAX_RUNS + 2; run++) {
    const log = recorded(dir);
    for (const end of ["events", "times"]) {
      writeFiles(dir, { [`.seedstrap/runs/${log.replace("log", end)}`]: "x" });
    }
  }
  const numbers = readdirSync(join(dir, ".seedstrap/runs")).map((name) => parseInt(name));
  expect([...new Set(numbers)].sort((a, b) => a - b)).toEqual([6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
});
