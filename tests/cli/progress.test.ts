// SPDX-License-Identifier: MIT
/** What long work shows: on terminals of several sizes, and where there is none. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { shellQuote } from "../../src/launch/process.ts";
import { Bench, deadUrl, sampleBody, sha256, type TestServer } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { MAIN, run, seedstrap } from "../support/run.ts";
import { Screen } from "../support/screen.ts";
import { testAtTerminal } from "../support/terminal.ts";
import { type MiniTree, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const bench = new Bench();
const terminalTest = testAtTerminal();
const dir = temp.make();
const FILES = 60;
let mirror: TestServer;
let dead: string;

/** A tree with so many distfiles, which have only this URL besides the mirrors. */
function wideTree(url: string): MiniTree {
  const mini = miniTree();
  const bodies = Array.from({ length: FILES }, (_, index) => sampleBody(4000, index + 100));
  const name = (index: number) => `a-distfile-with-a-long-name-${index}.tar.gz`;
  const lines = bodies.map((body, index) => `f ${url}/${name(index)} ${sha256(body)}\n`);
  return {
    files: { ...mini.files, "steps/beta-2.0/sources": lines.join("") },
    distfiles: {
      ...mini.distfiles,
      ...Object.fromEntries(bodies.map((body, index) => [name(index), body])),
    },
  };
}

beforeAll(async () => {
  dead = await deadUrl(bench);
  writeMiniTree(dir, wideTree(dead));
  // Slow enough to be seen, also by those that look twice a second.
  mirror = await bench.http((request, response) => {
    const path = join(dir, "mirror", basename(request.url!));
    if (!existsSync(path)) return response.writeHead(404).end();
    const body = readFileSync(path);
    response.writeHead(200, { "Content-Length": body.length });
    response.write(body.subarray(0, body.length / 2));
    setTimeout(() => response.end(body.subarray(body.length / 2)), 100);
  });
});

afterAll(async () => {
  await bench.release();
  temp.release();
});

function build(name: string, ...mirrors: string[]): string[] {
  const at = (what: string) => join(dir, `${name}-${what}`);
  const media = ["--tree", join(dir, "tree"), "--distfiles", at("store"), "-t", at("target")];
  return ["build", "-b", "--external-sources", "-m", ...mirrors, ...media];
}

/** Runs seedstrap at a terminal of a size; returns what was printed. */
async function atTerminal(
  columns: number,
  rows: number,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<string> {
  const words = `stty cols ${columns} rows ${rows}; ${
    shellQuote([process.execPath, MAIN, ...args])
  }`;
  const { stdout } = await run(["script", "-qec", words, "/dev/null"], {
    cwd: dir,
    env: { TERM: "xterm", ...env },
  });
  return stdout;
}

/** The screens after each time that something was drawn over. */
function screensOf(output: string, columns: number): Screen[] {
  const screens: Screen[] = [];
  const cuts: number[] = [];
  for (let at = 0; (at = output.indexOf("\r\x1b[", at)) >= 0; at++) cuts.push(at);
  for (const end of [...cuts, output.length]) {
    const screen = new Screen(columns);
    screen.write(output.slice(0, end));
    screens.push(screen);
  }
  return screens;
}

describe("a fetch from a dead mirror and a live one", () => {
  for (const [columns, rows] of [[40, 10], [80, 24], [200, 60]] as const) {
    terminalTest(`is one view of all files at ${columns}x${rows}`, async () => {
      const output = await atTerminal(
        columns,
        rows,
        build(`${columns}`, dead, mirror.url),
      );
      const screens = screensOf(output, columns);
      const seen = screens.flatMap(({ rows }) => rows.filter((row) => row.startsWith("fetching")));
      expect(seen.length).toBeGreaterThan(3);
      for (const row of seen) {
        expect(row).toMatch(/^fetching {2}\d+ of \d+ files( |$)/);
        expect(row.length).toBeLessThan(columns);
      }
      expect(seen.some((row) => /^fetching .* left$/.test(row))).toBe(true);
      const names = screens.flatMap(({ rows }) => rows.filter((row) => row.startsWith("  a-dist")));
      expect(names.length).toBeGreaterThan(3);
      for (const row of names) expect(row.length).toBeLessThan(columns);
      // Whatever is not drawn again has lines as long as they are.
      const last = screens.at(-1)!.rows;
      expect(last.join("")).toStartWith(`${dead}: connection refused`);
      expect(last.filter((row) => row.startsWith(dead))).toHaveLength(1);
      expect(last.join("\n")).not.toContain("fetching");
      expect(last.some((row) => row.startsWith(`fetched ${FILES + 5} files, `))).toBe(true);
    }, 60_000);
  }

  test("is some lines without a terminal, none of them of one file", async () => {
    const { code, stderr } = await seedstrap(build("plain", dead, mirror.url));
    expect(code).toBe(0);
    const lines = stderr.trimEnd().split("\n").filter((line) => !line.startsWith("fetching: "));
    expect(lines).toEqual([
      `${dead}: connection refused`,
      expect.stringMatching(new RegExp(`^fetched ${FILES + 5} files, .* from ${mirror.url}$`)),
    ]);
  }, 60_000);

  test("leaves standard output to --json", async () => {
    const { stdout, code } = await seedstrap([...build("json", dead, mirror.url), "--json"]);
    expect(code).toBe(0);
    expect(() => JSON.parse(stdout)).not.toThrow();
  }, 60_000);
});

test("a fetch from dead hosts only is a line and a count", async () => {
  const { code, stderr } = await seedstrap(build("dead", dead));
  expect(code).toBe(4);
  const lines = stderr.trimEnd().split("\n");
  expect(lines.filter((line) => line === `${dead}: connection refused`)).toHaveLength(1);
  expect(lines).toContain(`seedstrap: Cannot fetch ${FILES + 5} of ${FILES + 5} distfiles`);
  expect(lines).toContain(`  ${dead}: connection refused for ${FILES + 5} of ${FILES + 5} files`);
  expect(lines.length).toBeLessThan(30);
}, 60_000);

test("what lacks most files says so once, and counts", async () => {
  const empty = await bench.status(404);
  const { code, stderr } = await seedstrap(build("empty", empty.url, mirror.url));
  expect(code).toBe(0);
  const lines = stderr.split("\n").filter((line) => line.includes(empty.url));
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(/: HTTP 404 Not Found$/);
  expect(lines[1]).toMatch(/: the same for \d+ files more$/);
}, 60_000);

test("a distfile of which every source has other bytes ends with 5", async () => {
  const wrong = await bench.files(sampleBody(100, 7));
  const place = temp.make();
  const mini = miniTree({ url: wrong.url });
  writeMiniTree(place, mini);
  const media = ["--tree", join(place, "tree"), "--distfiles", join(place, "store")];
  const args = ["build", "-b", ...media, "-t", join(place, "target")];
  const alone = await seedstrap(args);
  expect(alone.code).toBe(5);
  expect(alone.stderr).toContain("what every source has is wrong");
  // A source that cannot be asked might have the right ones.
  expect((await seedstrap([...args, "-m", dead])).code).toBe(4);
}, 60_000);

terminalTest("an interrupt is on a line of its own", async () => {
  const words = shellQuote([process.execPath, MAIN, ...build("interrupt", mirror.url)]);
  const child = Bun.spawn(["script", "-qec", `stty cols 80 rows 24; ${words}`, "/dev/null"], {
    env: { ...process.env, TERM: "xterm" },
    stdin: "pipe",
    stdout: "pipe",
  });
  let output = "";
  let isSent = false;
  for await (const chunk of child.stdout) {
    output += new TextDecoder().decode(chunk);
    if (isSent || !output.includes("fetching")) continue;
    isSent = true;
    child.stdin.write("\x03");
    child.stdin.flush();
  }
  expect(isSent).toBe(true);
  const screen = new Screen(80);
  screen.write(output);
  expect(screen.rows).toContain("seedstrap: Interrupted by SIGINT");
  expect(screen.rows.join("\n")).not.toContain("fetching");
}, 60_000);

terminalTest("a dumb terminal gets plain lines", async () => {
  const output = await atTerminal(80, 24, build("dumb", mirror.url), { TERM: "dumb" });
  expect(output).not.toContain("\x1b[K");
  expect(output).toContain("fetched ");
}, 60_000);

test("closed standard output is an error, /dev/null is none", async () => {
  const words = shellQuote([process.execPath, MAIN, "sources", "--tree", join(dir, "tree")]);
  const closed = await run(["sh", "-c", `exec ${words} >&-`]);
  expect(closed).toMatchObject({ code: 7, stdout: "" });
  expect(closed.stderr).toBe("seedstrap: Cannot write the output: it is closed\n");
  expect((await run(["sh", "-c", `exec ${words} >/dev/null`])).code).toBe(0);
  const ignored = Bun.spawn(["sh", "-c", `exec ${words}`], { stdout: "ignore", stdin: "ignore" });
  expect(await ignored.exited).toBe(0);
});
