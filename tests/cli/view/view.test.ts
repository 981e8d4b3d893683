// SPDX-License-Identifier: MIT
/** The view of a run in a terminal. */
import { afterEach, describe, expect } from "bun:test";
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { shellQuote } from "../../../src/launch/process.ts";
import { TempDirs } from "../../support/files.ts";
import { RUNTIMES } from "../../launch/guest.ts";
import { MAIN } from "../../support/run.ts";
import { Terminal, testInTmux } from "../../support/tmux.ts";
import { GuestRun, type GuestRunOptions } from "./guest.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const test = testInTmux();

const USUAL = { columns: 80, rows: 24 } as const;

function start(options: Partial<GuestRunOptions> = {}): GuestRun {
  return new GuestRun(temp.make(), { ...USUAL, ...options });
}

const RULE = /^-- .*by chroot -*$/;
const hasRule = (rows: readonly string[]) => rows.some((row) => RULE.test(row));
/** The rows of the console, without those of the area. */
const consoleOf = (rows: readonly string[]) => rows.slice(0, rows.findIndex((r) => RULE.test(r)));

/** The area is what the last rows show, and nowhere else is any of it. */
function expectOneArea(rows: readonly string[]): void {
  expect(rows.at(-4)).toMatch(RULE);
  expect(rows.at(-3)).toMatch(/^running {2}.* since the start$/);
  expect(rows.at(-1)).toMatch(/^p (pause|go on) {2}l .* {2}q quit {2}\? help$/);
  const rest = rows.slice(0, -4).filter((row) => RULE.test(row) || /since the start/.test(row));
  expect(rest).toEqual([]);
}

const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => `line ${from + index}.\n`).join("");

for (const [columns, rows] of [[80, 24], [200, 60], [40, 16]] as const) {
  test(`at ${columns}x${rows} the console scrolls over an area that stays`, async () => {
    using run = start({ columns, rows });
    expectOneArea(await run.shows(hasRule));
    run.print(`${lines(0, 300)}an unfinished`);
    const shown = await run.shows((rows) => rows.includes("an unfinished"));
    expectOneArea(shown);
    const last = Array.from({ length: rows - 5 }, (_, at) => `line ${300 - rows + 5 + at}.`);
    expect(consoleOf(shown)).toEqual([...last, "an unfinished"]);
    run.print(" line\n");
    await run.shows((rows) => rows.includes("an unfinished line"));
    run.finish();
    expect(await run.ended()).toBe(0);
    const all = run.all().split("\n");
    expect(all.filter((row) => row.startsWith("line ")).join("\n")).toBe(lines(0, 300).trim());
    expect(all.filter((row) => RULE.test(row))).toEqual([]);
  }, 60_000);
}

test("of a long line that has not ended the end is shown", async () => {
  using run = start();
  await run.shows(hasRule);
  run.print(`${"x".repeat(1000)} the end 漢`);
  const shown = await run.shows((rows) => rows.at(-5)!.endsWith("the end 漢"));
  expect(shown.at(-5)).toBe(`…${"x".repeat(66)} the end 漢`);
  expectOneArea(shown);
}, 60_000);

test("a terminal that changes its size has one area, and the console as it was", async () => {
  using run = start();
  await run.shows(hasRule);
  const wide = "wide ".repeat(30).trim();
  run.print(`${lines(0, 100)}${wide}\nthe end\n`);
  await run.shows((rows) => rows.includes("the end"));
  for (const [columns, rows] of [[50, 24], [50, 40], [200, 60], [41, 12 + 4], [80, 24]] as const) {
    run.resize(columns, rows);
    const shown = await run.shows((shown) =>
      shown.length === rows && RULE.test(shown.at(-4)!) && shown.at(-4)!.length === columns - 1
    );
    expectOneArea(shown);
    const text = consoleOf(shown);
    expect(text.slice(-2)).toEqual(["the end", ""]);
    const at = text.indexOf("line 99.");
    expect(text.slice(at + 1, -2).join("").replaceAll(" ", "")).toBe(wide.replaceAll(" ", ""));
    const before = text.slice(0, at + 1);
    expect(before.filter((row) => !/^line \d+\.$/.test(row))).toEqual([]);
  }
}, 60_000);

test("a resize in the middle of output leaves no row of an area in the console", async () => {
  using run = start();
  await run.shows(hasRule);
  for (let i = 0; i < 30; i++) {
    run.print(lines(i * 20, i * 20 + 20));
    run.resize(60 + (i * 7) % 60, 16 + (i * 5) % 30);
    await setTimeout(20);
  }
  run.resize(80, 24);
  run.print("settled\n");
  await setTimeout(500);
  expectOneArea(await run.shows((rows) => rows.includes("settled") && hasRule(rows)));
}, 60_000);

test("what is on the screen before a resize is not lost", async () => {
  using run = start();
  await run.shows(hasRule);
  run.resize(100, 30);
  await run.shows((rows) => rows.length === 30 && RULE.test(rows.at(-4)!));
  expect(run.all()).toContain("starting by chroot; the log is ");
}, 60_000);

test.each([[39, 24], [80, 7]] as const)(
  "a terminal of %dx%d has plain lines, and an area once it is larger",
  async (columns, rows) => {
    using run = start({ columns, rows });
    await run.shows((rows) => rows.join("").includes("starting by chroot"));
    run.print("first\n");
    expect(hasRule(await run.shows((rows) => rows.includes("first")))).toBe(false);
    run.resize(80, 24);
    expectOneArea(await run.shows(hasRule));
    run.resize(columns, rows);
    await run.shows((shown) => shown.length === rows && !hasRule(shown));
    run.print("sec");
    await run.shows((rows) => rows.includes("sec"));
    run.print("ond\n");
    const shown = await run.shows((rows) => rows.includes("second"));
    expect(hasRule(shown)).toBe(false);
    expect(shown.join("\n")).toContain("first\n");
  },
  60_000,
);

describe("colours are those of the terminal", () => {
  /** Everything that was written to the terminal. */
  async function written(env: Record<string, string>): Promise<string> {
    const file = join(temp.make(), "typescript");
    const wrapped = (argv: string[]) => ["script", "-qefc", shellQuote(argv), file];
    using run = start({ env, wrapped });
    await run.shows((rows) => rows.join("").includes("starting by chroot"));
    run.print("first\n");
    await run.shows((rows) => rows.includes("first"));
    if (env["TERM"] === "dumb") await setTimeout(200);
    else await run.shows((rows) => rows.some((row) => row.startsWith("running")));
    run.finish();
    expect(await run.ended()).toBe(0);
    return readFileSync(file, "utf8");
  }

  test("the area has some", async () => {
    expect(await written({ TERM: "xterm" })).toContain("\x1b[1mrunning");
  }, 60_000);

  test("with NO_COLOR it has none", async () => {
    const text = await written({ TERM: "xterm", NO_COLOR: "1" });
    expect(text).toContain("running  ");
    // deno-lint-ignore no-control-regex -- it is what a terminal obeys
    expect(text).not.toMatch(/\x1b\[[\d;]*m/);
  }, 60_000);

  test("with TERM=dumb there is no area, and no sequence at all", async () => {
    const text = await written({ TERM: "dumb" });
    expect(text).toContain("first");
    expect(text).not.toContain("by chroot ---");
    expect(text).not.toContain("\x1b");
  }, 60_000);
});

test("the area follows the steps, the checksums and the phases of the guest", async () => {
  using run = start();
  await run.shows(hasRule);
  run.print("alpha-1.0: beginning build using script pass1.sh\na.tar.gz: OK\nb.tar.gz: OK\n");
  run.print("alpha-1.0: compiling source.\n");
  const place = (rows: string[]) => rows.at(-3)!;
  await run.shows((rows) =>
    /^step 1 of \d+ {2}alpha-1.0 pass 1 {2}compile {2}/.test(place(rows)) &&
    / {2}2 checksums right$/.test(rows.at(-2)!)
  );
  run.print("c.tar.gz: FAILED\n");
  await run.shows((rows) => rows.at(-2)!.includes("  1 checksum WRONG"));
}, 60_000);

test("without the console a step is a line, and so is what goes wrong", async () => {
  using run = start({ wrapped: (argv) => [...argv, "--quiet"] });
  await run.shows((rows) => rows.at(-4)!.startsWith("-- only steps are shown, by chroot"));
  run.print("alpha-1.0: beginning build using script pass1.sh\nnoise\na.tar.gz: OK\n");
  run.print("b.tar.gz: FAILED\n");
  const shown = await run.shows((rows) => rows.some((row) => row.endsWith("WRONG: b.tar.gz")));
  const lines = consoleOf(shown).filter((row) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ /.test(row));
  expect(lines.map((line) => line.slice("2026-11-26T00:00:00Z ".length))).toEqual([
    "the steps of the manifest begin",
    expect.stringMatching(/^step 1 of \d+: alpha-1.0 pass 1$/),
    "checksum WRONG: b.tar.gz",
  ]);
  expect(shown).not.toContain("noise");
  run.press("l");
  await run.shows((rows) => rows.includes("noise"));
}, 60_000);

test("a machine that is watched has the same view, of what its console says", async () => {
  const dir = temp.make();
  const log = join(dir, "console");
  writeFileSync(log, lines(0, 10_000));
  using watching = new Terminal([process.execPath, MAIN, "watch", log], { ...USUAL, cwd: dir });
  await watching.shows((rows) =>
    rows.includes("line 9999.") && rows.at(-4)!.startsWith("-- watching")
  );
  appendFileSync(log, "alpha-1.0: beginning build using script pass1.sh\nin alpha");
  const shown = await watching.shows((rows) => rows.at(-5) === "in alpha");
  expect(shown.at(-3)).toMatch(/^alpha-1\.0 pass 1 {2}/);
  expect(watching.all()).toContain(lines(0, 10_000));
  expect(shown.at(-1)).toBe("p pause  l only steps  q quit  ? help");
  watching.press("q");
  expect(await watching.ended()).toBe(130);
}, 60_000);

test("a hostile guest changes neither title, nor cursor, nor colours, nor the area", async () => {
  using run = start();
  await run.shows(hasRule);
  const title = run.title();
  run.print(lines(0, 40));
  for (const text of ["\x1b]0;owned\x07", "\x1b[2J\x1b[1;1H", "\x1b[1;5r", "\x1b[31m", "\x9b5A"]) {
    run.print(`${text}owned\r\n${text}`);
  }
  run.print("\x1b[?1049h\x1bc\x1b[999B\x1b[6n\x0e\xff\xfe\x00\nthe end\n");
  const shown = await run.shows((rows) => rows.includes("the end"));
  expectOneArea(shown);
  expect(consoleOf(shown).slice(-8, -6)).toEqual(["owned", "owned"]);
  expect(run.title()).toBe(title);
  expect(run.coloured().split("\n").slice(0, -5).join("\n")).not.toContain("\x1b[31m");
}, 60_000);

describe("keys", () => {
  test("p pauses the console, not the guest, and goes on with what has waited", async () => {
    using run = start();
    await run.shows(hasRule);
    run.print("before\n");
    await run.shows((rows) => rows.includes("before"));
    run.press("p");
    await run.shows((rows) => rows.at(-4)!.startsWith("-- PAUSED, 0 lines wait, by chroot -"));
    run.print(lines(0, 5));
    const held = await run.shows((rows) => rows.at(-4)!.startsWith("-- PAUSED, 5 lines wait"));
    expect(held).not.toContain("line 0.");
    expect(readFileSync(run.log(), "latin1")).toContain("line 4.");
    run.press("p");
    const shown = await run.shows((rows) => rows.includes("line 4."));
    expect(consoleOf(shown).slice(-7).join("\n")).toBe(`before\n${lines(0, 5)}`);
    expectOneArea(shown);
  }, 60_000);

  test("what does not fit in memory while it is paused is counted, and is in the log", async () => {
    using run = start();
    await run.shows(hasRule);
    run.press("Space");
    await run.shows((rows) => rows.at(-4)!.startsWith("-- PAUSED"));
    run.print(lines(0, 150_000));
    await run.shows((rows) => rows.at(-4)!.startsWith("-- PAUSED, 150,000 lines wait"));
    run.press("Space");
    await run.shows((rows) => rows.includes("line 149999."));
    const all = run.all().split("\n");
    const at = all.findIndex((row) => row.endsWith(" lines more, not shown)"));
    const lost = Number(all[at]!.replace(/\D/g, ""));
    expect(lost).toBeWithin(1, 150_000);
    expect(all[at + 1]).toBe(`line ${lost}.`);
    expect(readFileSync(run.log(), "latin1")).toContain("line 0.\nline 1.\n");
  }, 60_000);

  test("l leaves the console out, and shows the last of it when it comes back", async () => {
    using run = start();
    await run.shows(hasRule);
    run.press("l");
    await run.shows((rows) => rows.at(-4)!.startsWith("-- only steps are shown, by chroot"));
    run.print(lines(0, 50));
    await setTimeout(500);
    expect(run.rows().join("\n")).not.toContain("line ");
    run.press("l");
    const shown = await run.shows((rows) => rows.includes("line 49."));
    expectOneArea(shown);
    expect(consoleOf(shown).at(-2)).toBe("line 49.");
  }, 60_000);

  test("? explains them, and i says where it does nothing", async () => {
    using run = start();
    await run.shows(hasRule);
    run.press("?");
    const isHelp = (row: string) => row.includes("q           quit");
    expectOneArea(await run.shows((rows) => rows.some(isHelp) && hasRule(rows)));
    run.press("i");
    await run.shows((rows) => rows.includes("this guest has no console that takes keys"));
    expect(run.rows().at(-1)).not.toContain("i type");
  }, 60_000);

  test(
    "an arrow key and its like do nothing, and a q in what is pasted does not quit",
    async () => {
      using run = start();
      await run.shows(hasRule);
      run.press("-l", "make quiet x");
      run.press("Up", "F1", "PageUp", "M-q", "x");
      run.print("still there\n");
      expectOneArea(await run.shows((rows) => rows.includes("still there")));
      expect(run.exitCode()).toBeUndefined();
    },
    60_000,
  );

  test("q ends a young run, as Ctrl-C does", async () => {
    for (const key of ["q", "C-c"]) {
      using run = start();
      await run.shows(hasRule);
      run.press(key);
      expect(await run.ended()).toBe(130);
      expect(hasRule(run.rows())).toBe(false);
      expect(run.all()).toContain("Interrupted, the bootstrap was ended");
    }
  }, 60_000);
});

/** Runs a shell around the run that tells how it has left the terminal. */
function inShell(dir: string, more = ""): (argv: string[]) => string[] {
  return (argv) => [
    "bash",
    "--norc",
    "-c",
    `trap : INT; stty -a >${dir}/before; ${
      shellQuote(argv)
    }; echo code $?; stty -a >${dir}/after; ${more}`,
  ];
}

describe("the terminal is as it was", () => {
  const ends: readonly (readonly [string, (run: GuestRun) => void, number])[] = [
    ["after a run that is done", (run) => run.finish(), 0],
    ["after Ctrl-C", (run) => run.press("C-c"), 130],
    ["after SIGTERM", () => {}, 130],
    ["after SIGHUP", () => {}, 130],
  ];
  for (const [name, end, code] of ends) {
    test(name, async () => {
      const dir = temp.make();
      using run = start({ wrapped: inShell(dir) });
      await run.shows(hasRule);
      run.print("an unfinished line");
      await run.shows((rows) => rows.includes("an unfinished line"));
      const signal = /SIG\w+/.exec(name)?.[0];
      if (signal === undefined) end(run);
      else process.kill(run.pid(), signal);
      const rows = await run.shows((rows) => rows.includes(`code ${code}`));
      expect(hasRule(rows)).toBe(false);
      expect(rows.join("\n")).toContain("an unfinished line");
      await run.shows(() => existsSync(join(dir, "after")) && run.exitCode() !== undefined);
      expect(readFileSync(join(dir, "after"), "utf8")).toBe(
        readFileSync(join(dir, "before"), "utf8"),
      );
    }, 60_000);
  }
});

test.each(RUNTIMES)("the terminal is as it was after an exit at once under %s", async (_, argv) => {
  const dir = temp.make();
  const module = new URL("../../../src/launch/terminal.ts", import.meta.url).href;
  writeFileSync(
    join(dir, "exits.ts"),
    `import { guardingTerminal } from ${JSON.stringify(module)};
import process from "node:process";
import { spawnSync } from "node:child_process";
import { writeSync } from "node:fs";
await guardingTerminal(false, async (takeKeys) => {
  takeKeys();
  const { stdout } = spawnSync("stty", ["-a"], { stdio: ["inherit", "pipe", "inherit"] });
  writeSync(2, / -icanon /.test(String(stdout)) ? "keys are taken\\n" : "keys are not taken\\n");
  process.exit(3);
});
`,
  );
  const words = inShell(dir)([...argv, join(dir, "exits.ts")]);
  using terminal = new Terminal(words, { ...USUAL, cwd: dir });
  await terminal.ended();
  expect(terminal.all()).toStartWith("keys are taken\ncode 3\n");
  expect(readFileSync(join(dir, "after"), "utf8")).toBe(readFileSync(join(dir, "before"), "utf8"));
}, 60_000);

test("Ctrl-Z where nobody could continue it does nothing", async () => {
  using run = start();
  await run.shows(hasRule);
  run.press("C-z");
  await setTimeout(500);
  run.print("goes on\n");
  expectOneArea(await run.shows((rows) => rows.includes("goes on") && hasRule(rows)));
  run.press("p");
  await run.shows((rows) => rows.some((row) => row.startsWith("-- PAUSED")));
}, 60_000);

describe("in a shell with jobs", () => {
  /** A shell in which the run is the first job. */
  async function shell(begin: string): Promise<GuestRun> {
    const dir = temp.make();
    const wrapped = (argv: string[]) => {
      writeFileSync(join(dir, "go"), `${shellQuote(argv)} ${begin}\n`);
      return ["bash", "--norc", "--noprofile", "-i"];
    };
    const run = start({ wrapped, env: { PS1: "\\j jobs> ", HISTFILE: "" } });
    await run.shows((rows) => rows.some((row) => row.startsWith("0 jobs>")));
    run.press(`. ${dir}/go`, "Enter");
    return run;
  }

  test(
    "a run in the background draws nothing and is not stopped; in the foreground it draws",
    async () => {
      using run = await shell("&");
      await run.shows((rows) => rows.join("").includes("starting by chroot"));
      run.press("stty tostop", "Enter");
      run.press("jobs", "Enter");
      await run.shows((rows) => rows.some((row) => row.startsWith("[1]+  Running")));
      run.print("from the background\n");
      await setTimeout(1500);
      run.press("clear; jobs", "Enter");
      const rows = await run.shows((rows) => rows[0]!.startsWith("[1]+  Running"));
      expect(rows.join("\n")).not.toContain("from the background");
      expect(hasRule(rows)).toBe(false);
      run.press("fg", "Enter");
      expectOneArea(
        await run.shows((rows) => hasRule(rows) && rows.includes("from the background")),
      );
      run.press("l");
      await run.shows((rows) => rows.some((row) => row.startsWith("-- only steps")));
      run.finish();
      await run.shows((rows) => rows.findLast((row) => row !== "")!.startsWith("0 jobs>"));
    },
    60_000,
  );

  test("Ctrl-Z stops it, and it goes on in the background to its end", async () => {
    using run = await shell("");
    await run.shows(hasRule);
    run.press("C-z");
    const stopped = await run.shows((rows) => rows.some((row) => row.startsWith("1 jobs>")));
    expect(hasRule(stopped)).toBe(false);
    run.press("bg", "Enter");
    await setTimeout(300);
    run.press("echo typed", "Enter");
    await run.shows((rows) => rows.includes("typed"));
    run.finish();
    await run.shows((rows) => rows.some((row) => row.startsWith("done: every step was built")));
    run.press("wait", "Enter");
    await run.shows((rows) => rows.some((row) => row.startsWith("0 jobs>")));
    expect(hasRule(run.rows())).toBe(false);
  }, 60_000);

  test("Ctrl-Z and fg bring the area and the keys back", async () => {
    using run = await shell("");
    await run.shows(hasRule);
    run.press("C-z");
    await run.shows((rows) => rows.some((row) => row.startsWith("1 jobs>")));
    run.press("fg", "Enter");
    expectOneArea(await run.shows(hasRule));
    run.press("p");
    await run.shows((rows) => rows.some((row) => row.startsWith("-- PAUSED")));
  }, 60_000);
});
