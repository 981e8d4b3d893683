// SPDX-License-Identifier: MIT
/**
 * Runs rootfs.py of a checkout and seedstrap in every mode with the same arguments and inputs, with
 * stand-ins that record what is started. Their trees, bootstrap.cfg and commands have to be the
 * same, except for what seedstrap announces in its plan.
 *
 * usage: bun scripts/acceptance/modes.ts SEEDSTRAP PYTHON INPUTS WORK [WORD...]
 *
 * INPUTS is the output of scripts/bench/synthetic.ts; WORK is a directory to create. With WORDs,
 * runs only the cases with all of these words. The last line is `N passed, N failed, N skipped`.
 */

import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import process from "node:process";
import { allCases, type Case, type Inputs } from "./cases.ts";
import { type AnnouncedPlan, compareCommands, compareMedia } from "./compare.ts";
import { makeInputs } from "./inputs.ts";
import { readMedia } from "./media.ts";
import { makeStage, type Ran, runOn, type Stage } from "./start.ts";
import { shellQuote } from "../../src/launch/process.ts";

/** Paths of the inputs and of the working directories. */
interface Scene {
  readonly seedstrap: string;
  readonly python: string;
  /** The checkout, and a copy of it that rootfs.py may write to. */
  readonly tree: string;
  readonly copy: string;
  readonly mirrors: readonly string[];
  /** Directory of the targets, which are removed after each case. */
  readonly work: string;
  readonly stage: Stage;
}

/** The result of a case. */
type Result =
  | { readonly kind: "same"; readonly compared: string }
  | { readonly kind: "skipped"; readonly reason: string }
  | { readonly kind: "differs"; readonly compared: string; readonly problems: readonly string[] };

process.exitCode = await main(process.argv.slice(2));

async function main([seedstrap, python, from, work, ...wanted]: readonly string[]) {
  if (seedstrap === undefined || python === undefined || from === undefined || !work) {
    process.stderr.write("usage: modes.ts SEEDSTRAP PYTHON INPUTS WORK [WORD...]\n");
    return 2;
  }
  const inputs = makeInputs(resolve(work));
  const scene = makeScene({ seedstrap, python, from, work }, inputs);
  const chosen = allCases(inputs).filter(({ runs }) =>
    wanted.every((word) => runs.flat().some((arg) => arg.includes(word)))
  );
  await downloadTheirs(scene);
  const counts = { same: 0, differs: 0, skipped: 0 };
  for (const one of chosen) {
    const result = await compareCase(one, scene);
    counts[result.kind]++;
    for (const line of resultLines(titleOf(one), result)) process.stdout.write(`${line}\n`);
  }
  const { same, differs, skipped } = counts;
  process.stdout.write(`${same} passed, ${differs} failed, ${skipped} skipped\n`);
  return differs > 0 || same === 0 ? 1 : 0;
}

function makeScene(
  { seedstrap, python, from, work }: Record<"seedstrap" | "python" | "from" | "work", string>,
  inputs: Inputs,
): Scene {
  const tree = resolve(from, "tree");
  const copy = resolve(work, "copy");
  cpSync(tree, copy, { recursive: true, verbatimSymlinks: true });
  // rootfs.py copies the modes of the checkout, which depend on umask; seedstrap has 755 and 644.
  spawnSync("chmod", ["-R", "u+w,go-w", copy]);
  return {
    seedstrap: resolve(seedstrap),
    python,
    tree,
    copy,
    mirrors: [`file://${resolve(from, "mirror")}`, "http://mirror.invalid/distfiles"],
    work: resolve(work),
    stage: makeStage(resolve(work, "stage"), [inputs.qemu]),
  };
}

/** Lets rootfs.py download all distfiles, as later one of its mirrors does not exist. */
async function downloadTheirs({ python, copy, mirrors, work, stage }: Scene): Promise<void> {
  const target = join(work, "theirs");
  const args = ["--chroot", "--external-sources", "-m", mirrors[0]!, "-t", target];
  const ran = await runOn(stage, [python, "rootfs.py", ...args], copy);
  rmSync(target, { recursive: true, force: true });
  if (ran.failed) throw new Error(`rootfs.py cannot download: ${reasonOf(ran)}`);
}

/** Runs both programs and compares their targets. */
async function compareCase({ runs, isRefused }: Case, scene: Scene): Promise<Result> {
  const { seedstrap, python, tree, copy, mirrors, work, stage } = scene;
  const targets = { theirs: join(work, "theirs"), ours: join(work, "ours") };
  const common = ["-m", ...mirrors];
  try {
    prepareTheirs(targets.theirs, runs[0]!);
    const commands: Ran[][] = [];
    for (const [index, args] of runs.entries()) {
      if (index > 0) Object.values(targets).forEach(useTarget);
      const [theirs, ours] = await Promise.all([
        runOn(stage, [python, "rootfs.py", ...args, ...common, "-t", targets.theirs], copy),
        runOn(
          stage,
          atTerminal([seedstrap, ...args, ...common, "--tree", tree, "-t", targets.ours]),
          copy,
        ),
      ]);
      if (isRefused) return refusal(theirs, ours);
      if (theirs.failed) {
        return { kind: "skipped", reason: `rootfs.py says ${reasonOf(theirs)}${also(ours)}` };
      }
      if (hasFailed(ours)) return differs(`seedstrap says ${reasonOf(ours)}`);
      commands.push([theirs, ours]);
    }
    const plan = readPlan([seedstrap, "plan", ...runs[0]!, ...common, "--tree", tree, "--json"]);
    const media = compareMedia(
      readMedia(targets.theirs, join(work, "files", "theirs")),
      readMedia(targets.ours, join(work, "files", "ours")),
      plan,
    );
    const started = compareCommands(
      { commands: commands.flatMap(([theirs]) => theirs!.started), target: targets.theirs },
      { commands: commands.flatMap(([, ours]) => ours!.started), target: targets.ours },
      plan,
    );
    const problems = [...media.problems, ...started.problems];
    const compared = `${media.compared}, ${started.compared}`;
    return problems.length === 0 ? { kind: "same", compared } : {
      kind: "differs",
      compared,
      problems,
    };
  } catch (error) {
    return differs(error instanceof Error ? error.message : String(error));
  } finally {
    for (const dir of [...Object.values(targets), join(work, "files")]) {
      rmSync(dir, { recursive: true, force: true });
    }
  }
}

function differs(problem: string): Result {
  return { kind: "differs", compared: "nothing", problems: [problem] };
}

function refusal(theirs: Ran, ours: Ran): Result {
  const compared = `both refuse it: ${reasonOf(theirs)} / ${reasonOf(ours)}`;
  if (!theirs.failed) return differs("rootfs.py does it");
  return hasFailed(ours) ? { kind: "same", compared } : differs("seedstrap does it");
}

function readPlan(argv: readonly string[]): AnnouncedPlan {
  const { status, stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(`seedstrap plan says ${stderr.trim()}`);
  return JSON.parse(stdout);
}

/** Gives seedstrap a terminal where a configurator would ask: without one, it starts nothing. */
function atTerminal(argv: readonly string[]): readonly string[] {
  // Also abbreviated.
  const asks = argv.some((word) => /^--(?:conf|no-c)/.test(word));
  return asks ? ["script", "-qefc", shellQuote(argv), "/dev/null"] : argv;
}

/** Reports whether seedstrap has failed. The stand-ins print nothing, so that no run has proof. */
function hasFailed({ failed, said }: Ran): boolean {
  return failed && !said.includes("Cannot tell whether the bootstrap has succeeded");
}

/** Creates the directory that rootfs.py expects with --kernel and without an archive. */
function prepareTheirs(target: string, args: readonly string[]): void {
  const hasKernel = args.some((arg) => arg === "-qk" || arg.startsWith("--kern"));
  if (hasKernel && !args.includes("--early-preseed")) {
    mkdirSync(join(target, "disk"), { recursive: true });
  }
}

/** Changes the root like a bootstrap between two passes. */
function useTarget(target: string): void {
  const distfiles = join(target, "external", "distfiles");
  rmSync(join(distfiles, readdirSync(distfiles).sort()[0]!));
  writeFileSync(join(target, "steps", "bootstrap.cfg"), "ARCH=x86\n");
  writeFileSync(join(target, "made"), "made\n");
}

/** Returns the line of the output of a run with the reason of its failure. */
function reasonOf({ said }: Ran): string {
  const lines = said.trim().split("\n");
  return lines.find((line) => line.startsWith("seedstrap: ")) ?? (lines.at(-1) || "nothing");
}

function also(ours: Ran): string {
  return hasFailed(ours) ? `; seedstrap says ${reasonOf(ours)}` : "; seedstrap does it";
}

function titleOf({ runs }: Case): string {
  const shortOf = (arg: string) => arg.startsWith("/") ? basename(arg) : arg;
  return runs.map((args) => args.map(shortOf).join(" ")).join(", then ");
}

function resultLines(title: string, result: Result): string[] {
  switch (result.kind) {
    case "same":
      return [`PASS  ${title.padEnd(56)}  ${result.compared}`];
    case "skipped":
      return [`skipped: ${title}: ${result.reason}`];
    case "differs":
      return [
        `FAIL  ${title.padEnd(56)}  ${result.compared}`,
        ...result.problems.slice(0, 20).map((problem) => `    ${problem}`),
        ...(result.problems.length > 20 ? [`    and ${result.problems.length - 20} more`] : []),
      ];
  }
}
