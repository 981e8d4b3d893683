// SPDX-License-Identifier: MIT
/**
 * Writes the root of a bootstrap, a directory, as a tar file that depends on the root only.
 *
 * Directories come before their content, names in bytewise order; every time is the start of 1970.
 * Owners are numbers, and the owner of the directory itself counts as root, as it does in a sandbox
 * of bwrap. Left out are the files of seedstrap in a target, what is mounted, and the content of
 * dev, proc and sys; with a note, devices, fifos and sockets elsewhere, and names that are not UTF-8.
 *
 * @module
 */

import { type BytesSegment, fileSegment, paddingTo, type Segment } from "../format/segment.ts";
import { rootHeader, type RootMember, TAR_BLOCK_BYTES } from "../format/tar.ts";
import { type DirectoryView, openDirectoryView } from "../image/directory.ts";
import type { NodeEntry } from "../image/types.ts";
import { RECORD_NAME, SBOM_NAME } from "../record/types.ts";
import { WORK_DIR } from "../runtime/own.ts";
import type { Extracted } from "../write/extract.ts";
import { checkOutput, writeOutputParts, type WrittenPart } from "../write/output_parts.ts";
import type { StreamOptions } from "../write/writer.ts";

/** The tar of a root. */
export interface RootTar extends WrittenPart {
  /** Number of members. */
  readonly members: number;
  readonly skipped: Extracted["skipped"];
}

/**
 * Writes the tar of a root.
 *
 * @param dir The directory that the bootstrap has run in.
 * @param output A file that does not exist; it appears when it is whole.
 * @throws {UserError} "target" where something cannot be read or written; "tree" where a file
 * changes meanwhile; "interrupt".
 */
export async function writeRootTar(
  dir: string,
  output: string,
  options: StreamOptions,
): Promise<RootTar> {
  checkOutput(output);
  const { segments, members, skipped } = rootSegments(openDirectoryView(dir));
  const [file] = await writeOutputParts(output, segments, undefined, {
    ...options,
    wantsSha256: true,
  });
  return { ...file!, members, skipped };
}

function rootSegments(
  view: DirectoryView,
): {
  readonly segments: Segment[];
  readonly members: number;
  readonly skipped: RootTar["skipped"];
} {
  const segments: Segment[] = [];
  const skipped: { path: string; why: string }[] = [];
  /** Paths of files with several names, by device and inode. */
  const linked = new Map<string, string>();
  let members = 0;
  for (const entry of view.entries()) {
    const path = entry.path.slice(1);
    if (OWN_FILES.has(path.split("/")[0]!)) continue;
    const why = reasonToSkip(entry);
    if (why !== undefined) {
      skipped.push({ path, why });
      continue;
    }
    members++;
    const owner = ownerOf(entry, view.owner);
    const found = entry.kind === "file" ? view.located(entry) : undefined;
    const identity = found && `${found.stat.dev} ${found.stat.ino}`;
    const first = identity && linked.get(identity);
    if (found === undefined || first !== undefined) {
      segments.push(headerSegment({
        path,
        kind: first !== undefined ? "link" : entry.kind === "symlink" ? "symlink" : "directory",
        size: 0,
        mode: entry.kind === "symlink" ? 0o777 : entry.mode,
        ...owner,
        ...((first ?? entry.target) !== undefined && { linkName: first ?? entry.target! }),
      }));
      continue;
    }
    if (entry.links > 1) linked.set(identity!, path);
    segments.push(
      headerSegment({ path, kind: "file", size: entry.size, mode: entry.mode, ...owner }),
    );
    if (entry.size === 0) continue;
    segments.push(
      fileSegment({ path: found.path, sizeBytes: entry.size, identity: found.stat }),
      ...paddingTo(entry.size, TAR_BLOCK_BYTES),
    );
  }
  segments.push({ kind: "bytes", bytes: new Uint8Array(2 * TAR_BLOCK_BYTES) });
  return { segments, members, skipped };
}

/** Names at the top of a target that are not of the root. */
const OWN_FILES: ReadonlySet<string> = new Set([WORK_DIR, RECORD_NAME, SBOM_NAME]);

function reasonToSkip({ path, kind, target }: NodeEntry): string | undefined {
  if (!path.isWellFormed()) return "its name is not UTF-8";
  if (kind === "device" || kind === "fifo" || kind === "socket") return `it is a ${kind}`;
  return target?.isWellFormed() === false ? "its target is not UTF-8" : undefined;
}

function ownerOf(
  { uid, gid }: NodeEntry,
  root: DirectoryView["owner"],
): { readonly uid: number; readonly gid: number } {
  return { uid: uid === root.uid ? 0 : uid, gid: gid === root.gid ? 0 : gid };
}

function headerSegment(member: RootMember): BytesSegment {
  return { kind: "bytes", bytes: rootHeader(member) };
}
