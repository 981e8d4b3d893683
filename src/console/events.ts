// SPDX-License-Identifier: MIT
/**
 * What a bootstrap prints on its console, as events.
 *
 * Every stage has its own way of saying where it is (live-bootstrap 984b8322):
 *
 *   builder-hex0   " +> CMD" comes from the shell that it runs; "Build finished." when its first
 *                  process is gone, "ERROR: no hda writes!" where that has written no disk
 *   kaem           " +> CMD" before each command; "Subprocess error N" and "ABORTING HARD" when one
 *                  has failed
 *   steps, kaem    " +> pkg=NAME" and " +> kaem --file passN.kaem"
 *   steps, bash    "NAME: beginning build using script passN.sh", "NAME: build successful",
 *                  "NAME: installing prebuilt package."
 *   checksums      "PATH: OK" or "PATH: FAILED"
 *   Fiwix          "PANIC", and "Safe to Power Off" when its last process has ended
 *   Linux          "Kernel panic - not syncing", and "reboot: Power down" when it switches off
 *
 * A line that is not known changes nothing.
 *
 * @module
 */

/** Something that a line of the console says. */
export type ConsoleEvent =
  /** A step begins, in the given pass. */
  | { readonly kind: "step"; readonly name: string; readonly pass: number }
  /** A step is done; kaem says so only by going on. */
  | { readonly kind: "step-done"; readonly name: string }
  | { readonly kind: "jump"; readonly name: string }
  | { readonly kind: "checksum"; readonly path: string; readonly isRight: boolean }
  /** Something has failed, in the words of whoever says so. */
  | { readonly kind: "fault"; readonly text: string }
  /** The guest switches itself off in good order: only a running Linux does. */
  | { readonly kind: "power-off" }
  /** The guest has stopped and waits for ever. */
  | { readonly kind: "halt"; readonly text: string };

/** A name of a step: upstream's reader takes tokens of at most 63 bytes. */
const STEP = "([\\w.+-]{1,63})";

const PATTERNS: readonly (readonly [RegExp, (match: RegExpExecArray) => ConsoleEvent])[] = [
  [
    new RegExp(`^${STEP}: beginning build using script pass(\\d{1,4})\\.sh$`),
    ([, name, pass]) => ({ kind: "step", name: name!, pass: Number(pass) }),
  ],
  [
    new RegExp(`^${STEP}: (?:build successful|installing prebuilt package\\.)$`),
    ([, name]) => ({ kind: "step-done", name: name! }),
  ],
  [
    /^\s*\+> (?:kaem --file|bash|\.) \/?steps\/jump\/([\w.+-]{1,63})\.sh$/,
    ([, name]) => ({ kind: "jump", name: name! }),
  ],
  [
    /^(\S{1,1024}): (OK|FAILED)$/,
    ([, path, word]) => ({ kind: "checksum", path: path!, isRight: word === "OK" }),
  ],
  [/^Subprocess error\b.*$/, faultOf],
  [/^ABORTING HARD$/, faultOf],
  [/^ERROR: no hda writes!$/, faultOf],
  [/^guard_disk: REFUSED: .*$/, faultOf],
  [/^.*\bKernel panic - not syncing\b.*$/, haltOf],
  [/^.*\bSafe to Power Off\b.*$/, haltOf],
  [/^(?:\[[\s\d.]*\]\s*)?reboot: Power down$/, () => ({ kind: "power-off" })],
];

function faultOf([text]: RegExpExecArray): ConsoleEvent {
  return { kind: "fault", text };
}

function haltOf([text]: RegExpExecArray): ConsoleEvent {
  return { kind: "halt", text };
}

/** Finds the events of a console, line by line. */
export class EventReader {
  /** The step that kaem has named, until it says which pass. */
  #named: string | undefined;

  /** What a line says, or undefined where it says nothing that is known. */
  read(line: string): ConsoleEvent | undefined {
    const command = /^\s*\+> (.*)$/.exec(line)?.[1]?.trimEnd();
    if (command !== undefined) {
      const named = new RegExp(`^pkg=${STEP}$`).exec(command);
      if (named !== null) this.#named = named[1];
      const pass = /^kaem --file pass(\d{1,4})\.kaem$/.exec(command);
      if (pass !== null && this.#named !== undefined) {
        const event = { kind: "step", name: this.#named, pass: Number(pass[1]) } as const;
        this.#named = undefined;
        return event;
      }
    }
    for (const [pattern, toEvent] of PATTERNS) {
      const match = pattern.exec(line.trimEnd());
      if (match !== null) return toEvent(match);
    }
    return undefined;
  }
}
