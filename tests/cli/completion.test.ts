// SPDX-License-Identifier: MIT
/** What the shells themselves offer with the scripts of `seedstrap completion`. */
import { afterAll, describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TempDirs, writeFiles } from "../support/files.ts";
import { run, seedstrap, testWith } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = typeof SHELLS[number];

/** The directory in which files are completed. */
const dir = temp.make();
writeFiles(dir, { "lb/steps/manifest": "", "lb.tar": "", "later/": "", "it's 1.img": "" });

/** Returns what a shell offers for the last word of each command line, sorted. */
async function offered(shell: Shell, lines: readonly string[]): Promise<string[][]> {
  const script = join(temp.make(), `seedstrap.${shell}`);
  const made = await seedstrap(["completion", shell]);
  expect(made).toMatchObject({ code: 0, stderr: "" });
  writeFileSync(script, made.stdout);
  const driver = join(import.meta.dirname!, `complete.${shell}`);
  const flags = shell === "zsh" ? ["-f"] : shell === "fish" ? ["--no-config"] : [];
  const scratch = shell === "zsh" ? [join(temp.make(), "offered")] : [];
  const argv = [Bun.which(shell)!, ...flags, driver, script, ...scratch, ...lines];
  const env = { HOME: temp.make(), TERM: "dumb" };
  const { stdout, stderr, code } = await run(argv, { cwd: dir, env });
  expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
  const rows = stdout.trimEnd().split("\n");
  expect(rows.map((row) => row.replace(/ =>.*/, ""))).toEqual([...lines]);
  return rows.map((row) => {
    const words = row.replace(/^.* => ?/, "").split(" ").filter((word) => word !== "");
    // fish has the option before a value that is joined to it; a directory ends in a slash.
    return [...new Set(words.map((word) => word.replace(/^--[a-z-]+=|\/$/g, "")))].sort();
  });
}

/** Command lines, and what is offered for the last word. */
const CASES: readonly (readonly [line: string, words: string])[] = [
  ["seedstrap im", "image"],
  ["seedstrap image ", "bmap cat convert diff digest extract ls verify"],
  ["seedstrap bundle v", "verify"],
  ["seedstrap completion ", "bash fish zsh"],
  ["seedstrap image ls --", "--as --help --json --long --record --tree"],
  ["seedstrap plan --payload ", "always auto never"],
  ["seedstrap plan --payload=al", "always"],
  ["seedstrap plan --qemu --payload-ph", "--payload-phases"],
  ["seedstrap --qemu --tmp", "--tmpfs --tmpfs-size"],
  ["seedstrap plan --mirrors lb --payload-l", "--payload-layout"],
  ["seedstrap plan --mirrors l", "later lb"],
  ["seedstrap build --tree l", "later lb lb.tar"],
  ["seedstrap build --target l", "later lb"],
  ["seedstrap plan -qk lb", "lb lb.tar"],
  ["seedstrap run l", "later lb"],
  ["seedstrap image ls lb.", "lb.tar"],
  ["seedstrap write lb.", "lb.tar"],
  ["seedstrap watch lb.", "lb.tar"],
  ["seedstrap plan l", ""],
  ["seedstrap plan --cores ", ""],
  ["seedstrap doctor --mode b", "bare-metal bwrap"],
];

for (const shell of SHELLS) {
  testWith(shell)(`${shell} offers what can come next`, async () => {
    const found = await offered(shell, CASES.map(([line]) => line));
    const lines = CASES.map(([line], at) => [line, found[at]!.join(" ")] as const);
    expect(lines).toEqual([...CASES]);
  }, 60_000);
}

testWith("bash")("no name of a file is a command for the shell, also without compopt", async () => {
  const names = ["$(touch ran)", "`touch ran`", "a;touch ran", "q'uote", "n\n$(touch ran)"];
  const scene = temp.make();
  writeFiles(scene, Object.fromEntries(names.map((name) => [name, ""])));
  const { stdout } = await seedstrap(["completion", "bash"]);
  writeFileSync(join(scene, ".completion"), stdout);
  const script = `compopt() { return 1; }
. ./.completion
COMP_WORDS=(seedstrap watch "$1") COMP_CWORD=2
_seedstrap
for word in "\${COMPREPLY[@]}"; do eval "printf '%s\\n' $word"; done`;
  const ran = await run(["bash", "-c", script, "bash", ""], { cwd: scene });
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  expect(ran.stdout.trimEnd().split("\n").sort()).toEqual(
    [".completion", ...names.flatMap((name) => name.split("\n"))].sort(),
  );
  expect(readdirSync(scene)).not.toContain("ran");
});

/** The options of a command by its help, and the commands in it. */
async function helped(words: readonly string[]): Promise<{ options: string[]; names: string[] }> {
  const { stdout } = await seedstrap([...words, "--help"]);
  const lines = stdout.split("\n");
  const options = lines.flatMap((line) =>
    (/^ {2}(-[^\s,]+(?:, -[^\s,]+)*)/.exec(line)?.[1] ?? "").split(", ")
  ).filter((option) => option.startsWith("--"));
  const isGroup = words.length === 0 || /^Commands:$/m.test(stdout);
  const names = lines.flatMap((line) =>
    isGroup ? /^ {2}([a-z]+(?:, [a-z]+)*)/.exec(line)?.[1]?.split(", ") ?? [] : []
  )
    .filter((name) => name !== "help");
  return { options, names };
}

describe("every command and option of --help is offered", () => {
  for (const shell of SHELLS) {
    testWith(shell)(shell, async () => {
      // The last line of the help names three.
      const names = [...(await helped([])).names, "checkpoint", "completion", "man"];
      const groups = ["image", "bundle", "checkpoint"];
      const inner = await Promise.all(groups.map(async (group) => {
        const { names } = await helped([group]);
        return names.map((name) => [group, name]);
      }));
      const single = names.filter((name) => !groups.includes(name)).map((name) => [name]);
      const commands = [...single, ...inner.flat()];
      expect(commands.length).toBeGreaterThan(20);
      const wanted = await Promise.all(commands.map((words) => helped(words)));
      const found = await offered(shell, [
        "seedstrap ",
        ...commands.map((words) => `seedstrap ${words.join(" ")} --`),
      ]);
      expect(found[0]).toEqual([...names].sort());
      expect(found.slice(1)).toEqual(wanted.map(({ options }) => options.sort()));
    }, 120_000);
  }
});

test("a shell that has no completion is refused", async () => {
  const ran = await seedstrap(["completion", "tcsh"]);
  expect(ran).toMatchObject({ code: 2, stdout: "" });
  expect(ran.stderr).toContain("Allowed choices are bash, zsh, fish");
});
