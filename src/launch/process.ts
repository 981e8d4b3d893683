// SPDX-License-Identifier: MIT
/**
 * Child processes: started without a shell, waited for until they are gone, and killed when this
 * process ends.
 *
 * A child stays in our process group. Ctrl-C thus reaches it even when we are stuck, and an
 * interactive child keeps its terminal. The drawback is that it may end before our own signal
 * handler has run, which {@link ./qemu.ts} accounts for.
 *
 * Four things end a child early, none of which needs native code:
 *
 *   abort                SIGTERM, then SIGKILL after a grace time
 *   callback that throws the same, then the caller gets the error
 *   process.exit         SIGKILL from an exit listener
 *   kill -9 of us        SIGKILL from Linux, if setpriv of util-linux is installed
 *
 * @module
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { access, constants, stat } from "node:fs/promises";
import { delimiter, isAbsolute, resolve } from "node:path";
import process from "node:process";
import type { Duplex, Writable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { messageOf, UserError } from "../errors.ts";

/** Default time between SIGTERM and SIGKILL, in milliseconds. */
const KILL_AFTER_MS = 5000;

/** How long to wait for the end of the streams of a child that has exited, in milliseconds. */
const DRAIN_MS = 500;

/** What to run and what to do with its streams. */
export interface ProcessOptions {
  /** Program and arguments, at least the program. One without a `/` is looked up in PATH. */
  readonly argv: readonly string[];
  /** Working directory; ours if absent. */
  readonly cwd?: string;
  /** The whole environment of the child; ours if absent. */
  readonly env?: Readonly<Record<string, string>>;
  /** `inherit` gives the child our standard input, `ignore` /dev/null, `pipe` what we write. */
  readonly stdin: "inherit" | "ignore" | "pipe";
  /** Told once, when the child has started. */
  readonly onSpawn?: (child: RunningChild) => void;
  /** Told the standard input of the child as a stream, once, when it has started; for `pipe`. */
  readonly onInput?: (input: Writable) => void;
  /** Takes standard output in chunks of any size. If absent, the child gets ours. */
  readonly onStdout?: (chunk: Uint8Array) => void;
  /** Takes standard error in chunks of any size. If absent, the child gets ours. */
  readonly onStderr?: (chunk: Uint8Array) => void;
  /**
   * Gives the child one end of a pair of sockets as its descriptor 3. Told the other end, once, when
   * it has started.
   */
  readonly onChannel?: (channel: Duplex) => void;
  /** Ends the child. The promise still settles only when the child is gone. */
  readonly signal?: AbortSignal;
  /** Time between SIGTERM and SIGKILL, in milliseconds; 5000 if absent. */
  readonly killAfterMs?: number;
  /**
   * Starts the child in a session of its own, which the keys of our terminal do not reach: Ctrl-C
   * is then ours alone. Such a child cannot use the terminal.
   */
  readonly isApart?: boolean;
  /** How to get the program, as a sentence: the hint if it is missing. */
  readonly hint?: string;
}

/** A child that has started. */
export interface RunningChild {
  readonly pid: number;
  /**
   * Writes to its standard input; only where that is a pipe. What comes while the pipe is full is lost: a
   * child that does not read would take any amount of memory here.
   */
  readonly write?: (bytes: Uint8Array) => void;
  /** Ends its standard input; only where that is a pipe. */
  readonly end?: () => void;
}

/** How a child ended: `code` is null when `signal` names the signal that killed it. */
export interface ProcessOutcome {
  readonly code: number | null;
  readonly signal: string | null;
}

/**
 * Runs one program to its end.
 *
 * An abort is not an error here: look at `signal.aborted`, not at the outcome, as a child may exit
 * with 0 on SIGTERM. If the signal is already aborted, nothing is started, and the outcome is that
 * of SIGTERM.
 *
 * @returns How it ended, once it is gone and its streams are drained.
 * @throws {UserError} "launch", if the program or `cwd` is missing or cannot be used.
 * @throws The error of `onStdout` or `onStderr`, once the child is gone.
 */
export async function runProcess(options: ProcessOptions): Promise<ProcessOutcome> {
  const { argv, signal } = options;
  const name = argv[0];
  if (name === undefined) throw new TypeError("argv has no program");
  const { cwd } = options;
  if (cwd !== undefined && !(await isDirectory(cwd))) {
    throw new UserError("launch", `Cannot run "${name}" in "${cwd}": no such directory`);
  }
  const program = await requireProgram(name, options);
  const prefix = await parentDeathPrefix();
  if (signal?.aborted) return { code: null, signal: "SIGTERM" };
  try {
    const outcome = await supervise(options, [...prefix, program, ...argv.slice(1)]);
    // A key that ended the child was sent to us too. Signals are only handled between two tasks.
    await setImmediate();
    return outcome;
  } catch (error) {
    if (!(error instanceof SpawnError)) throw error;
    throw new UserError("launch", `Cannot run "${name}": ${messageOf(error.cause)}`, {
      hint: `The command was: ${shellQuote(argv)}`,
      cause: error.cause,
    });
  }
}

/**
 * Finds a program like {@link findProgram}, or fails.
 *
 * @param hint How to get it, as a sentence.
 * @throws {UserError} "launch" if it is missing.
 */
export async function requireProgram(
  name: string,
  options: Pick<ProcessOptions, "cwd" | "env" | "hint"> = {},
): Promise<string> {
  const program = await findProgram(name, options);
  if (program !== undefined) return program;
  const isPath = name.includes("/");
  const problem = isPath ? "no such executable file" : "not found in PATH";
  throw new UserError("launch", `Cannot run "${name}": ${problem}`, {
    hint: options.hint ?? (isPath ? "Check the path" : `Install ${name}, or give its full path`),
  });
}

/**
 * Finds a program.
 *
 * @param name A path, or a name to look up in the PATH of `env`, or in ours if `env` is absent.
 * Only absolute directories count: what lies in the current one does not run because of its name.
 * @returns An absolute path to an executable file, or undefined.
 */
export async function findProgram(
  name: string,
  { cwd = ".", env }: Pick<ProcessOptions, "cwd" | "env"> = {},
): Promise<string | undefined> {
  const folders = name.includes("/") ? [""] : searchedFolders((env ?? process.env)["PATH"]);
  for (const folder of folders) {
    const file = resolve(cwd, folder, name);
    try {
      await access(file, constants.X_OK);
      if ((await stat(file)).isFile()) return file;
    } catch {
      // Not here, or not executable by us: the search goes on, as in execvp(3).
    }
  }
  return undefined;
}

/** Where programs are if PATH does not say it. */
const DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin";

/** Returns the absolute directories of a PATH, or the usual ones if it has none. */
function searchedFolders(path: string | undefined): string[] {
  const folders = (path ?? "").split(delimiter).filter((folder) => isAbsolute(folder));
  return folders.length > 0 ? folders : DEFAULT_PATH.split(delimiter);
}

/**
 * Returns the environment of a child. Its PATH, too, has only absolute directories: a child such as
 * sudo looks programs up by itself.
 */
function childEnvironment(env: ProcessOptions["env"]): Record<string, string | undefined> {
  if (env !== undefined && env["PATH"] === undefined) return { ...env };
  const all = { ...(env ?? process.env) };
  return { ...all, PATH: searchedFolders(all["PATH"]).join(delimiter) };
}

/** Directories of programs for root, which are not in every PATH. */
const ROOT_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/**
 * Where e2fsprogs is on macOS: Homebrew, on Apple silicon and on Intel, does not link it into a
 * directory of PATH; MacPorts.
 */
const MAC_FOLDERS = [
  "/opt/homebrew/opt/e2fsprogs/sbin",
  "/usr/local/opt/e2fsprogs/sbin",
  "/opt/local/sbin",
];

/** Says how to install something: by the name of its package in Debian, and in Homebrew. */
export function installHint(debian: string, homebrew: string): string {
  return process.platform === "darwin"
    ? `With Homebrew: brew install ${homebrew}`
    : `On Debian: apt-get install ${debian}`;
}

/**
 * Finds a program that may be in a directory of programs for root.
 *
 * @param hint How to get it, as a sentence.
 * @throws {UserError} "launch" if it is missing.
 */
export async function findSystemProgram(name: string, hint: string): Promise<string> {
  const own = process.platform === "darwin" ? MAC_FOLDERS : [];
  const folders = [...searchedFolders(process.env["PATH"]), ...ROOT_FOLDERS, ...own];
  const PATH = folders.join(delimiter);
  const program = await findProgram(name, { env: { PATH } });
  if (program !== undefined) return program;
  throw new UserError("launch", `Cannot find ${name}`, { hint });
}

/**
 * Quotes a command line for a message, to be pasted into a POSIX shell.
 *
 * @param argv Arguments. One without characters special to a shell is left unquoted.
 */
export function shellQuote(argv: readonly string[]): string {
  // An unquoted "=" in the first word would make it an assignment.
  return argv.map((arg, i) =>
    (i === 0 ? /^[\w@%+:,./-]+$/ : /^[\w@%+=:,./-]+$/).test(arg)
      ? arg
      : `'${arg.replaceAll("'", `'\\''`)}'`
  ).join(" ");
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}

/** The runtime could not start the child; `cause` is what it said. */
class SpawnError extends Error {}

function supervise(options: ProcessOptions, command: string[]): Promise<ProcessOutcome> {
  const { onStdout, onStderr, onChannel, signal, killAfterMs = KILL_AFTER_MS } = options;
  return new Promise((settle, reject) => {
    let child: ChildProcess;
    try {
      child = spawn(command[0] ?? "", command.slice(1), {
        ...(options.isApart && { detached: true }),
        stdio: [
          options.stdin,
          onStdout ? "pipe" : "inherit",
          onStderr ? "pipe" : "inherit",
          ...(onChannel ? ["pipe"] as const : []),
        ],
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        env: childEnvironment(options.env),
      });
    } catch (cause) {
      reject(new SpawnError("spawn", { cause }));
      return;
    }

    let failure: { readonly error: unknown } | undefined;
    let stopping = false;
    let gone = false;
    // Not child.kill(): under Deno a second call does nothing, and the first one decides which
    // signal is reported at the end. Until "exit", the pid still belongs to the child.
    const send = (name: "SIGTERM" | "SIGKILL") => {
      if (gone || child.pid === undefined) return;
      try {
        process.kill(child.pid, name);
      } catch {
        // It has just ended, or now runs as another user. Wait for "close".
      }
    };
    const timers: ReturnType<typeof setTimeout>[] = [];
    // A grandchild that is still running holds the pipes open. Its output is not waited for.
    const drain = () => {
      timers.push(setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
        child.stdio[3]?.destroy();
      }, DRAIN_MS));
    };
    const stop = () => {
      stopping = true;
      if (gone) return drain();
      send("SIGTERM");
      timers.push(setTimeout(() => send("SIGKILL"), killAfterMs));
    };
    const killNow = () => send("SIGKILL");
    const guard = (take: (chunk: Uint8Array) => void) => (chunk: Uint8Array) => {
      if (failure) return;
      try {
        take(chunk);
      } catch (error) {
        failure = { error };
        stop();
      }
    };
    const release = () => {
      timers.forEach(clearTimeout);
      signal?.removeEventListener("abort", stop);
      process.off("exit", killNow);
    };

    process.on("exit", killNow);
    signal?.addEventListener("abort", stop, { once: true });
    if (onStdout) child.stdout?.on("data", guard(onStdout));
    if (onStderr) child.stderr?.on("data", guard(onStderr));
    // A child that is gone reads nothing more.
    child.stdin?.on("error", () => {});
    const { pid, stdin } = child;
    if (pid !== undefined) {
      const write = (bytes: Uint8Array) => {
        if (stdin?.writable && !stdin.writableNeedDrain) stdin.write(bytes);
      };
      options.onSpawn?.({ pid, ...(stdin && { write, end: () => stdin.end() }) });
      if (stdin) options.onInput?.(stdin);
      const channel = child.stdio[3] as Duplex | null | undefined;
      if (channel) onChannel?.(channel);
    }
    child.on("error", (cause) => {
      if (child.pid !== undefined) return; // a signal that could not be sent: "close" follows
      release();
      reject(new SpawnError("spawn", { cause }));
    });
    child.on("exit", () => {
      gone = true;
      if (stopping) drain();
    });
    child.on("close", (code, killedBy) => {
      release();
      if (failure) reject(failure.error);
      else settle({ code, signal: killedBy });
    });
  });
}

let knownPrefix: readonly string[] | undefined;

/** Starts the rest if the parent is still the first argument. */
const IF_PARENT = '[ "$PPID" -eq "$0" ] && exec "$@"';

/**
 * Returns the words before a command that make Linux kill the child when we die; none if setpriv
 * cannot do that.
 *
 * `setpriv --pdeathsig` sets PR_SET_PDEATHSIG and then executes the program, so the pid stays the
 * same. The kernel does not send it for a death before that: hence the shell, which then looks at
 * its parent. util-linux has it since 2.33; the setpriv of busybox does not, hence the trial run.
 * The kernel sends the signal when the thread that started the child exits: start children from the
 * main thread, or from one that lives as long.
 */
async function parentDeathPrefix(): Promise<readonly string[]> {
  if (knownPrefix === undefined) {
    const find = async (name: string) =>
      process.platform === "linux" ? await findProgram(name) : undefined;
    const [setpriv, shell] = await Promise.all([find("setpriv"), find("sh")]);
    const words = ["--pdeathsig", "KILL", "--"];
    knownPrefix = setpriv !== undefined && shell !== undefined &&
        spawnSync(setpriv, [...words, setpriv, "--version"], { stdio: "ignore" }).status === 0
      ? [setpriv, ...words, shell, "-c", IF_PARENT, String(process.pid)]
      : [];
  }
  return knownPrefix;
}
