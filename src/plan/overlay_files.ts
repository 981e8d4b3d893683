// SPDX-License-Identifier: MIT
/**
 * The files of the overlay that a plan needs.
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

/** Files that exist only in the image, and how the manifest differs from the checkout's. */
export interface OverlayFiles {
  /** Content by path, relative to the root of the booted machine. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly changes: readonly ManifestChange[];
}

/**
 * Makes the overlay.
 *
 * @param config Text of bootstrap.cfg.
 * @param restore Absent where there is no payload.
 * @param lost What has to be made again behind the Fiwix jump.
 * @throws {UserError} "tree" for a manifest that has no place for a line.
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
