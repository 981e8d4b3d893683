// SPDX-License-Identifier: MIT
/**
 * Runs a guest under QEMU, with KVM where it works.
 *
 * Not every guest runs on every KVM: a guest in real mode may execute an instruction that the
 * kernel has to emulate and cannot. QEMU then prints "KVM internal error", stops the machine and
 * waits. With `auto`, the guest is then started again under TCG, QEMU's own and much slower
 * emulation.
 *
 * Under `-no-reboot`, a guest that resets itself, also by a triple fault, ends QEMU with exit code
 * 0, exactly like one that has finished. QEMU tells which over its monitor, and `onReset` passes
 * that on; but whether the guest has finished is only visible in its output on the serial console,
 * which the caller has to check.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { messageOf, UserError } from "../errors.ts";
import { checkHypervisor, classifyKvmFailure, type KvmFailure, kvmObstacle } from "./accel.ts";
import { SIGNALS } from "./interrupt.ts";
import { type GuestLog, openLog } from "./log.ts";
import { type ProcessOutcome, type RunningChild, runProcess, shellQuote } from "./process.ts";
import { MONITOR_ARGS, MONITOR_NAME, monitorEventOf, Qmp, type QmpEvent } from "./qmp.ts";

/** The accelerator that runs the guest. */
export type Accel = "kvm" | "hvf" | "tcg";

/** A guest to run. */
export interface QemuOptions {
  /** The program, such as `qemu-system-x86_64`. */
  readonly command: string;
  /** Its arguments, without an accelerator. */
  readonly args: readonly string[];
  /** `auto` tries KVM and falls back to TCG; the others force one. */
  readonly accel: "auto" | Accel;
  /**
   * File for the serial console and QEMU's standard error; truncated first. If the guest was
   * started twice, both runs are in it, separated by a line that starts with `--- seedstrap: `.
   */
  readonly logPath: string;
  /** What the log begins with, where the guest goes on from an earlier run. */
  readonly earlierLog?: Iterable<Uint8Array>;
  /**
   * Gives QEMU our terminal. Its standard output is then neither logged nor passed to `onSerial`;
   * its standard error still is logged. Without it QEMU has no input: otherwise it would set the
   * terminal to raw mode, and Ctrl-C would go to the guest.
   */
  readonly interactive: boolean;
  /** Ends the guest. */
  readonly signal: AbortSignal;
  /** Takes the output of the serial console: any bytes, in chunks of any size. */
  readonly onSerial: (chunk: Uint8Array) => void;
  /** Told the size of the log in bytes, when it has become longer. */
  readonly onLogged?: (sizeBytes: number) => void;
  /** Told once, before the guest starts. */
  readonly onStart?: (accel: Accel) => void;
  /** Told when QEMU runs, again where it is started again. */
  readonly onProcess?: ((qemu: RunningChild) => void) | undefined;
  /**
   * Whether what is written to that process goes to the serial console; not with `interactive`.
   * Otherwise nothing can be written to it.
   */
  readonly takesInput?: boolean;
  /** Told when the guest runs: QEMU says so, or the guest has printed something. Once a start. */
  readonly onReady?: (() => void) | undefined;
  /** Told that the guest starts again, from its beginning. */
  readonly onRestart?: () => void;
  /** Told that the guest has reset itself, also by a triple fault. */
  readonly onReset?: () => void;
  /** Takes the control of QEMU, each time that it has started. It may fail. */
  readonly onControl?: (qmp: Promise<Qmp>) => void;
  /**
   * Told that the guest stands still, as a disk image cannot grow: it can be continued when there is
   * space. If absent, the guest is ended.
   */
  readonly onHostFull?: () => void;
  /** Takes a line for the user: a message of QEMU, or what is done about KVM. */
  readonly onNotice: (text: string) => void;
  /**
   * Image files that the guest can write. If one has changed when KVM fails, the guest is not
   * started again. A device among them never counts as changed.
   */
  readonly disks?: readonly string[];
  /**
   * Texts on the serial console that mean that the guest has stopped for good without switching off
   * the machine. The guest is then ended and has failed.
   */
  readonly haltTexts?: readonly string[];
  /** Exit codes that mean success, such as those of a debug-exit device; 0 if absent. */
  readonly goodCodes?: readonly number[];
  /**
   * Texts on the serial console that show that KVM runs the guest. Until one of them comes by, a
   * guest that is silent for `silenceMs` under `auto` counts as one that KVM cannot run; none if
   * absent, so that any silence does.
   */
  readonly aliveTexts?: readonly string[];
  /** In milliseconds; 120,000 if absent: with KVM the early, silent stages take seconds. */
  readonly silenceMs?: number;
  /** The device to probe under `auto`; /dev/kvm if absent. */
  readonly kvmDevice?: string;
}

/** The result of a successful run. */
export interface QemuOutcome {
  /** The accelerator that ran it to its end. */
  readonly accel: Accel;
  /** Exit code of QEMU, one of `goodCodes`. */
  readonly code: number;
}

/**
 * Runs a guest until QEMU exits with a good code.
 *
 * @returns Once QEMU has exited.
 * @throws {UserError} "launch", if QEMU is missing, or fails before the guest says anything; "died",
 *   if it fails later; "kvm", if KVM fails and TCG cannot take over; "crash", if the guest has
 *   stopped; "host-disk-full", if a disk image cannot grow; "interrupt", if `signal` was aborted or
 *   QEMU was ended by one of {@link SIGNALS}; "target", if the log cannot be opened.
 */
export async function runQemu(options: QemuOptions): Promise<QemuOutcome> {
  const { onNotice } = options;
  const log = openLog(options.logPath, onNotice, options.onLogged);
  try {
    for (const chunk of options.earlierLog ?? []) log.write(chunk);
    const accel = await firstAccel(options);
    options.onStart?.(accel);
    const before = await stamps(options.disks ?? []);
    const run = await runLogged(options, accel, log);
    if (run.kvmFailure === undefined || options.accel !== "auto") return judge(options, run);

    // The second start must not use a disk that the first one has changed. A guest that KVM cannot
    // run dies early, as a rule before it writes anything, so the images are not copied beforehand
    // but only checked for changes.
    checkUntouched(options, before, await stamps(options.disks ?? []), run.kvmFailure);
    const text = `KVM cannot run this guest ("${run.kvmFailure.line}"), starting again under TCG`;
    onNotice(text);
    log.separator(text);
    options.onRestart?.();
    return judge(options, await runLogged(options, "tcg", log));
  } finally {
    log.close();
  }
}

async function runLogged(options: QemuOptions, accel: Accel, log: GuestLog): Promise<Run> {
  const first = await runOnce(options, accel, log, MONITOR_ARGS);
  // Who has to control it cannot do without.
  const isEnough = options.onControl === undefined && hasNoChannel(first);
  const run = isEnough ? await withoutChannel(options, accel, log) : first;
  const end = options.signal.aborted ? messageOf(options.signal.reason) : endText(run);
  if (end !== undefined) log.separator(end);
  return run;
}

/** Reports whether QEMU did not start as it has no descriptor 3: sudo, for example, closes it. */
function hasNoChannel({ hasSerial, outcome, lastLine }: Run): boolean {
  return !hasSerial && outcome.code !== null && outcome.code !== 0 &&
    lastLine.includes(MONITOR_NAME);
}

function withoutChannel(options: QemuOptions, accel: Accel, log: GuestLog): Promise<Run> {
  const text = "QEMU does not get its control channel, so that it cannot tell of a reset of the " +
    "guest, or of a full disk of this host";
  options.onNotice(text);
  log.separator(text);
  return runOnce(options, accel, log, []);
}

/** How a guest has ended, for the log, where neither the console nor QEMU has said it. */
function endText({ haltText, kvmFailure, isHostFull, isReset, outcome }: Run): string | undefined {
  const { signal } = outcome;
  if (haltText !== undefined || kvmFailure !== undefined) return undefined;
  if (isHostFull) return "no space is left on this host";
  if (isReset) return "the guest has reset itself";
  return signal === null ? undefined : `QEMU was killed by ${signal}`;
}

/** With KVM, builder-hex0 loads its files and begins to print within seconds. */
const KVM_SILENCE_MS = 120_000;

/** One start of QEMU and how it ended. */
interface Run {
  readonly accel: Accel;
  readonly argv: readonly string[];
  readonly outcome: ProcessOutcome;
  /** The failure of KVM, after which TCG may still run the guest; absent after an interrupt. */
  readonly kvmFailure?: KvmFailure | undefined;
  /** The last line on standard error. */
  readonly lastLine: string;
  /** The one of `haltTexts` that the guest printed; undefined if it printed none. */
  readonly haltText: string | undefined;
  /** Whether the guest was ended as a disk image could not grow. */
  readonly isHostFull: boolean;
  /** Whether the guest has ended by a reset. */
  readonly isReset: boolean;
  /** Whether the guest has printed anything that we have seen. */
  readonly hasSerial: boolean;
}

async function firstAccel(options: QemuOptions): Promise<Accel> {
  checkHypervisor(options.accel);
  if (options.accel !== "auto") return options.accel;
  const obstacle = await kvmObstacle(options.kvmDevice ?? "/dev/kvm");
  if (obstacle === undefined) return "kvm";
  options.onNotice(`KVM cannot be used (${obstacle}), starting under TCG`);
  return "tcg";
}

async function runOnce(
  options: QemuOptions,
  accel: Accel,
  log: GuestLog,
  monitorArgs: readonly string[],
): Promise<Run> {
  const { interactive, signal, onSerial, onNotice } = options;
  const argv = [options.command, "-accel", accel, ...options.args];
  // Not in what is shown: nobody could run it.
  const given = [...argv.slice(0, 3), ...monitorArgs, ...options.args];
  const giveUp = new AbortController();
  const unusable: string[] = [];
  let died: KvmFailure | undefined;
  let lastLine = "";
  let haltText: string | undefined;
  let isHostFull = false;
  let isReset = false;
  let hasSerial = false;
  let isReady = false;
  const ready = () => {
    if (!isReady) options.onReady?.();
    isReady = true;
  };
  const watch = textWatcher(options.haltTexts ?? [], (text) => {
    haltText ??= text;
    giveUp.abort();
  });
  const silence = accel === "kvm" && options.accel === "auto" && !interactive
    ? silenceWatcher(options, (seconds) => {
      died ??= { kind: "died", line: `the guest has printed nothing for ${seconds} s` };
      giveUp.abort();
    })
    : undefined;
  const lines = lineSplitter((line) => {
    const failure = accel === "kvm" ? classifyKvmFailure(line) : undefined;
    if (died === undefined && failure?.kind === "died") {
      died = failure;
      giveUp.abort();
    } else if (failure?.kind === "unusable") {
      unusable.push(line);
    }
    if (line.trim() !== "") lastLine = line.trim();
    // After KVM has died, QEMU dumps registers; after an abort, it names the signal. Show neither.
    const isOver = died !== undefined || isHostFull || signal.aborted;
    if (!isOver && line.trim() !== "" && !line.includes(MONITOR_NAME)) onNotice(line);
  });
  const outcome = await runProcess({
    argv: given,
    stdin: interactive ? "inherit" : options.takesInput ? "pipe" : "ignore",
    onSpawn: ({ pid, write }) =>
      options.onProcess?.({ pid, ...(write && monitorArgs.length > 0 && { write }) }),
    isApart: !interactive,
    ...(interactive ? {} : {
      onStdout: (chunk) => {
        hasSerial = true;
        ready();
        log.write(chunk);
        onSerial(chunk);
        watch(chunk);
        silence?.heard(chunk);
      },
    }),
    onStderr: (chunk) => {
      log.write(chunk);
      lines.push(chunk);
    },
    onChannel: (channel) => {
      const onEvent = (event: QmpEvent) => {
        const told = monitorEventOf(event);
        if (told === "reset") {
          isReset = true;
          options.onReset?.();
        } else if (told === "host-disk-full") {
          if (options.onHostFull !== undefined) return options.onHostFull();
          isHostFull = true;
          giveUp.abort();
        } else if (event.name === "RESUME") ready();
      };
      const qmp = Qmp.open(channel, { onEvent });
      // A QEMU that cannot be understood still runs its guest.
      // It answers once its machine runs, unless it was told to wait. It is asked nothing: QEMU 7.2
      // may never end when its guest resets while a command is under way.
      qmp.then(() => {
        if (!given.includes("-S")) ready();
      }).catch(() => {});
      options.onControl?.(qmp);
    },
    signal: AbortSignal.any([signal, giveUp.signal]),
  }).finally(() => silence?.stop());
  lines.end();
  const run = { accel, argv, outcome, lastLine, haltText, isHostFull, isReset, hasSerial };
  if (haltText !== undefined || isHostFull) return run;
  const stopped = died === undefined ? interruption(signal, run) !== undefined : signal.aborted;
  if (stopped) return run;
  const refused = outcome.code !== null && isGood(options, outcome.code)
    ? undefined
    : classifyKvmFailure(unusable.join("\n"));
  return { ...run, kvmFailure: died ?? refused };
}

function isGood({ goodCodes = [0] }: QemuOptions, code: number): boolean {
  return goodCodes.includes(code);
}

/** Turns the end of the last run into a result or an error. */
function judge(options: QemuOptions, run: Run): QemuOutcome {
  const command = shellQuote(run.argv);
  const where = options.logPath;
  if (run.kvmFailure) {
    throw new UserError(
      "kvm",
      `KVM cannot run this guest (${run.kvmFailure.line}): ${command}`,
      { hint: "Use --accel tcg", where },
    );
  }
  if (run.isHostFull && !options.signal.aborted) {
    const disks = shellQuote(options.disks ?? []);
    throw new UserError(
      "host-disk-full",
      `no space is left on this host: QEMU could not write to ${disks}, and the guest was ended`,
      { where, hint: "Free some space there, and build and run again" },
    );
  }
  if (run.haltText !== undefined && !options.signal.aborted) {
    throw new UserError("crash", `The guest has stopped: "${run.haltText}"`, {
      where,
      hint: "Look for the reason in the lines before",
    });
  }
  const interrupted = interruption(options.signal, run);
  if (interrupted !== undefined) throw new UserError("interrupt", interrupted, { where });
  const { code, signal } = run.outcome;
  if (code !== null && isGood(options, code)) return { accel: run.accel, code };
  const end = signal === null ? `failed with exit code ${code}` : `was killed by ${signal}`;
  const why = run.lastLine === "" ? "" : ` (${run.lastLine})`;
  const kind = run.hasSerial || signal !== null ? "died" : "launch";
  throw new UserError(kind, `QEMU ${end}${why}: ${command}`, { where });
}

/**
 * Returns a message if a run was ended by a signal, otherwise undefined.
 *
 * A Ctrl-C goes to QEMU as well as to us, and QEMU then exits with code 0. It may do so before our
 * own handler has run, but always prints "terminating on signal".
 */
function interruption(signal: AbortSignal, run: Run): string | undefined {
  if (signal.aborted) {
    const { reason } = signal;
    const isOther = reason instanceof UserError && reason.kind !== "interrupt";
    return `${isOther ? reason.message : "Interrupted"}, the guest was ended`;
  }
  const number = /: terminating on signal (\d+)/.exec(run.lastLine)?.[1];
  if (number !== undefined) return `QEMU was ended by signal ${number}`;
  const name = run.outcome.signal;
  return name !== null && SIGNALS.includes(name) ? `QEMU was ended by ${name}` : undefined;
}

/** Returns the size and modification time of each image file, which change when it is written. */
async function stamps(paths: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const path of paths) {
    try {
      const { size, mtimeMs } = await stat(path);
      found.set(path, `${size} ${mtimeMs}`);
    } catch {
      // A missing file has no stamp. QEMU reports better what is wrong with a disk.
    }
  }
  return found;
}

function checkUntouched(
  options: QemuOptions,
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
  failure: KvmFailure,
): void {
  const written = (options.disks ?? []).filter((path) => before.get(path) !== after.get(path));
  if (written.length === 0) return;
  throw new UserError(
    "kvm",
    `Cannot start the guest again under TCG: it wrote to ${shellQuote(written)} before KVM ` +
      `failed (${failure.line})`,
    { hint: "Write the images again and start them with --accel tcg" },
  );
}

/** Calls back when nothing is heard for a while, until one of the texts shows that all is well. */
function silenceWatcher(
  { aliveTexts = [], silenceMs = KVM_SILENCE_MS }: QemuOptions,
  onSilence: (seconds: number) => void,
): { heard(chunk: Uint8Array): void; stop(): void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isAlive = false;
  const stop = () => clearTimeout(timer);
  const begin = () => timer = setTimeout(() => onSilence(silenceMs / 1000), silenceMs);
  const watch = textWatcher(aliveTexts, () => {
    isAlive = true;
    stop();
  });
  begin();
  return {
    heard: (chunk) => {
      watch(chunk);
      if (isAlive) return;
      stop();
      begin();
    },
    stop,
  };
}

/**
 * Makes a function that takes the chunks of a stream and calls back when one of the texts occurs,
 * also across chunks. It keeps no more bytes than the longest text has.
 */
function textWatcher(
  texts: readonly string[],
  onText: (text: string) => void,
): (chunk: Uint8Array) => void {
  const decoder = new TextDecoder("latin1");
  const longest = Math.max(1, ...texts.map(({ length }) => length));
  let tail = "";
  return (chunk) => {
    const seen = tail + decoder.decode(chunk);
    for (const text of texts) if (seen.includes(text)) onText(text);
    tail = longest === 1 ? "" : seen.slice(1 - longest);
  };
}

/** Splits a stream of bytes into lines; `end` passes on a last one without a newline. */
function lineSplitter(
  onLine: (line: string) => void,
): { push(chunk: Uint8Array): void; end(): void } {
  const decoder = new TextDecoder();
  let rest = "";
  return {
    push: (chunk) => {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r?\n/);
      rest = lines.pop() ?? "";
      lines.forEach(onLine);
    },
    end: () => {
      if (rest !== "") onLine(rest);
      rest = "";
    },
  };
}
