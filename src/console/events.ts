// SPDX-License-Identifier: MIT
/**
 * What a bootstrap prints on its console, as events.
 *
 * Every stage has its own way of saying where it is (live-bootstrap 984b8322):
 *
 *   SeaBIOS        its version, when the machine begins
 *   builder-hex0   "src", and the path on the next line, for each entry of the srcfs; " +> CMD" comes
 *                  from the shell that it runs; "Build finished." when its first process is gone,
 *                  "ERROR: no hda writes!" where that has written no disk. Its lines go through the
 *                  BIOS, which ends them after 80 columns
 *   kaem           " +> CMD" before each command; "Subprocess error N" and "ABORTING HARD" when one
 *                  has failed
 *   stage0-posix   " +> ./bootstrap-seeds/POSIX/ARCH/SEED SCRIPT", its first command
 *   steps, kaem    " +> kaem --file /steps/N.sh", then " +> pkg=NAME" and " +> kaem --file passN.kaem"
 *   steps, bash    "NAME: beginning build using script passN.sh", one line for each phase of it,
 *                  "NAME: build successful", "NAME: installing prebuilt package."
 *   checksums      "PATH: OK" or "PATH: FAILED"
 *   payload-import "payload-import: I/N NAME, BYTES bytes, HOW" and "payload-import: done: …"
 *   Fiwix          its version, "PANIC", and "Safe to Power Off" when its last process has ended
 *   Linux          "Linux version N", "Kernel panic - not syncing", and "reboot: Power down" when it
 *                  switches off
 *
 * A line that is not known changes nothing.
 *
 * @module
 */

/** The parts of a run: the BIOS, srcfs into memory, stage0-posix, the steps of the manifest. */
export const RUN_PHASES = ["boot", "load", "stage0", "steps"] as const;
export type RunPhase = (typeof RUN_PHASES)[number];

/** The kernels of a run, in the order in which they take over. */
export const KERNELS = ["builder-hex0", "fiwix", "linux"] as const;
export type Kernel = (typeof KERNELS)[number];

/** Something that a line of the console says. */
export type ConsoleEvent =
  /** A part of the run begins. "boot" again says that the machine has begun from its start. */
  | { readonly kind: "phase"; readonly phase: RunPhase }
  /** A kernel has begun to run. */
  | { readonly kind: "kernel"; readonly name: Kernel }
  /** Entries of the srcfs so far, and their bytes; 0 where nobody knows the sizes. */
  | { readonly kind: "load"; readonly files: number; readonly bytes: number }
  /** A step begins, in the given pass. */
  | { readonly kind: "step"; readonly name: string; readonly pass: number }
  /** A phase of a step in bash begins, as {@link STEP_PHASES} names it. */
  | { readonly kind: "step-phase"; readonly name: string; readonly phase: string }
  /** A step is done; kaem says so only by going on. */
  | { readonly kind: "step-done"; readonly name: string }
  | { readonly kind: "jump"; readonly name: string }
  | { readonly kind: "checksum"; readonly path: string; readonly isRight: boolean }
  /** Files that payload-import has gone through so far, and the bytes that it has written. */
  | { readonly kind: "import"; readonly files: number; readonly bytes: number }
  | { readonly kind: "import-done"; readonly files: number; readonly bytes: number }
  /** Something has failed, in the words of whoever says so. */
  | { readonly kind: "fault"; readonly text: string }
  /** The guest switches itself off in good order: only a running Linux does. */
  | { readonly kind: "power-off" }
  /** The guest has stopped and waits for ever. */
  | { readonly kind: "halt"; readonly text: string };

/** The phases of a step in bash, by what helpers.sh says when one begins. */
export const STEP_PHASES: ReadonlyMap<string, string> = new Map([
  ["getting sources.", "get"],
  ["unpacking source.", "unpack"],
  ["preparing source.", "prepare"],
  ["configuring source.", "configure"],
  ["compiling source.", "compile"],
  ["install to fakeroot.", "install"],
  ["postprocess binaries.", "postprocess"],
  ["creating package.", "package"],
  ["checksumming created package.", "checksum"],
  ["cleaning up.", "clean"],
  ["installing package.", "apply"],
]);

/** A name of a step: upstream's reader takes tokens of at most 63 bytes. */
const STEP = "([\\w.+-]{1,63})";

const NAMED = new RegExp(`^pkg=${STEP}$`);
const KAEM_PASS = /^kaem --file pass(\d{1,4})\.kaem$/;
const SCRIPT = /^(?:kaem --file|bash) \/steps\/\d{1,4}\.sh$/;
const JUMP = /^(?:kaem --file|bash|\.) \/?steps\/jump\/([\w.+-]{1,63})\.sh$/;
const STAGE0 = /^\.?\/bootstrap-seeds\/POSIX\/\w{1,20}\//;
const BASH_STEP = new RegExp(`^${STEP}: (.{1,60})$`);
const BASH_PASS = /^beginning build using script pass(\d{1,4})\.sh$/;
const CHECKSUM = /^(\S{1,1024}): (OK|FAILED)$/;
const IMPORTED = /^payload-import: (\d{1,9})\/\d{1,9} .*, (\d{1,15}) bytes, (kept|restored)$/;
const IMPORT_DONE =
  /^payload-import: done: (\d{1,9}) files restored, (\d{1,9}) kept, (\d{1,15}) bytes written$/;
const FAULT =
  /^(?:Subprocess error\b.*|ABORTING HARD|ERROR: no hda writes!|(?:guard|one)_disk: REFUSED: .*)$/;
const FIWIX = /^\s*Fiwix (?:kernel )?v\d/;
/** Where a line of Linux begins: it ends no line that a program has left open. */
const PRINTK = "(?:^|\\[ *\\d+\\.\\d+\\] *)";
const LINUX = new RegExp(`${PRINTK}Linux version \\d`);
const POWER_DOWN = new RegExp(`${PRINTK}reboot: Power down$`);

/** Width of the screen of a BIOS, which ends a line there. */
const BIOS_COLUMNS = 80;

const NOTHING: readonly ConsoleEvent[] = [];

/** Finds the events of a console, line by line. */
export class EventReader {
  readonly #loadSizes: readonly number[];
  /** The step that kaem has named, until it says which pass. */
  #named: string | undefined;
  #phase: RunPhase | undefined;
  /** What the next line is, where the one before says that. */
  #awaited: "path" | "rest of path" | undefined;
  #load = { files: 0, bytes: 0 };
  #importedBytes = 0;

  /** @param loadSizes Bytes of each entry of the srcfs, in its order, where they are known. */
  constructor(loadSizes: readonly number[] = []) {
    this.#loadSizes = loadSizes;
  }

  /** What a line says: nothing, where it says nothing that is known. */
  read(line: string): readonly ConsoleEvent[] {
    if (this.#phase === undefined || this.#phase === "boot" || this.#phase === "load") {
      const loaded = this.#loading(line);
      if (loaded !== undefined) return loaded;
    }
    const at = line.indexOf("+> ");
    if (at >= 0 && line.slice(0, at).trim() === "") {
      return this.#command(line.slice(at + "+> ".length).trimEnd());
    }
    return this.#other(line.trimEnd());
  }

  /** The two lines that builder-hex0 prints of each entry; the second may be cut in two. */
  #loading(line: string): readonly ConsoleEvent[] | undefined {
    const awaited = this.#awaited;
    this.#awaited = undefined;
    if (awaited === "rest of path" && line !== "src") return NOTHING;
    if (line === "src") {
      this.#awaited = "path";
      return NOTHING;
    }
    if (awaited !== "path" || !/^(?:\.$|\.?\/)/.test(line)) return undefined;
    if (line.length === BIOS_COLUMNS) this.#awaited = "rest of path";
    const { files, bytes } = this.#load;
    this.#load = { files: files + 1, bytes: bytes + (this.#loadSizes[files] ?? 0) };
    const began: readonly ConsoleEvent[] = this.#phase === "load"
      ? NOTHING
      : [{ kind: "kernel", name: "builder-hex0" }, ...this.#enter("load")];
    return [...began, { kind: "load", ...this.#load }];
  }

  /** A part of the run, where it was not in it before. */
  #enter(phase: RunPhase): readonly ConsoleEvent[] {
    if (this.#phase === phase) return NOTHING;
    this.#phase = phase;
    return [{ kind: "phase", phase }];
  }

  /** A command, as kaem prints it. */
  #command(command: string): readonly ConsoleEvent[] {
    if (this.#phase !== "stage0" && this.#phase !== "steps" && STAGE0.test(command)) {
      return this.#enter("stage0");
    }
    const named = NAMED.exec(command);
    if (named !== null) {
      this.#named = named[1];
      return NOTHING;
    }
    if (!command.startsWith("kaem ") && !command.startsWith("bash ") && !command.startsWith(". ")) {
      return NOTHING;
    }
    const pass = KAEM_PASS.exec(command);
    if (pass !== null && this.#named !== undefined) {
      const name = this.#named;
      this.#named = undefined;
      return [...this.#enter("steps"), { kind: "step", name, pass: Number(pass[1]) }];
    }
    if (SCRIPT.test(command)) return this.#enter("steps");
    const jump = JUMP.exec(command);
    return jump === null ? NOTHING : [{ kind: "jump", name: jump[1]! }];
  }

  #other(line: string): readonly ConsoleEvent[] {
    const step = BASH_STEP.exec(line);
    if (step !== null) {
      const events = this.#bashStep(step[1]!, step[2]!);
      if (events !== undefined) return events;
    }
    if (line.endsWith(": OK") || line.endsWith(": FAILED")) {
      const checksum = CHECKSUM.exec(line);
      if (checksum === null) return NOTHING;
      return [{ kind: "checksum", path: checksum[1]!, isRight: checksum[2] === "OK" }];
    }
    if (line.startsWith("payload-import: ")) return this.#importing(line);
    if (FAULT.test(line)) return [{ kind: "fault", text: line }];
    return this.#kernel(line);
  }

  #bashStep(name: string, text: string): readonly ConsoleEvent[] | undefined {
    const pass = BASH_PASS.exec(text);
    if (pass !== null) {
      return [...this.#enter("steps"), { kind: "step", name, pass: Number(pass[1]) }];
    }
    if (text === "build successful" || text === "installing prebuilt package.") {
      return [...this.#enter("steps"), { kind: "step-done", name }];
    }
    const phase = STEP_PHASES.get(text);
    return phase === undefined ? undefined : [{ kind: "step-phase", name, phase }];
  }

  #importing(line: string): readonly ConsoleEvent[] {
    const file = IMPORTED.exec(line);
    if (file !== null) {
      const files = Number(file[1]);
      if (files === 1) this.#importedBytes = 0;
      if (file[3] === "restored") this.#importedBytes += Number(file[2]);
      return [{ kind: "import", files, bytes: this.#importedBytes }];
    }
    const done = IMPORT_DONE.exec(line);
    if (done === null) return NOTHING;
    const files = Number(done[1]) + Number(done[2]);
    return [{ kind: "import-done", files, bytes: Number(done[3]) }];
  }

  /** What a BIOS or a kernel says of itself. */
  #kernel(line: string): readonly ConsoleEvent[] {
    if (line.includes("Kernel panic - not syncing") || line.includes("Safe to Power Off")) {
      return [{ kind: "halt", text: line }];
    }
    if (line.includes("reboot: Power down") && POWER_DOWN.test(line)) {
      return [{ kind: "power-off" }];
    }
    if (line.startsWith("SeaBIOS (version ")) {
      this.#phase = "boot";
      this.#load = { files: 0, bytes: 0 };
      return [{ kind: "phase", phase: "boot" }];
    }
    if (line.includes("Fiwix ") && FIWIX.test(line)) return [{ kind: "kernel", name: "fiwix" }];
    if (line.includes("Linux version ") && LINUX.test(line)) {
      return [{ kind: "kernel", name: "linux" }];
    }
    return NOTHING;
  }
}
