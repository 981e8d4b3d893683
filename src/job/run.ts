// SPDX-License-Identifier: MIT
/**
 * Starts a built target: images in QEMU, a directory in chroot or bwrap.
 *
 * @module
 */

import { statfsSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { withTarget } from "../console/causes.ts";
import { FAILURES, type RunFailure } from "../console/failure.ts";
import { type FollowEvents, RunFollower } from "../console/follow.ts";
import type { End, Facts, Outcome } from "../console/outcome.ts";
import { type ErrorKind, messageOf, systemCode, UserError } from "../errors.ts";
import { type FileServer, serveDirectory } from "../fetch/serve.ts";
import { confirmingKeys, lendingKeys } from "../launch/interrupt.ts";
import { openLog } from "../launch/log.ts";
import { unmountBelow, withTmpfs } from "../launch/mount.ts";
import { requireProgram, type RunningChild, shellQuote } from "../launch/process.ts";
import { type Accel, type QemuOptions, runQemu } from "../launch/qemu.ts";
import { rootCommand, runRoot } from "../launch/root.ts";
import { watchSilence } from "../launch/silence.ts";
import { guardingTerminal } from "../launch/terminal.ts";
import { type BuildOptions, continuesPass, startsInDirectory } from "../plan/options.ts";
import { planCommand } from "../plan/plan.ts";
import { MAX_LOG_BYTES, parseReport } from "../preflight/report.ts";
import type { Starter } from "../record/events.ts";
import { expectedOf, type ExpectedRun } from "../record/expected.ts";
import type { Checkpoint } from "../record/checkpoints.ts";
import { readRecord } from "../record/read.ts";
import { beginRun, lastRun, type RunFiles, toldRun } from "../record/run.ts";
import { readWholeText } from "../read.ts";
import type { Lock } from "../runtime/lock.ts";
import type { TargetRecord } from "../record/types.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { withRootUmask } from "../runtime/umask.ts";
import { takeTarget } from "../write/target.ts";
import { type BuildEvents, buildMedia, type BuildRequest } from "./build.ts";
import {
  Checkpointer,
  type CheckpointTimes,
  chooseCheckpoint,
  earlierOutput,
  refuseCheckpoints,
  resumeCommand,
  type ResumeRequest,
} from "./checkpoint.ts";
import type { SavedCheckpoint } from "./saver.ts";
import { areUnchanged, checkImages, checkKernel } from "./check.ts";
import { asNamed, type NamedByUser } from "./named.ts";
import { RunRecorder } from "./run_recorder.ts";

/**
 * Texts that Fiwix prints when its last process has ended, and Linux on a panic: both then wait for
 * ever.
 */
const HALT_TEXTS: readonly string[] = [
  "Safe to Power Off",
  "---[ end Kernel panic - not syncing",
];

/** What is printed when a kernel runs its first commands: stage0-posix, or Linux. */
const ALIVE_TEXTS: readonly string[] = [" +> ", "Linux version "];

export type AccelChoice = QemuOptions["accel"];

/** What to run. */
export interface RunRequest {
  /** Directory that was built. */
  readonly target: string;
  readonly accel: AccelChoice;
  /** Arguments that QEMU gets after all others, as the user gives them; no record has any. */
  readonly extraArgs?: readonly string[];
  /**
   * What of this machine the run may use, as the user names it; undefined where the target was
   * built a moment ago from the user's own options.
   */
  readonly named: NamedByUser | undefined;
  /** Age in milliseconds from which on a run is interrupted by a second key only; 10 min if absent. */
  readonly confirmAfterMs?: number;
  /** The guest is ended when its console is silent for so long, in milliseconds; never if absent. */
  readonly stallMs?: number | undefined;
  /** When the guest is saved; never if absent, and only under QEMU. */
  readonly checkpoints?: CheckpointTimes | undefined;
  /** Goes on from a checkpoint, and not from the beginning. */
  readonly resume?: ResumeRequest | undefined;
}

/** How a guest starts. */
export interface RunStart {
  /** The accelerator of QEMU, or what starts a directory. */
  readonly by: Starter;
  readonly logPath: string;
  /** Whether the terminal is the guest's, Ctrl-C included. */
  readonly isInteractive: boolean;
  /** Whether it starts again under TCG where KVM cannot run it. */
  readonly fallsBack?: boolean;
}

/** Told what happens in a run. */
export interface RunEvents extends FollowEvents {
  /** Called before the guest starts, once for each mirror directory that it downloads from. */
  readonly onServe?: (path: string, port: number) => void;
  /** Told once, before the guest starts. */
  readonly onStart?: (start: RunStart) => void;
  /** What the guest prints on its console, as it comes. */
  readonly onSerial?: (chunk: Uint8Array) => void;
  /** Told when the guest's process has started, again where it is started again. */
  readonly onProcess?: (guest: RunningChild) => void;
  /** Keys that are typed while the guest runs and does not have the terminal for itself. */
  readonly onKeys?: (keys: Uint8Array) => void;
  readonly onWarning?: (text: string) => void;
  /** Told what the guest goes on from, before it starts. */
  readonly onResume?: (from: Checkpoint) => void;
  /** Told each time that a checkpoint was saved. */
  readonly onCheckpoint?: (saved: SavedCheckpoint) => void;
  /** Told once, when it is over, also where it failed. */
  readonly onOutcome?: (outcome: Outcome, logPath: string) => void;
}

/**
 * Starts built media, waits for the guest to end, and judges by what it printed how it ended.
 *
 * @throws {UserError} "target" where nothing was built there, it is not as it was built, or another
 * process uses it; "usage" for bare metal, and for a record that names what the user did not; a kind
 * of {@link FAILURES} where the bootstrap did not come to its end, "launch" where nothing proves that
 * it did; "interrupt" when the signal is raised.
 */
export async function runTarget(
  request: RunRequest,
  events: RunEvents,
  signal: AbortSignal,
): Promise<void> {
  const dir = resolve(request.target);
  const { extraArgs = [], stallMs } = request;
  const built = readRecord(dir);
  const record = request.named === undefined ? built : asNamed(built, request.named, dir);
  const { options, images } = record;
  const command = planCommand({ options, images: images.map(({ name }) => name) }, dir);
  if (command === undefined) {
    throw new UserError("usage", "Cannot start a bare-metal target here", {
      hint: "Write its images to drives, or build it with --qemu",
    });
  }
  checkExtraArgs(options, extraArgs);
  checkTerminal(options);
  checkStall(options, stallMs);
  checkMode(options, request);
  if (options.kernel !== undefined) checkKernel(options.kernel, options.arch);
  const target = useTarget(dir);
  try {
    checkImages(dir, record.images);
    const from = await foundStart({ dir, record, extraArgs }, request, events, signal);
    const expected = { ...expectedOf(dir, record), ...factsOf(record) };
    if (startsInDirectory(options.mode) && !continuesPass(options)) warnOfEarlier(dir, events);
    const files = beginRun(dir);
    const run = { record, command: [...command, ...extraArgs], dir, files, expected, from };
    const { outcome: seen, error } = await watched(run, request, { events, signal }).catch(
      (error) => {
        files.finish(ownFailure(error));
        throw error;
      },
    );
    const { cause } = seen;
    const named = cause && withTarget(cause, shellQuote([request.target]));
    const outcome = { ...seen, ...(named && { cause: named }) };
    finish(files, outcome, events);
    events.onOutcome?.(outcome, files.logPath);
    if (outcome.verdict === "interrupted") throw await interruptedError(outcome.why, run);
    if (outcome.verdict !== "done") {
      const goesOn = resumeCommand(dir);
      if (goesOn !== undefined) events.onWarning?.(`the last checkpoint is there: ${goesOn}`);
      throw outcomeError(outcome, files.logPath, error);
    }
  } finally {
    target.release();
  }
}

/** What a run goes on from; undefined for its beginning. */
async function foundStart(
  run: Pick<Run, "dir" | "record"> & { readonly extraArgs: readonly string[] },
  { resume, accel }: RunRequest,
  { onWarning, onResume }: RunEvents,
  signal: AbortSignal,
): Promise<Checkpoint | undefined> {
  if (resume === undefined) {
    refuseCheckpoints(run.dir);
    return undefined;
  }
  if (resume.number === undefined && lastRun(run.dir)?.verdict === "done") {
    throw new UserError("target", `Cannot go on with ${run.dir}: its last run is done`, {
      where: run.dir,
      hint:
        "Take what it has built with seedstrap harvest. --from NUMBER gives that up, and goes " +
        "back to a checkpoint",
    });
  }
  const onNotice = (text: string) => onWarning?.(text);
  const from = await chooseCheckpoint({ ...run, onNotice }, resume, accel, signal);
  onResume?.(from);
  return from;
}

/** Records how a run has ended; where it has failed, that counts more than its record. */
function finish(files: RunFiles, outcome: Outcome, { onWarning }: RunEvents): void {
  try {
    files.finish(outcome);
  } catch (error) {
    if (!(error instanceof UserError) || outcome.verdict === "done") throw error;
    onWarning?.(`how it ended is not recorded: ${error.message}`);
  }
}

/** A run on its way. */
interface Run {
  readonly record: TargetRecord;
  readonly command: readonly string[];
  /** The target, absolute. */
  readonly dir: string;
  readonly files: RunFiles;
  readonly expected: ExpectedRun;
  readonly from: Checkpoint | undefined;
}

/** Told also what concerns the record of a run, and what only QEMU tells. */
type GuestEvents =
  & RunEvents
  & Required<Pick<QemuOptions, "onRestart" | "onLogged" | "onReset">>;

/** Runs the guest, and follows its console. */
async function watched(
  run: Run,
  request: RunRequest,
  { events, signal }: { events: RunEvents; signal: AbortSignal },
): Promise<{ readonly outcome: Outcome; readonly error?: UserError }> {
  const { confirmAfterMs = CONFIRM_AFTER_MS, stallMs } = request;
  const { record, expected, files, from } = run;
  const { options } = record;
  const silence = watchSilence(stallMs);
  const ends = AbortSignal.any([signal, silence.signal]);
  const recorder = new RunRecorder(
    { dir: run.dir, options, files, plan: expected.plan },
    (text) => events.onWarning?.(text),
  );
  let isReplayed = false;
  const follower = new RunFollower(expected.plan, {
    onEvent: (event, state) => {
      if (isReplayed) return;
      recorder.event(event);
      events.onEvent?.(event, state);
      checkpointer?.event(event);
    },
    onState: events.onState,
  });
  const checkpointer = checkpointerOf(run, request, () => follower.lastStep, events);
  const followed: GuestEvents = {
    ...events,
    onReset: () => follower.sawReset(),
    onStart: (start) => {
      follower.restart(recorder.begin(start.by));
      checkpointer?.begin(start.by as Accel);
      isReplayed = true;
      // Where the run is, it has said before it was saved.
      if (from !== undefined) {
        for (const chunk of earlierOutput(run.dir, from)) follower.push(chunk);
      }
      isReplayed = false;
      events.onStart?.(start);
    },
    onSerial: (chunk) => {
      silence.heard();
      events.onSerial?.(chunk);
      follower.push(chunk);
    },
    onRestart: () => {
      follower.restart(recorder.restart("tcg"));
      checkpointer?.begin("tcg");
    },
    onLogged: (sizeBytes) => {
      recorder.logged(sizeBytes);
      checkpointer?.logged(sizeBytes);
    },
  };
  const began = performance.now();
  const ask = () => {
    const ageMs = performance.now() - began;
    if (ageMs < confirmAfterMs) return false;
    const at = follower.lastStep === undefined ? "" : `, and is in ${follower.lastStep}`;
    events.onWarning?.(
      `the run is ${formatAge(ageMs)} old${at}; press Ctrl-C again within 5 s to end it`,
    );
    return true;
  };
  const start = (takeKeys: () => void) => {
    const onProcess = (guest: RunningChild) => {
      if (options.mode === "qemu") silence.follow(guest.pid);
      takeKeys();
      events.onProcess?.(guest);
    };
    const told = { ...followed, onProcess };
    if (options.mode !== "qemu") return runInDirectory(run, told, ends);
    const accel = from?.accel ?? request.accel;
    if (checkpointer === undefined) return runInQemu(run, { accel }, told, ends);
    const { qemu } = checkpointer;
    return checkpointer.guard(ends, (signal) => runInQemu(run, { accel, ...qemu }, told, signal));
  };
  const ended = async (): Promise<{ readonly outcome: Outcome; readonly error?: UserError }> => {
    try {
      await serving(record, events, () =>
        guardingTerminal(
          needsTerminal(options),
          (takeKeys) =>
            needsTerminal(options)
              ? lendingKeys(() => start(takeKeys))
              : confirmingKeys(ask, () => start(takeKeys)),
          events.onKeys,
        ));
    } catch (thrown) {
      const error = signal.aborted ? thrown : silence.error ?? thrown;
      if (!(error instanceof UserError)) throw error;
      const outcome = follower.judge(expected, endOf(error, run.dir));
      return outcome.verdict === "interrupted" ? { outcome } : { outcome, error };
    }
    if (options.bootProgram === "preflight") return { outcome: preflightOutcome(files.logPath) };
    return { outcome: follower.judge(expected, { kind: "ended" }) };
  };
  try {
    const result = await ended();
    recorder.end(result.outcome);
    return result;
  } catch (error) {
    recorder.end(ownFailure(error));
    throw error;
  } finally {
    follower.stop();
    silence.stop();
    await checkpointer?.end();
  }
}

/** The outcome of a run in which something failed that is a fault of this program. */
function ownFailure(error: unknown): Outcome {
  return { verdict: "unknown", why: `seedstrap itself failed: ${messageOf(error)}`, lines: [] };
}

/** The failure that an error of a kind tells of, where the console says nothing. */
const FAILURE_OF: Partial<Record<ErrorKind, RunFailure>> = {
  step: "step",
  crash: "ended-early",
  stall: "stall",
  "host-disk-full": "host-disk-full",
  died: "died",
  kvm: "kvm",
};

/** How a guest has ended that has ended with an error. */
function endOf({ kind, message: why }: UserError, dir: string): End {
  if (kind === "interrupt") return { kind: "interrupted", why };
  const failure = FAILURE_OF[kind] ?? "not-started";
  const isFull = (failure === "stall" || failure === "died") && hasNoSpace(dir);
  return isFull
    ? { kind: "failed", failure: "host-disk-full", why: `no space is left in ${dir}: ${why}` }
    : { kind: "failed", failure, why };
}

/** Less than this is none: a log goes on for a while with it, an image does not. */
const NO_SPACE_BYTES = 64 * 1024;

/** Reports whether the file system of a directory is full. */
function hasNoSpace(dir: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize < NO_SPACE_BYTES;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return false;
  }
}

/** What a record says of the reasons for which its run may fail. */
export function factsOf(
  { options, limits }: TargetRecord,
): Facts {
  return {
    ...(options.mode === "qemu" && { memoryMib: options.qemuRamMib }),
    isDirectory: startsInDirectory(options.mode),
    brokenLimits: limits.flatMap(({ broken, title }) => broken ? [title] : []),
  };
}

/** What saves the guest of a run; undefined where it is not saved. */
function checkpointerOf(
  { dir, record, files, from }: Run,
  { checkpoints: times, extraArgs = [] }: RunRequest,
  lastStep: () => string | undefined,
  { onCheckpoint, onWarning }: RunEvents,
): Checkpointer | undefined {
  if (times === undefined) return undefined;
  return new Checkpointer({
    ...{ dir, record, extraArgs, times, from, logPath: files.logPath },
    at: () => lastStep() ?? "its beginning",
    onSaved: (saved) => onCheckpoint?.(saved),
    onNotice: (text) => onWarning?.(text),
  });
}

/**
 * Refuses checkpoints where there is no machine to save.
 *
 * @throws {UserError} "usage"
 */
function checkMode(
  { mode }: BuildOptions,
  { checkpoints, resume }: Pick<RunRequest, "checkpoints" | "resume">,
): void {
  if (mode === "qemu" || (checkpoints === undefined && resume === undefined)) return;
  const what = resume === undefined ? "use --checkpoint" : "resume a run";
  throw new UserError(
    "usage",
    `Cannot ${what} with --${mode}: only a machine of QEMU can be saved`,
    {
      hint:
        "The processes of a directory have no state that could be taken up again; its files can " +
        "be copied while nothing runs, and pass by pass with --internal-ci",
    },
  );
}

/**
 * Refuses to watch for silence where the console is the user's.
 *
 * @throws {UserError} "usage"
 */
function checkStall(options: BuildOptions, stallMs: number | undefined): void {
  if (stallMs === undefined || !needsTerminal(options)) return;
  throw new UserError("usage", "Cannot use --stall with a guest that has the terminal", {
    hint: "What it prints is not seen: leave the option out",
  });
}

/** A run of less is interrupted by the first key: little is lost. */
const CONFIRM_AFTER_MS = 10 * 60 * 1000;

function formatAge(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The error for a run that was ended from outside, which says what became of the media. */
async function interruptedError(why: string, { record, dir, files }: Run): Promise<UserError> {
  return new UserError("interrupt", why, {
    where: files.logPath,
    hint: await whatIsLeft(dir, record),
  });
}

/** What became of the media of a run that was ended from outside, and what to do about it. */
async function whatIsLeft(dir: string, { images }: TargetRecord): Promise<string> {
  const goesOn = resumeCommand(dir);
  if (goesOn !== undefined) return `Go on with: ${goesOn}`;
  const [disk] = images;
  const what = disk === undefined ? dir : join(dir, disk.name);
  if (disk !== undefined && await areUnchanged(dir, images)) {
    return `${what} is as it was built: run it again`;
  }
  const left = `${what} is as the guest left it, and does not go on from there`;
  return disk === undefined
    ? `${left}: remove it, or name another --target, and build again`
    : `${left}: build the target again`;
}

/** What the preflight program says is its whole run. */
function preflightOutcome(logPath: string): Outcome {
  const options = { limitBytes: MAX_LOG_BYTES, followsLink: false };
  const { verdict } = parseReport(readWholeText(logPath, options));
  return {
    verdict: verdict === undefined ? "unknown" : verdict.ok ? "done" : "failed",
    why: verdict === undefined
      ? "the preflight program gave no verdict"
      : verdict.ok
      ? "the preflight program has a good verdict"
      : `the preflight program has a bad verdict: ${verdict.reasons.join(", ")}`,
    lines: [],
  };
}

/** The error for a run that did not come to its end, or of which that is not known. */
export function outcomeError(outcome: Outcome, logPath: string, cause?: UserError): UserError {
  const { verdict, failure, why, lastStep, lines, cause: likely } = outcome;
  const at = lastStep === undefined ? "" : ` in ${lastStep}`;
  const what = verdict === "unknown"
    ? `Cannot tell whether the bootstrap has succeeded${at}`
    : `The bootstrap failed${at}`;
  const explained = likely === undefined
    ? []
    : [`Likely cause: ${likely.text}`, "Try:", ...likely.tries.map((text) => `  - ${text}`)];
  const told = [`${what}: ${why}`, ...lines.map((line) => `  | ${line}`), ...explained];
  const hint = likely === undefined && (cause?.hint ?? "The log has everything that it printed");
  return new UserError(failure === undefined ? "launch" : FAILURES[failure], told.join("\n"), {
    where: logPath,
    ...(hint !== false && { hint }),
    cause,
  });
}

/** The lock of a target, so that no build replaces what a guest runs from. */
function useTarget(dir: string): Lock {
  const lock = takeTarget(dir);
  if (typeof lock !== "number") return lock;
  throw new UserError("target", `Cannot run ${dir}: process ${lock} uses it`, {
    where: dir,
    hint: "Wait for it, or build another --target",
  });
}

/** The input of the default command, which builds and starts. */
export interface BootstrapRequest
  extends BuildRequest, Pick<RunRequest, "accel" | "extraArgs" | "stallMs" | "checkpoints"> {
  /** Size of a tmpfs to mount on the target, in the form of mount(8); undefined for none. */
  readonly tmpfsSize: string | undefined;
}

/** Callbacks of a bootstrap. */
export interface BootstrapEvents extends BuildEvents, RunEvents {
  /** Called once, between the build and the start. */
  readonly onBuilt?: (record: TargetRecord) => void;
}

/**
 * Builds and starts. Media for bare metal are only built, as they are started by hand.
 *
 * @throws {UserError} of every kind.
 */
export async function bootstrap(
  request: BootstrapRequest,
  events: BootstrapEvents,
  signal: AbortSignal,
): Promise<void> {
  const { target, accel, extraArgs = [], stallMs, checkpoints, tmpfsSize: size, options } = request;
  // Before hours are spent on a build that could not be started.
  await checkPrograms(options);
  checkTerminal(options);
  checkStall(options, stallMs);
  checkExtraArgs(options, extraArgs);
  checkMode(options, request);
  const buildAndRun = async () => {
    events.onBuilt?.(await buildMedia(request, events, signal));
    if (options.mode === "bare-metal") return;
    const run = { target, accel, extraArgs, stallMs, checkpoints, named: undefined };
    await runTarget(run, events, signal);
  };
  if (size === undefined) return await buildAndRun();
  const onNotice = (text: string) => events.onWarning?.(text);
  await withTmpfs({ dir: resolve(target), size, signal, onNotice }, buildAndRun);
}

/**
 * Checks that the programs to start a target are installed.
 *
 * @throws {UserError} "launch"
 */
async function checkPrograms(options: BuildOptions): Promise<void> {
  const argv = planCommand({ options, images: [] }, "/");
  if (argv === undefined) return;
  if (startsInDirectory(options.mode)) await rootCommand({ argv, needsRoot: needsRoot(options) });
  else await requireProgram(argv[0]!);
}

/**
 * Refuses arguments for QEMU where none is started.
 *
 * @throws {UserError} "usage"
 */
function checkExtraArgs({ mode }: BuildOptions, extraArgs: readonly string[]): void {
  if (extraArgs.length === 0 || mode === "qemu") return;
  throw new UserError("usage", `Cannot use arguments after "--" with --${mode}`, {
    hint: "They are for QEMU, which is not started: leave them out, or use --qemu",
  });
}

/** Reports whether only root may start it. */
function needsRoot({ mode }: Pick<BuildOptions, "mode">): boolean {
  return mode === "chroot";
}

/** Reports whether a user works in the guest, so that it needs the terminal. */
function needsTerminal(options: BuildOptions): boolean {
  return options.interactive || asksUser(options);
}

/** Reports whether the configurator runs in the guest, which asks until it is told. */
function asksUser(options: BuildOptions): boolean {
  return (options.configurator || !options.createConfig) && !continuesPass(options);
}

/**
 * Checks that somebody can answer the configurator: without input it asks for ever.
 *
 * @throws {UserError} "usage"
 */
function checkTerminal(options: BuildOptions): void {
  if (!asksUser(options) || options.mode === "bare-metal" || process.stdin.isTTY) return;
  const option = options.configurator ? "--configurator" : "--no-create-config";
  throw new UserError(
    "usage",
    `Cannot start a bootstrap with ${option} without a terminal: its configurator asks for ever`,
    { hint: `Start it at a terminal, or build it without ${option}` },
  );
}

/** Calls a function while the mirror directories of a target are served. */
async function serving(
  { servedMirrors }: TargetRecord,
  { onServe }: RunEvents,
  run: () => Promise<void>,
): Promise<void> {
  const servers: FileServer[] = [];
  try {
    for (const { path, port } of servedMirrors) {
      servers.push(await serveDirectory(path, { port }));
      onServe?.(path, port);
    }
    await run();
  } finally {
    await Promise.all(servers.map((server) => server.close()));
  }
}

async function runInDirectory(
  { record: { options }, command, dir, files }: Run,
  { onSerial, onStart, onProcess, onWarning, onLogged }: GuestEvents,
  signal: AbortSignal,
): Promise<void> {
  const before = mountsBelow(dir);
  const log = openLog(files.logPath, (text) => onWarning?.(text), onLogged);
  onStart?.({ by: options.mode === "chroot" ? "chroot" : "bwrap", ...toldStart(options, files) });
  try {
    await withRootUmask(() =>
      runRoot({
        argv: command,
        needsRoot: needsRoot(options),
        interactive: needsTerminal(options),
        onOutput: (chunk) => {
          log.write(chunk);
          onSerial?.(chunk);
        },
        onProcess,
        signal,
        onNotice: (text) => onWarning?.(text),
      })
    );
  } finally {
    if (signal.aborted) log.separator(messageOf(signal.reason));
    log.close();
    // The bootstrap mounts proc and the like in its root, and that is a directory of this machine.
    if (options.mode === "chroot") {
      await unmountBelow(dir, before, (text) => onWarning?.(text));
    }
  }
}

/** Warns where a bootstrap has run in a directory: it begins again, and not in what was built. */
function warnOfEarlier(dir: string, { onWarning }: RunEvents): void {
  const run = lastRun(dir);
  if (run === undefined) return;
  const what = `a bootstrap has run in ${dir} before, and this one begins again in what is left`;
  onWarning?.(`${what}; ${toldRun(run)}`);
}

function toldStart(options: BuildOptions, { logPath }: RunFiles): Omit<RunStart, "by"> {
  return { logPath, isInteractive: needsTerminal(options) };
}

async function runInQemu(
  { record: { options, images }, command: [command, ...args], dir, files }: Run,
  qemu: Pick<QemuOptions, "accel"> & Partial<Checkpointer["qemu"]>,
  { onSerial, onStart, onProcess, onKeys, onWarning, onRestart, onLogged, onReset }: GuestEvents,
  signal: AbortSignal,
): Promise<void> {
  await runQemu({
    command: command!,
    args,
    interactive: needsTerminal(options),
    disks: images.map(({ name }) => join(dir, name)),
    ...qemu,
    logPath: files.logPath,
    haltTexts: HALT_TEXTS,
    aliveTexts: ALIVE_TEXTS,
    signal,
    onSerial: (chunk) => onSerial?.(chunk),
    onProcess,
    takesInput: onKeys !== undefined,
    onNotice: (text) => onWarning?.(text),
    onStart: (by) => {
      const fallsBack = by === "kvm" && qemu.accel === "auto";
      onStart?.({ by, fallsBack, ...toldStart(options, files) });
    },
    onRestart,
    onLogged,
    onReset,
  });
}
