// SPDX-License-Identifier: MIT
/**
 * The overlay: changes to the checkout that are made in the image only.
 *
 * It builds the payload importer before `jump: fiwix` and runs it right after, creates empty files
 * again that are lost at the jump, looks at the disk before `jump: move_disk` writes to it, makes
 * the partition of the system after a payload on the same disk, and disables the wait for a network. Every line that it adds has a predicate, so that the same
 * manifest also works on a machine without a payload.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import type { ActionLine, Manifest, ManifestLine } from "../tree/manifest.ts";

/** The step of the importer, and the paths of its lists of names in the image. */
export const IMPORTER_STEP = "payload-import-1.0";
export const FIRST_LIST = `steps/${IMPORTER_STEP}/fiwix.list`;
export const REST_LIST = `steps/${IMPORTER_STEP}/rest.list`;
export const REPO_LIST = `steps/${IMPORTER_STEP}/repo.list`;
export const ADDED_LIST = `steps/${IMPORTER_STEP}/added.list`;

/** The improve that unpacks directories of the user, and its list of tars and places. */
const ADD_FILES = "add_files";
export const ADD_FILES_SCRIPT = `steps/improve/${ADD_FILES}.sh`;
export const ADD_FILES_LIST = `steps/improve/${ADD_FILES}.list`;

/** The improve that creates lost empty files again, and its script in the image. */
const RESTORE_EMPTY = "restore_empty";
export const RESTORE_EMPTY_SCRIPT = `steps/improve/${RESTORE_EMPTY}.sh`;

/** The improve that looks at the disk to install to, its script, and how its boot disk begins. */
export const GUARD_DISK = "guard_disk";
export const GUARD_SCRIPT = `steps/improve/${GUARD_DISK}.sh`;
export const GUARD_BOOT = `steps/improve/${GUARD_DISK}.boot`;

/** The improve that makes the partition of the system after a payload on the same disk. */
const ONE_DISK = "one_disk";
export const ONE_DISK_SCRIPT = `steps/improve/${ONE_DISK}.sh`;

const KERNEL_BOOTSTRAP = "( KERNEL_BOOTSTRAP == True )";
const PAYLOAD_REQUIRED = "( PAYLOAD_REQUIRED == True )";
const NOT_AIR_GAPPED = "AIR_GAPPED != True";

/** What the overlay has to do. */
export interface OverlayRequest {
  /** Number of restore phases; 0 without a payload, or with an importer of the checkout. */
  readonly payloadPhases: 0 | 1 | 2;
  /**
   * What else the payload has, which is restored after `jump: move_disk` with any number of phases:
   * packages, or tars that are unpacked then, with or without packages.
   */
  readonly extras?: "packages" | "tars";
  /** Whether empty files and directories are created again after the Fiwix jump. */
  readonly restoresEmpty: boolean;
  /** Whether the disk is looked at before each `jump: move_disk`. */
  readonly guardsDisk: boolean;
  /** Whether the partition of the system is made after a payload on the same disk. */
  readonly oneDisk: boolean;
  /** Whether every `improve:` for the network is skipped if AIR_GAPPED is True. */
  readonly airGapped: boolean;
}

/** The request that changes nothing. */
export const NOTHING_TO_DO: OverlayRequest = {
  payloadPhases: 0,
  restoresEmpty: false,
  guardsDisk: false,
  oneDisk: false,
  airGapped: false,
};

/** A change of the manifest. */
export interface ManifestChange {
  /** The line in the image. */
  readonly text: string;
  /** Its position, as a phrase. */
  readonly place: string;
}

/** The manifest in the image. */
export interface OverlaidManifest {
  readonly text: string;
  readonly changes: readonly ManifestChange[];
}

/**
 * Applies the overlay to a manifest.
 *
 * @param procImproves Names of the improves whose script mounts proc.
 * @throws {UserError} "tree" if the manifest lacks a line that a new one goes next to.
 */
export function overlayManifest(
  manifest: Manifest,
  request: OverlayRequest,
  procImproves: readonly string[],
): OverlaidManifest {
  const text = manifest.text.split("\n");
  const changes: ManifestChange[] = [];
  /** New lines, by the number of the line before or after which they are inserted. */
  const before = new Map<number, string[]>();
  const after = new Map<number, string[]>();
  const insert = (where: "before" | "after", line: ManifestLine, added: string) => {
    const lines = where === "before" ? before : after;
    lines.set(line.line, [...lines.get(line.line) ?? [], added]);
    changes.push({
      text: added,
      place: `${where} ${verb(line)}`,
    });
  };
  const jump = find(manifest, 0, "jump", (name) => name === "fiwix");
  if (request.restoresEmpty && jump !== undefined) {
    insert("after", jump, `improve: ${RESTORE_EMPTY} ${KERNEL_BOOTSTRAP}`);
  }
  if (request.payloadPhases > 0) {
    if (jump === undefined) throw noPlaceFor(manifest, "jump: fiwix");
    insert("before", jump, `build: ${IMPORTER_STEP} ${PAYLOAD_REQUIRED}`);
    insert("after", jump, `improve: import_payload ${PAYLOAD_REQUIRED}`);
  }
  if (request.payloadPhases === 2 || request.extras !== undefined) {
    const place = findRestPlace(manifest, procImproves);
    if (typeof place === "string") throw noPlaceFor(manifest, place);
    insert("after", place, `improve: import_payload_rest ${PAYLOAD_REQUIRED}`);
    if (request.extras === "tars") {
      insert("after", place, `improve: ${ADD_FILES} ${PAYLOAD_REQUIRED}`);
    }
  }
  const beforeMoving = [
    ...(request.guardsDisk ? [GUARD_DISK] : []),
    ...(request.oneDisk ? [ONE_DISK] : []),
  ];
  for (const line of moveDiskLines(manifest)) {
    for (const name of beforeMoving) {
      // With the conditions of the jump: it runs exactly where that does.
      insert("before", line, `improve: ${name}${line.text.slice(verb(line).length)}`);
    }
  }
  if (request.airGapped) {
    for (const line of networkLines(manifest)) {
      const gated = gate(line);
      text[line.line - 1] = gated;
      changes.push({ text: gated, place: `replaces line ${line.line}` });
    }
  }
  const lines = text.flatMap((line, index) => [
    ...before.get(index + 1) ?? [],
    line,
    ...after.get(index + 1) ?? [],
  ]);
  return { text: lines.join("\n"), changes };
}

/**
 * Finds the line after which the rest of a payload can be restored: the first improve after
 * `jump: move_disk` that mounts proc.
 *
 * @returns The line, or the description of a line that is missing.
 */
export function findRestPlace(
  manifest: Manifest,
  procImproves: readonly string[],
): ActionLine | string {
  const jump = find(manifest, 0, "jump", (name) => name === "move_disk");
  if (jump === undefined) return "jump: move_disk";
  const from = manifest.lines.indexOf(jump) + 1;
  return find(manifest, from, "improve", (name) => procImproves.includes(name)) ??
    "improve: that mounts proc, after jump: move_disk";
}

/** Returns the lines that wait for a network: improves with "network" in their name. */
export function networkLines(manifest: Manifest): ActionLine[] {
  return manifest.lines.filter((line): line is ActionLine =>
    line.kind === "improve" && line.name.includes("network")
  );
}

function moveDiskLines(manifest: Manifest): ActionLine[] {
  return manifest.lines.filter((line): line is ActionLine =>
    line.kind === "jump" && line.name === "move_disk"
  );
}

/**
 * Inserts a condition before those of a line. Predicates are right-recursive, so it applies to all
 * of them: `( A && B || C )` is `A && (B || C)`.
 */
function gate(line: ActionLine): string {
  const directive = verb(line);
  const rest = line.text.slice(directive.length);
  return rest.startsWith(" (")
    ? `${directive} ( ${NOT_AIR_GAPPED} &&${rest.slice(2)}`
    : `${directive} ( ${NOT_AIR_GAPPED} )${rest}`;
}

function find(
  manifest: Manifest,
  from: number,
  kind: ActionLine["kind"],
  test: (name: string) => boolean,
): ActionLine | undefined {
  return manifest.lines.slice(from).find((line): line is ActionLine =>
    line.kind === kind && test(line.name)
  );
}

function verb(line: ManifestLine): string {
  return `${line.kind}: ${line.name}`;
}

/** Returns the error for a manifest that lacks a line that the overlay needs. */
export function noPlaceFor(manifest: Manifest, missing: string): UserError {
  return new UserError(
    "tree",
    `Cannot have a payload restored on the booted machine: the manifest has no "${missing}"`,
    {
      where: manifest.file,
      hint: "Use --payload never, or a checkout of live-bootstrap that jumps to Fiwix",
    },
  );
}

/** Returns the error for a checkout whose early scripts are not for kaem, as the importer's are. */
export function noImporterFor(shell: string): UserError {
  return new UserError(
    "tree",
    `Cannot have a payload restored on the booted machine: the early scripts of the checkout are .${shell}, the importer has one for kaem`,
    { where: "steps/", hint: "Use --payload never" },
  );
}
