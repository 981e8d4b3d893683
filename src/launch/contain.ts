// SPDX-License-Identifier: MIT
/**
 * Keeps the processes of a bootstrap together, so that all of them end with it, and it ends with
 * us, also where we are killed: a PID namespace ends as a whole with its first process.
 *
 * unshare makes the namespace. Its first process is a shell that starts the bootstrap and a watcher.
 * The watcher reads a FIFO of which we hold the only other end, and kills all others in the
 * namespace when that is closed. This reaches through sudo, whose processes an ordinary user cannot
 * signal and which does not keep PR_SET_PDEATHSIG. The FIFO has no name once it is open: a shell
 * finds it in /proc before there is a namespace, and no file is left behind.
 *
 * bwrap makes a PID namespace itself, but its first process asks for PR_SET_PDEATHSIG only after it
 * has started the bootstrap: where the bwrap outside is killed before that, both stay. So bwrap,
 * too, runs in a namespace of ours, as an ordinary user in one with a user namespace. Where the
 * system makes none of these, --die-with-parent has to do.
 *
 * For chroot the namespace also has mounts of its own: what a bootstrap mounts is gone with it.
 *
 * @module
 */
import { closeSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { systemCode, UserError } from "../errors.ts";
import { makeScratch } from "../runtime/scratch.ts";
import { asRoot } from "./mount.ts";
import { findProgram, runProcess } from "./process.ts";

/** A command that starts a bootstrap whose processes are kept together. */
export interface Contained {
  readonly argv: readonly string[];
  /** Whether the exit code is that of a shell: 128 and the number of the signal that killed it. */
  readonly isShell: boolean;
  /** Ends every process that the command has started. May be called twice. */
  release(): void;
}

/** The hint where nothing can be run as root. */
export const ROOT_HINT = "Run it as root, or as a user who may use sudo; --bwrap needs neither";

/** The words that are told to bwrap. */
const BWRAP_WORDS = ["--unshare-pid", "--die-with-parent"];

/**
 * Opens the FIFO, the first argument, and starts the rest. A reader would wait for us if we end just
 * as it opens: so it is a writer first, for as long as that takes.
 */
const OPENS = `exec 4<>"$1" 3<"$1" 4>&- || exit
shift
exec "$@"`;

/**
 * What both shells wait with. A key that the terminal sends to all of us is for the bootstrap;
 * unlike a signal that is ignored, one with a trap is as usual in a child. A shell that tells what
 * signal has killed a child does it where nobody reads it; it would do it in the output of a
 * command without a subshell.
 */
const STAYS = "trap : HUP INT QUIT TERM; exec 4>&2 2>/dev/null";

/** Starts the first process of the namespace, and waits for it. */
const OUTSIDE = `${STAYS}
(exec "$@" 2>&4 4>&-)
exit $?`;

/**
 * The first process of a namespace; its arguments are the command. The bootstrap is not the first
 * one itself, as signals do not end that. The watcher heeds none from its start. It kills more than
 * once: if we are gone already, the bootstrap may only start after the first time. It ends with the
 * first process. Outside of a namespace "all others" would be the whole machine.
 */
const FIRST = `[ $$ -eq 1 ] || exit 1
trap "" HUP INT QUIT TERM
{ read -r _ <&3; while :; do kill -KILL -1; sleep 1; done; } </dev/null >/dev/null 2>&1 &
${STAYS}
(exec "$@" 2>&4 3<&- 4>&-)
exit $?`;

/**
 * Returns the command that keeps the processes of `argv` together, or `argv` where the system
 * cannot do that.
 *
 * @param argv The command, without sudo; chroot or bwrap in it has its full path.
 * @param needsRoot Whether it is run by sudo, unless we are root.
 * @param signal Ends the trials; the command is then not to be run.
 * @param onNotice Takes a message about what cannot be kept together.
 * @throws {UserError} "launch" where it needs root, and sudo does not give it.
 */
export async function contain(
  argv: readonly string[],
  needsRoot: boolean,
  signal: AbortSignal,
  onNotice: (text: string) => void,
): Promise<Contained> {
  const bare = { argv: needsRoot ? asRoot(argv) : argv, isShell: false, release() {} };
  if (process.platform !== "linux") return bare;
  // The first of them: a target, too, may have such a name.
  const place = argv.findIndex((word) => /\/(chroot|bwrap)$/.test(word));
  const isSandbox = argv[place]?.endsWith("/bwrap") ?? false;
  const contained = isSandbox
    ? await inSandbox(argv, place + 1, signal)
    : await inRootNamespace(argv, needsRoot, signal);
  if (contained !== undefined) return contained;
  if (signal.aborted) return bare;
  const program = isSandbox ? "bwrap" : "unshare";
  onNotice(
    `${program} makes no PID namespace here: a process that the bootstrap leaves may outlive it`,
  );
  return bare;
}

async function inSandbox(
  argv: readonly string[],
  at: number,
  signal: AbortSignal,
): Promise<Contained | undefined> {
  const whole = argv.toSpliced(at, 0, ...BWRAP_WORDS);
  const nothing = await findProgram("true");
  if (nothing === undefined) return undefined;
  const bwrap = argv[at - 1]!;
  const inside = ["--unshare-user", "--bind", "/", "/", "--proc", "/proc", nothing];
  const trial = [bwrap, ...BWRAP_WORDS, ...inside];
  // Root may need no user namespace, an ordinary user does.
  const kinds = [[], ["--user", "--map-current-user"]];
  const contained = await inNamespace(whole, { kinds, trial, signal, whoRuns: (words) => words });
  if (contained !== undefined) return contained;
  const alone = { argv: whole, isShell: false, release() {} };
  if (await works(trial, signal)) return alone;
  // One that makes no sandbox at all says so itself.
  return await works([bwrap, ...inside], signal) ? undefined : alone;
}

async function inRootNamespace(
  argv: readonly string[],
  needsRoot: boolean,
  signal: AbortSignal,
): Promise<Contained | undefined> {
  const shell = await findProgram("sh");
  if (shell === undefined) return undefined;
  // Under sudo once only: it may ask for a password each time.
  const isAsked = needsRoot && process.getuid?.() !== 0;
  return await inNamespace(argv, {
    kinds: isAsked ? [["--mount"]] : [["--mount"], []],
    trial: [shell, "-c", ":"],
    signal,
    whoRuns: (words) => needsRoot ? asRoot(words) : words,
    isAsked,
  });
}

/** What a namespace is to be like. */
interface NamespaceOptions {
  /** More words for unshare; the first that work are taken. */
  readonly kinds: readonly (readonly string[])[];
  /** A command that ends with 0 where the namespace will do. */
  readonly trial: readonly string[];
  readonly signal: AbortSignal;
  /** Adds sudo where it is needed. */
  readonly whoRuns: (argv: readonly string[]) => readonly string[];
  /** Whether sudo may refuse, which is an error then. */
  readonly isAsked?: boolean;
}

/** Returns the command in a PID namespace that ends with us, or undefined if there can be none. */
async function inNamespace(
  argv: readonly string[],
  { kinds, trial, signal, whoRuns, isAsked = false }: NamespaceOptions,
): Promise<Contained | undefined> {
  const [unshare, shell] = await Promise.all([findProgram("unshare"), findProgram("sh")]);
  if (unshare === undefined || shell === undefined) return undefined;
  const fifo = await openFifo(signal);
  if (fifo === undefined) return undefined;
  let isOpen = true;
  const release = () => {
    if (isOpen) closeSync(fifo);
    isOpen = false;
  };
  const script = (text: string) => [shell, "-c", text, "seedstrap"];
  let isRun = false;
  for (const kind of kinds) {
    const within = (words: readonly string[]) => [
      ...[...script(OPENS), `/proc/${process.pid}/fd/${fifo}`],
      ...[unshare, "--pid", ...kind, "--", ...script(OUTSIDE), ...script(FIRST), ...words],
    ];
    // The word comes where sudo has run the command at all.
    const tried = whoRuns([...script('echo; exec "$@"'), ...within(trial)]);
    if (await works(tried, signal, () => isRun = true)) {
      return { argv: whoRuns(within(argv)), isShell: true, release };
    }
    if (!isAsked || isRun || signal.aborted) continue;
    release();
    throw notRoot();
  }
  release();
  return undefined;
}

/** Opens a FIFO without a name, for both reading and writing, which waits for nobody. */
async function openFifo(signal: AbortSignal): Promise<number | undefined> {
  const mkfifo = await findProgram("mkfifo");
  if (mkfifo === undefined) return undefined;
  let dir: string | undefined;
  try {
    dir = makeScratch(join(tmpdir(), "seedstrap-fifo-"));
    const path = join(dir, "fifo");
    return await works([mkfifo, "-m", "600", path], signal) ? openSync(path, "r+") : undefined;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  } finally {
    if (dir !== undefined) rmSync(dir, { recursive: true });
  }
}

/** The error where sudo, which has said why, runs nothing as root. */
function notRoot(): UserError {
  return new UserError("launch", "chroot needs root, and sudo does not run it", {
    hint: ROOT_HINT,
  });
}

/** Whether a command ends with 0. sudo may ask for a password. */
async function works(
  argv: readonly string[],
  signal: AbortSignal,
  onStdout = () => {},
): Promise<boolean> {
  const silent = () => {};
  const stdin = argv[0] === "sudo" ? "inherit" : "ignore";
  const onStderr = argv[0] === "sudo" ? {} : { onStderr: silent };
  return (await runProcess({ argv, signal, stdin, onStdout, ...onStderr })).code === 0;
}
