// SPDX-License-Identifier: MIT
/**
 * Snapshots of git references, byte for byte as forges make them.
 *
 *   tar      git archive --format=tar --prefix=NAME-REFERENCE/
 *   .tar.gz  gzip -n of the tar
 *   .tar.xz  xz -T1 of the tar
 *
 * A `v` at the beginning of a reference, before a digit, is not in the prefix, except for GitLab.
 * Compressors are programs, as their bytes are those that checksums are of.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";
import { runProcess } from "../launch/process.ts";
import { writing } from "../refused.ts";
import { makeScratch, removeScratch } from "../runtime/scratch.ts";
import { plainText } from "./failure.ts";
import {
  type GitClone,
  GitFailure,
  gitFault,
  type GitOptions,
  type GitReference,
  repositoryName,
  withClone,
} from "./git.ts";
import { digestFile, makeStoreDirectory, storePath } from "./store.ts";

/** A snapshot that is wanted. */
export interface Snapshot extends GitReference {
  /** File name, which says how it is compressed. */
  readonly name: string;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** Beginning of the names of directories for work in a store. */
export const SNAPSHOT_SCRATCH = "snapshot-";

/** Programs by the end of a file name, each with arguments that make it write to standard output. */
const COMPRESSORS: readonly (readonly [end: RegExp, argv: readonly string[]])[] = [
  [/\.(tar\.gz|tgz)$/, ["gzip", "-n", "-c"]],
  [/\.tar\.xz$/, ["xz", "-T1", "-c"]],
  [/\.tar$/, []],
];

/** Returns what is put before each path in a snapshot. */
export function snapshotPrefix({ url, reference }: GitReference): string {
  const hasVersion = /^v\d/.test(reference) && !url.includes("gitlab");
  return `${repositoryName(url)}-${hasVersion ? reference.slice(1) : reference}/`;
}

/** How to make snapshots. */
export interface SnapshotOptions<S extends Snapshot = Snapshot> extends GitOptions {
  /** Directory for the work, of the layout of a store, to which snapshots go. */
  readonly store: string;
  /** Told each snapshot that is in the store, and why another one is not. */
  readonly onDone: (snapshot: S) => void;
  readonly onFailure: (snapshot: S, failure: GitFailure) => void;
}

/**
 * Makes snapshots of one repository, which is cloned, or updated where it lacks a reference.
 *
 * @param snapshots All of the same URL.
 * @throws {UserError} "target" where the store or the clone cannot be written; "interrupt".
 */
export async function makeSnapshots<S extends Snapshot>(
  snapshots: readonly S[],
  options: SnapshotOptions<S>,
): Promise<void> {
  const asked = snapshots.filter((snapshot) => {
    const fault = gitFault(snapshot) ??
      (compressorOf(snapshot) ? undefined : "refused: a snapshot is .tar, .tar.gz or .tar.xz");
    if (fault !== undefined) options.onFailure(snapshot, new GitFailure("lost", fault));
    return fault === undefined;
  });
  const url = asked[0]?.url;
  if (url === undefined) return;
  await withClone(url, options, async (clone) => {
    let dead: GitFailure | undefined;
    let isUpdated = false;
    for (const snapshot of asked) {
      try {
        let commit = await clone.commitOf(snapshot.reference);
        if (commit === undefined && dead === undefined) {
          // One update brings the references of all, except commits of no branch.
          if (!isUpdated || /^[0-9a-f]{40}$/.test(snapshot.reference)) {
            await clone.update(snapshot.reference).catch((error: unknown) => {
              if (!(error instanceof GitFailure)) throw error;
              dead = error;
            });
            isUpdated = true;
          }
          commit = await clone.commitOf(snapshot.reference);
        }
        if (commit === undefined) {
          throw dead ?? new GitFailure("lost", "the repository has no such reference");
        }
        await makeSnapshot(clone, commit, snapshot, options);
        options.onDone(snapshot);
      } catch (error) {
        options.onFailure(snapshot, asFailure(error));
      }
    }
  });
}

/** A program that is missing makes no snapshot, and stops nothing else. */
function asFailure(error: unknown): GitFailure {
  if (error instanceof GitFailure) return error;
  if (!(error instanceof UserError) || error.kind !== "launch") throw error;
  return new GitFailure("dead", plainText(error.message));
}

function compressorOf({ name }: Snapshot): readonly string[] | undefined {
  return COMPRESSORS.find(([end]) => end.test(name))?.[1];
}

async function makeSnapshot(
  clone: GitClone,
  commit: string,
  snapshot: Snapshot,
  { store, signal }: Pick<SnapshotOptions, "store" | "signal">,
): Promise<void> {
  const work = writing(store, () => makeScratch(join(store, SNAPSHOT_SCRATCH)));
  try {
    const tar = join(work, "snapshot.tar");
    await clone.archive(commit, snapshotPrefix(snapshot), tar);
    const compressor = compressorOf(snapshot)!;
    const packed = join(work, "packed");
    const got = compressor.length === 0
      ? (await digestFile(tar, signal)).got
      : await compress([...compressor, tar], packed, signal);
    if (got !== snapshot.sha256) {
      const by = compressor.length === 0 ? "" : `, packed by this machine's ${compressor[0]}`;
      throw new GitFailure("changed", `wrong SHA-256: got ${got} of commit ${commit}${by}`);
    }
    const path = storePath(store, snapshot.sha256);
    writing(path, () => {
      makeStoreDirectory(path);
      renameSync(compressor.length === 0 ? tar : packed, path);
    });
  } finally {
    removeScratch(work);
  }
}

/** Writes what a program prints to a new file, synced, and returns its SHA-256. */
async function compress(
  argv: readonly string[],
  path: string,
  signal: AbortSignal,
): Promise<string> {
  const hash = createHash("sha256");
  const file = writing(path, () => openSync(path, "wx", 0o666));
  let said = "";
  try {
    const { code } = await runProcess({
      argv,
      // GZIP and XZ_OPT would change the bytes.
      env: { PATH: process.env["PATH"] ?? "", LC_ALL: "C" },
      stdin: "ignore",
      isApart: true,
      signal,
      onStdout: (chunk) => {
        hash.update(chunk);
        writing(path, () => {
          for (let done = 0; done < chunk.length;) done += writeSync(file, chunk, done);
        });
      },
      onStderr: (chunk) => said = (said + new TextDecoder().decode(chunk)).slice(-1000),
    });
    signal.throwIfAborted();
    if (code !== 0) throw new GitFailure("dead", plainText(`${argv[0]} failed: ${said}`));
    writing(path, () => fsyncSync(file));
  } finally {
    closeSync(file);
  }
  return hash.digest("hex");
}
