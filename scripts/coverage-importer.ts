// SPDX-License-Identifier: MIT
/**
 * Runs the tests of payload-import against a build that counts, and demands that every line of it
 * was reached but those that are named here. A named line that was reached, or is not there any
 * more, is an error too. Lines for the C library of mes are not built here, and not counted.
 *
 * usage: bun scripts/coverage-importer.ts
 *
 * The exit code is 1 where lines or names are wrong or a test failed, 2 where it cannot be told
 * because a tool is missing or a test was skipped; the last line says which.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const ROOT = join(import.meta.dirname!, "..");
const SOURCE = join(ROOT, "steps/payload-import-1.0/src/payload-import.c");
const TESTS = ["tests/importer/importer.test.ts", "tests/importer/devices.test.ts"];

/** A line that no test can reach, and why. */
interface Unreached {
  readonly inFunction: string;
  /** The line, without the blanks around it. */
  readonly code: string;
  readonly reason: string;
}

const UNREACHED: readonly Unreached[] = [
  { inFunction: "fail", code: "}", reason: "leave() does not return" },
  { inFunction: "fail_at", code: "}", reason: "leave() does not return" },
  { inFunction: "usage", code: "}", reason: "leave() does not return" },
];

/** What `gcov --json-format` says of a line. */
interface Line {
  readonly line_number: number;
  readonly function_name: string;
  readonly count: number;
}

class Obstacle extends Error {}

/** Runs a program to its end; gives what it printed. */
function run(argv: readonly string[], cwd: string, env: Readonly<Record<string, string>> = {}) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...argv], {
    cwd,
    env: { ...process.env, ...env },
    stdin: "ignore",
  });
  const text = stdout.toString();
  if (exitCode !== 0) throw new Error(`${argv.join(" ")}: ${text}${stderr.toString()}`);
  return { stdout: text, all: text + stderr.toString() };
}

/** How often each line was reached. */
function measure(dir: string): readonly Line[] {
  for (const tool of ["gcc", "gcov"]) {
    if (Bun.which(tool) === null) throw new Obstacle(`${tool} is not installed`);
  }
  const program = join(dir, "importer");
  run(["gcc", "-std=c89", "-O0", "--coverage", "-o", program, SOURCE], dir);
  const tests = run([process.execPath, "test", ...TESTS, "--timeout", "60000"], ROOT, {
    IMPORTER: program,
  });
  const skipped = /^skipped: .*/m.exec(tests.all);
  if (skipped !== null) throw new Obstacle(skipped[0].slice("skipped: ".length));
  const data = "importer-payload-import.gcda";
  const report: { readonly files: readonly { readonly lines: readonly Line[] }[] } = JSON.parse(
    run(["gcov", "--json-format", "--stdout", data], dir).stdout,
  );
  return report.files.flatMap(({ lines }) => lines);
}

/** What is wrong: lines that were not reached and are not named, and names without such a line. */
function faults(lines: readonly Line[], source: readonly string[]): string[] {
  const unreached = lines.filter(({ count }) => count === 0).map((line) => ({
    inFunction: line.function_name,
    number: line.line_number,
    code: source[line.line_number - 1]!.trim(),
  }));
  const same = (a: Omit<Unreached, "reason">, b: Omit<Unreached, "reason">) =>
    a.inFunction === b.inFunction && a.code === b.code;
  return [
    ...unreached.filter((line) => !UNREACHED.some((named) => same(line, named))).map((line) =>
      `${line.inFunction}, line ${line.number} was not reached: ${line.code}`
    ),
    ...UNREACHED.filter((named) => !unreached.some((line) => same(line, named))).map((named) =>
      `${named.inFunction}: named as unreached, and was reached or is not there: ${named.code}`
    ),
  ];
}

const dir = mkdtempSync(join(tmpdir(), "seedstrap-coverage-"));
try {
  const lines = measure(dir);
  const wrong = faults(lines, readFileSync(SOURCE, "utf8").split("\n"));
  if (lines.length === 0) wrong.push("gcov tells of no lines");
  for (const line of wrong) console.log(line);
  const reached = lines.filter(({ count }) => count > 0).length;
  console.log(
    `${reached} of ${lines.length} lines reached, ${UNREACHED.length} named as unreached`,
  );
  process.exitCode = wrong.length === 0 ? 0 : 1;
} catch (error) {
  if (!(error instanceof Obstacle)) throw error;
  console.log(error.message);
  process.exitCode = 2;
} finally {
  rmSync(dir, { recursive: true, force: true });
}
