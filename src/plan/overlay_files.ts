// SPDX-License-Identifier: MIT
/**
 * Makes the files of the overlay that a plan needs.
 *
 * @module
 */

import { STEPS } from "../assets.gen.ts";
import type { TreeModel } from "../tree/model.ts";
import {
  FIRST_LIST,
  IMPORTER_STEP,
  type ManifestChange,
  overlayManifest,
  REST_LIST,
  RESTORE_EMPTY_SCRIPT,
} from "./overlay.ts";
import { type LostEntries, restoreScript } from "./lost.ts";
import { restoreList } from "./restore.ts";
import type { BuildOptions } from "./options.ts";
import type { PlannedDistfile, PlannedRestore } from "./types.ts";

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
 * @throws {UserError} "tree" if the manifest lacks a line that a new one goes next to.
 */
export function overlayFiles(
  tree: TreeModel,
  options: BuildOptions,
  config: string,
  distfiles: readonly PlannedDistfile[],
  restore: PlannedRestore | undefined,
  lost: LostEntries = { files: [], directories: [] },
): OverlayFiles {
  const encoder = new TextEncoder();
  const files = new Map([["steps/bootstrap.cfg", encoder.encode(config)]]);
  const ours = restore?.importer === "overlay" ? restore : undefined;
  const restoresEmpty = lost.files.length + lost.directories.length > 0;
  const { text, changes } = overlayManifest(
    tree.manifest,
    { payloadPhases: ours?.phases ?? 0, restoresEmpty, airGapped: options.airGapped },
    tree.procImproves,
  );
  if (changes.length > 0) files.set("steps/manifest", encoder.encode(text));
  if (restoresEmpty) files.set(RESTORE_EMPTY_SCRIPT, encoder.encode(restoreScript(lost)));
  if (ours !== undefined) {
    for (const [path, content] of Object.entries(STEPS)) {
      if (isImporterFile(path, ours.phases)) files.set(`steps/${path}`, encoder.encode(content));
    }
    files.set(FIRST_LIST, encoder.encode(restoreList(distfiles, "fiwix")));
    if (ours.phases === 2) files.set(REST_LIST, encoder.encode(restoreList(distfiles, "disk")));
  }
  return { files, changes };
}

function isImporterFile(path: string, phases: number): boolean {
  return path.startsWith(`${IMPORTER_STEP}/`) || path === "improve/import_payload.sh" ||
    (path === "improve/import_payload_rest.sh" && phases === 2);
}
