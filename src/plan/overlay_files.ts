// SPDX-License-Identifier: MIT
/**
 * Makes the files of the overlay that a plan needs.
 *
 * @module
 */

import { STEPS } from "../assets.gen.ts";
import { sha256Of } from "../bytes.ts";
import { BOOT_CODE_BYTES, sectorsOfStage2 } from "../format/boot.ts";
import { SECTOR_BYTES } from "../format/segment.ts";
import type { TreeModel } from "../tree/model.ts";
import {
  ADD_FILES_LIST,
  ADD_FILES_SCRIPT,
  ADDED_LIST,
  FIRST_LIST,
  GUARD_BOOT,
  GUARD_SCRIPT,
  IMPORTER_STEP,
  type ManifestChange,
  NOTHING_TO_DO,
  ONE_DISK_SCRIPT,
  overlayManifest,
  REPO_LIST,
  REST_LIST,
  RESTORE_EMPTY_SCRIPT,
} from "./overlay.ts";
import { type LostEntries, restoreScript } from "./lost.ts";
import { nameList, restoreList } from "./restore.ts";
import type { BuildOptions } from "./options.ts";
import type { PayloadExtra, PlannedDistfile, PlannedRestore } from "./types.ts";

/** Files that exist only in the image, and the changes to the manifest of the checkout. */
export interface OverlayFiles {
  /** Content by path, relative to the root of the booted machine. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly changes: readonly ManifestChange[];
}

/**
 * Makes the overlay.
 *
 * @param config Text of bootstrap.cfg.
 * @param restore Undefined if there is no payload.
 * @param lost Files and directories to create again after the Fiwix jump.
 * @param boot The beginning of the boot disk, if the machine installs to a disk: then it looks at
 * the disk first.
 * @param extras What the payload has besides distfiles.
 * @throws {UserError} "tree" if the manifest lacks a line that a new one goes next to.
 */
export function overlayFiles(
  tree: TreeModel,
  options: BuildOptions,
  config: string,
  distfiles: readonly PlannedDistfile[],
  restore: PlannedRestore | undefined,
  lost: LostEntries = { files: [], directories: [] },
  boot?: BootStart,
  extras: readonly PayloadExtra[] = [],
): OverlayFiles {
  const encoder = new TextEncoder();
  const files = new Map([["steps/bootstrap.cfg", encoder.encode(config)]]);
  const ours = restore?.importer === "overlay" ? restore : undefined;
  const makesPartition = boot !== undefined && restore !== undefined && options.oneDisk === true;
  const restoresEmpty = lost.files.length + lost.directories.length > 0;
  const packages = extras.filter(({ origin }) => origin === "repo");
  const tars = extras.filter(({ origin }) => origin === "added");
  const { text, changes } = overlayManifest(
    tree.manifest,
    {
      payloadPhases: ours?.phases ?? 0,
      ...(extras.length > 0 && { extras: tars.length > 0 ? "tars" : "packages" }),
      restoresEmpty,
      guardsDisk: boot !== undefined,
      oneDisk: makesPartition,
      airGapped: options.airGapped,
    },
    tree.procImproves,
  );
  if (changes.length > 0) files.set("steps/manifest", encoder.encode(text));
  // An extra build may wait for a network, too.
  const inExtras = tree.extraBuilds.flatMap((extra) => {
    const request = { ...NOTHING_TO_DO, airGapped: options.airGapped };
    const overlaid = overlayManifest(extra.manifest, request, []);
    if (overlaid.changes.length === 0) return [];
    files.set(extra.manifest.file, encoder.encode(overlaid.text));
    return overlaid.changes.map(({ text, place }) => ({
      text,
      place: `${place} of ${extra.manifest.file}`,
    }));
  });
  if (restoresEmpty) files.set(RESTORE_EMPTY_SCRIPT, encoder.encode(restoreScript(lost)));
  if (boot !== undefined) {
    files.set(GUARD_SCRIPT, encoder.encode(STEPS["improve/guard_disk.sh"]));
    files.set(GUARD_BOOT, encoder.encode(bootStartText(boot)));
  }
  if (makesPartition) files.set(ONE_DISK_SCRIPT, encoder.encode(STEPS["improve/one_disk.sh"]));
  if (ours !== undefined) {
    for (const [path, content] of Object.entries(STEPS)) {
      if (isImporterFile(path, ours.phases === 2 || extras.length > 0)) {
        files.set(`steps/${path}`, encoder.encode(content));
      }
    }
    files.set(FIRST_LIST, encoder.encode(restoreList(distfiles, "fiwix")));
    if (ours.phases === 2) files.set(REST_LIST, encoder.encode(restoreList(distfiles, "disk")));
    for (const [path, some] of [[REPO_LIST, packages], [ADDED_LIST, tars]] as const) {
      if (some.length > 0) files.set(path, encoder.encode(nameList(some.map(({ name }) => name))));
    }
    if (tars.length > 0) {
      files.set(ADD_FILES_SCRIPT, encoder.encode(STEPS["improve/add_files.sh"]));
      const places = tars.map(({ name, to }) => `${name}\n${to}\n`).join("");
      files.set(ADD_FILES_LIST, encoder.encode(places));
    }
  }
  return { files, changes: [...changes, ...inExtras] };
}

/** What a boot disk begins with. */
export interface BootStart {
  readonly stage1: Uint8Array;
  readonly stage2: Uint8Array;
}

/** The guard reads in blocks of this size, and at least a MiB: what is empty has only zeros there. */
const READ_BYTES = 65536;
const LEAST_BLOCKS = 16;

/** Returns variables for the shell, by which the guard knows a boot disk. */
function bootStartText({ stage1, stage2 }: BootStart): string {
  const sectors = sectorsOfStage2(stage2.length);
  // The table of partitions in between is written by a run.
  const start = new Uint8Array(BOOT_CODE_BYTES + sectors * SECTOR_BYTES);
  start.set(stage1.subarray(0, BOOT_CODE_BYTES));
  start.set(stage2, BOOT_CODE_BYTES);
  const blocks = Math.ceil((1 + sectors) * SECTOR_BYTES / READ_BYTES);
  return [
    `BOOT_SHA256=${sha256Of(start)}`,
    `BOOT_SECTORS=${sectors}`,
    `READ_BLOCKS=${Math.max(LEAST_BLOCKS, blocks)}`,
    "",
  ].join("\n");
}

function isImporterFile(path: string, restoresRest: boolean): boolean {
  return path.startsWith(`${IMPORTER_STEP}/`) || path === "improve/import_payload.sh" ||
    (path === "improve/import_payload_rest.sh" && restoresRest);
}
