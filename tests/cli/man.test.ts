// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { EXITS } from "../../src/errors.ts";
import { seedstrap } from "../support/run.ts";

/** A command, by its words after `seedstrap`, and its options as `--help` has them. */
interface HelpedCommand {
  readonly words: readonly string[];
  readonly options: readonly string[];
}

/** Returns a command and, by its help, every command below it. */
async function commandsFrom(words: readonly string[]): Promise<HelpedCommand[]> {
  const { stdout } = await seedstrap([...words, "--help"]);
  const lines = stdout.split("\n");
  const options = lines.flatMap((line) =>
    (/^ {2}(-[^\s,]+(?:, -[^\s,]+)*)/.exec(line)?.[1] ?? "").split(", ")
  ).filter((option) => !["", "-h", "--help", "-V", "--version"].includes(option));
  // Arguments are in lower case, too, but only a command is followed by its own.
  const isGroup = words.length === 0 || /^Commands:$/m.test(stdout);
  const names = lines.flatMap((line) => isGroup ? /^ {2}([a-z]+)/.exec(line)?.[1] ?? [] : [])
    .filter((name) => name !== "help");
  // The default command is not in the list.
  if (words.length === 0) names.push("bootstrap");
  const inner = await Promise.all(names.map((name) => commandsFrom([...words, name])));
  return [{ words, options }, ...inner.flat()];
}

async function manual(): Promise<string> {
  return (await seedstrap(["man"])).stdout.replaceAll("\\-", "-").replaceAll(/\\f[BIR]/g, "");
}

/** Reads the page: the text on the common options, and that on each command. */
async function readPage(): Promise<{ options: string; sections: Map<string, string> }> {
  const source = await manual();
  const part = (heading: string) => source.split(`\n${heading}\n`)[1]!.split("\n.SH ")[0]!;
  const options = part(".SH OPTIONS");
  const sections = new Map(
    part(".SS Commands").split(/^\.TP\n\.B /m).map((section) => [section.split("\n")[0]!, section]),
  );
  return { options, sections };
}

function names(text: string, option: string): boolean {
  return text.split(/[^\w-]+/).includes(option);
}

test("the manual page names every command, and every option in the section of its command", async () => {
  const { options: common, sections } = await readPage();
  const commands = await commandsFrom([]);
  const all = commands.map(({ words }) => words.join(" "));
  for (const name of ["build", "bundle create", "image ls"]) expect(all).toContain(name);
  const isGroup = (name: string) => all.some((other) => other.startsWith(`${name} `));
  // The default command is called without a name.
  const named = all.filter((name) => !["", "bootstrap"].includes(name) && !isGroup(name));
  expect(named.filter((name) => !sections.has(name))).toEqual([]);
  const absent = commands.flatMap(({ words, options }) => {
    const name = words.join(" ");
    return options.filter((option) => !names(`${sections.get(name) ?? ""}${common}`, option))
      .map((option) => `${name} ${option}`);
  });
  expect(absent).toEqual([]);
});

test("the manual page and README.md name every exit code, in the same words", async () => {
  const wanted = Object.values(EXITS).map(({ code, text }) => `${code} ${text}`);
  const rows = (text: string, begin: string, end: string, row: RegExp) => {
    const part = text.slice(text.indexOf(begin), text.indexOf(end, text.indexOf(begin)));
    return [...part.matchAll(row)].map(([, code, text]) => `${code} ${text}`);
  };
  const readme = readFileSync(join(import.meta.dirname!, "../../README.md"), "utf8");
  expect(rows(await manual(), ".SH EXIT STATUS", ".SH ENV", /^(\d+)\n(.*)$/gm)).toEqual(wanted);
  expect(rows(readme, "## Exit codes", "\n## How", /^\| (\d+) +\| (.*?) +\|$/gm)).toEqual(wanted);
});
