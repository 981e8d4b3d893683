// SPDX-License-Identifier: MIT
/** What fits a terminal of 24 rows and 80 columns. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { MAIN, seedstrap } from "../support/run.ts";
import { rowsOf, SCREEN, seenAtTerminal, testAtTerminal } from "../support/terminal.ts";
import { sha256 } from "../fetch/servers.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const test = testAtTerminal();
const dir = temp.make();
let args: string[] = [];

/** So many distfiles that no screen has them, with long names and hosts. */
const MANY = Array.from({ length: 300 }, (_, index) => {
  const name = `a-package-with-a-very-long-name-${index}-1.2.3.4.5.tar.gz`;
  return `f https://a-host-with-a-long-name.example/${name} ${sha256(name)} ${name}\n`;
}).join("");

beforeAll(async () => {
  args = setUp(dir, { movesToDisk: true });
  expect(await buildIn(dir, args)).toMatchObject({ code: 0 });
  const bundle = ["bundle", "create", ...args, "-o", join(dir, "lb.tar")];
  expect(await seedstrap(bundle)).toMatchObject({ code: 0 });
  setUp(join(dir, "many"), { movesToDisk: true, files: { "steps/omega-6.0/sources": MANY } });
}, 60_000);

const see = (...words: string[]) => seenAtTerminal([process.execPath, MAIN, ...words], dir);
/** One row is for the prompt. */
const MOST_ROWS = SCREEN.rows - 1;

function expectFits(lines: readonly string[]): void {
  expect(lines.filter(({ length }) => length > SCREEN.columns)).toEqual([]);
}

describe("a screen has the whole of", () => {
  test("--help, in which every command of the field has one line", async () => {
    const lines = await see("--help");
    expectFits(lines);
    expect(rowsOf(lines)).toBeLessThanOrEqual(MOST_ROWS);
    // Commands that belong together share a line.
    const one = (name: string) =>
      lines.filter((line) => new RegExp(`^  (?:[a-z]+, )*${name}[ ,]`).test(line)).length;
    for (const name of ["plan", "build", "run", "bundle", "reproduce"]) {
      expect(one(name)).toBe(1);
    }
  });

  const kinds = [["-q"], ["-q", "--payload", "always"], ["-b"], ["-bw"], ["-q", "-qr100"]];
  for (const kind of [...kinds, ["-q", "--external-sources"]]) {
    test(`a plan with ${kind.join(" ")} of a checkout with hundreds of distfiles`, async () => {
      const lines = await see("plan", ...kind, "--tree", join(dir, "many/tree"));
      expect(rowsOf(lines)).toBeLessThanOrEqual(MOST_ROWS);
      expect(lines.join("\n")).not.toContain("a-package-with-a-very-long-name");
      if (kind.includes("-qr100")) expect(lines.join("\n")).toContain("BROKEN  memory");
    });
  }
});

describe("80 columns are enough for the tables of", () => {
  test("plan --all, in which only the command to start is longer", async () => {
    const tree = ["--tree", join(dir, "many/tree")];
    const lines = await see("plan", "--all", "-q", "--external-sources", ...tree);
    const wide = lines.filter(({ length }) => length > SCREEN.columns);
    expect(wide.filter((line) => !/^( {2}qemu-system|note: )/.test(line))).toEqual([]);
    const text = lines.join("\n");
    expect(text).toContain("a-package-with-a-very-long-name-299-");
    for (const limit of ["ok  longest file name", "ok  memory that builder-hex0 needs"]) {
      expect(text).toContain(limit);
    }
  });

  test("image ls -l and bundle ls -l, where a digest has a line of its own", async () => {
    const payload = await see("image", "ls", "-l", join(dir, "target/payload.img"));
    expectFits(payload);
    const at = payload.findIndex((line) => line.endsWith("  gamma-3.0.tar.gz"));
    expect(payload[at + 1]).toMatch(/^ {4}[0-9a-f]{64}$/);
    expect(payload[at + 2]).toBe("    gamma-3.0");
    const bundle = await see("bundle", "ls", "-l", join(dir, "lb.tar"));
    expectFits(bundle);
    expect(bundle.filter((line) => /^ {4}[0-9a-f]{64}$/.test(line)).length).toBeGreaterThan(10);
  });

  test("devices", async () => {
    expectFits(await see("devices"));
  });
});
