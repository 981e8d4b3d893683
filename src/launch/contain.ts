// SPDX-License-Identifier: MIT
/**
 * Keeps the processes of a bootstrap together, so that all of them end with it, and it ends with
 * us, also where we are killed: a PID namespace ends as a whole with its first process.
 *
 * bwrap does that by itself, if asked. For chroot, unshare makes the namespace, and its first
 * process is a shell that starts the bootstrap and a watcher. The watcher reads a FIFO of which we
 * hold the only other end, and kills all others in the namespace when that is closed. This reaches
 * through sudo, whose processes an ordinary user cannot signal and which does not keep
 * PR_SET_PDEATHSIG. The FIFO has no name once it is open: the shell finds it in /proc, and no file
 * is left behind.
 *
 * The namespace also has mounts of its own: what a bootstrap mounts is gone with it.
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
 * What both shells begin with. A key that the terminal sends to all of us is for the bootstrap;
 * unlike a signal that is ignored, one with a trap is as usual in a child. A shell that tells what
 * signal has killed a child does it where nobody reads it; it would do it in the output of a
 * command without a subshell.
 */
const STAYS = "trap : HUP INT QUIT TERM; exec 4>&2 2>/dev/null";

/** Starts the first process of the namespace, and waits for it. */
const OUTSIDE = `${STAYS}
(exec "$@" 2>&4 4>&-)
exit $?`;

/** Holds in the first process of a namespace only. Elsewhere "all others" are the whole machine. */
const IS_FIRST = "[ $$ -eq 1 ] || exit 1";

/**
 * The first process of the namespace; its arguments are the FIFO and the command. The bootstrap is
 * not the first one itself, as signals do not end that.
 */
const FIRST = `${IS_FIRST}
${STAYS}
exec 3<"$1" || exit
shift
{ trap "" HUP INT QUIT TERM; read -r _ <&3; kill -KILL -1; } </dev/null >/dev/null 4>&- &
(exec "$@" 2>&4 3<&- 4>&-)
exit $?`;

/**
 * Returns the command that keeps the processes of `argv` together, or `argv` where the system
 * cannot do that.
 *
 * @param argv The command, without sudo; chroot or bwrap in it has its full path.
 * @param needsRoot Whether it is run by sudo, unless we are root.
 * @param onNotice Takes a message about what cannot be kept together.
 * @throws {UserError} "launch" where it needs root, and sudo does not give it.
 */
export async function contain(
  argv: readonly string[],
  needsRoot: boolean,
  onNotice: (text: string) => void,
): Promise<Contained> {
  const bare = { argv: needsRoot ? asRoot(argv) : argv, isShell: false, release() {} };
  if (process.platform !== "linux") return bare;
  // The first of them: a target, too, may have such a name.
  const place = argv.findIndex((word) => /\/(chroot|bwrap)$/.test(word));
  const isSandbox = argv[place]?.endsWith("/bwrap") ?? false;
  const contained = isSandbox
    ? await inSandbox(argv, place + 1)
    : await inNamespace(argv, needsRoot);
  if (contained !== undefined) return contained;
  const program = isSandbox ? "bwrap" : "unshare";
  onNotice(
    `${program} makes no PID namespace here: a process that the bootstrap leaves may outlive it`,
  );
  return bare;
}

async function inSandbox(argv: readonly string[], at: number): Promise<Contained | undefined> {
  const whole = argv.toSpliced(at, 0, ...BWRAP_WORDS);
  const trial = ["--unshare-user", "--bind", "/", "/", "--proc", "/proc"];
  const nothing = await findProgram("true");
  if (nothing === undefined) return undefined;
  const bwrap = argv[at - 1]!;
  const contained = { argv: whole, isShell: false, release() {} };
  if (await works([bwrap, ...BWRAP_WORDS, ...trial, nothing])) return contained;
  // One that makes no sandbox at all says so itself.
  return await works([bwrap, ...trial, nothing]) ? undefined : contained;
}

async function inNamespace(
  argv: readonly string[],
  needsRoot: boolean,
): Promise<Contained | undefined> {
  const [unshare, shell] = await Promise.all([findProgram("unshare"), findProgram("sh")]);
  if (unshare === undefined || shell === undefined) return undefined;
  const inRoot = (words: readonly string[]) => needsRoot ? asRoot(words) : [...words];
  let isRun = false;
  // Under sudo once only: it may ask for a password each time.
  const isAsked = needsRoot && process.getuid?.() !== 0;
  for (const more of isAsked ? [["--mount"]] : [["--mount"], []]) {
    const namespace = [unshare, "--pid", ...more, "--", shell, "-c", OUTSIDE, "seedstrap"];
    // The word comes where sudo has run the command at all.
    const trial = [
      shell,
      "-c",
      'echo; exec "$@"',
      "seedstrap",
      ...namespace,
      shell,
      "-c",
      IS_FIRST,
    ];
    if (!await works(inRoot(trial), () => isRun = true)) {
      if (isAsked && !isRun) throw notRoot();
      continue;
    }
    const fifo = await openFifo();
    if (fifo === undefined) return undefined;
    let isOpen = true;
    return {
      argv: inRoot([
        ...[...namespace, shell, "-c", FIRST, "seedstrap"],
        ...[`/proc/${process.pid}/fd/${fifo}`, ...argv],
      ]),
      isShell: true,
      release() {
        if (isOpen) closeSync(fifo);
        isOpen = false;
      },
    };
  }
  return undefined;
}

/** Opens a FIFO without a name, for both reading and writing, which waits for nobody. */
async function openFifo(): Promise<number | undefined> {
  const mkfifo = await findProgram("mkfifo");
  if (mkfifo === undefined) return undefined;
  let dir: string | undefined;
  try {
    dir = makeScratch(join(tmpdir(), "seedstrap-fifo-"));
    const path = join(dir, "fifo");
    return await works([mkfifo, "-m", "600", path]) ? openSync(path, "r+") : undefined;
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
async function works(argv: readonly string[], onStdout = () => {}): Promise<boolean> {
  const silent = () => {};
  const stdin = argv[0] === "sudo" ? "inherit" : "ignore";
  const onStderr = argv[0] === "sudo" ? {} : { onStderr: silent };
  return (await runProcess({ argv, stdin, onStdout, ...onStderr })).code === 0;
}
