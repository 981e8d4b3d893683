// SPDX-License-Identifier: MIT
/**
 * Gathers what a build was made from and with, for its record.
 *
 * @module
 */

import { join } from "node:path";
import { messageOf, UserError } from "../errors.ts";
import { digestFile } from "../fetch/store.ts";
import { fileSegment } from "../format/segment.ts";
import { digestOne } from "../hash/pool.ts";
import { recallOrigin } from "../fetch/origin.ts";
import type { Located } from "../plan/images.ts";
import { neededDistfiles } from "../plan/plan.ts";
import type { Plan, PlannedDistfile } from "../plan/types.ts";
import { ownBinary } from "../runtime/binary.ts";
import { statIfThere } from "../runtime/stat.ts";
import { treeDigest } from "../tree/digest.ts";
import { headCommit } from "../tree/git.ts";
import type { TreeModel } from "../tree/model.ts";
import type { DistfileOrigin, Materials, RecordedCheckout } from "./types.ts";
import type { Written } from "./types.ts";

/** Git repositories of a checkout: itself, and the submodules that a build uses. */
const REPOSITORIES: readonly string[] = [".", "builder-hex0", "seed/stage0-posix"];

/** A build whose files are written. */
export interface BuiltJob {
  readonly tree: TreeModel;
  readonly store: string;
  readonly plan: Plan;
  readonly located: Located;
  readonly written: Written;
  readonly given: GivenDigests;
  readonly builder: Promise<string | undefined>;
}

/** Gathers the materials of a build. */
export async function gatherMaterials(job: BuiltJob): Promise<Materials> {
  const { tree, store, plan, located, given, builder } = job;
  const origins = originsOf(plan, located, store);
  const builderSha256 = await builder;
  const checkout = describeCheckout(tree, writtenDigests(job));
  return { checkout, origins, ...given, builderSha256 };
}

/** SHA-256 of the files that the user gives beside a checkout, where there are any. */
export type GivenDigests = Pick<Materials, "kernelSha256" | "preseedSha256">;

/**
 * Digests the kernel and the archive to begin from.
 *
 * @throws {UserError} "usage" for one that cannot be read.
 */
export async function digestGiven(
  kernel: string | undefined,
  preseed: string | undefined,
  signal?: AbortSignal,
): Promise<GivenDigests> {
  const digest = async (path: string | undefined, option: string) => {
    if (path === undefined) return undefined;
    try {
      return (await digestFile(path, signal)).got;
    } catch (cause) {
      signal?.throwIfAborted();
      throw new UserError("usage", `Cannot read ${path}, given as ${option}: ${messageOf(cause)}`, {
        where: path,
        hint: "Check its permissions, or give a copy of it",
        cause,
      });
    }
  };
  return {
    kernelSha256: await digest(kernel, "--kernel"),
    preseedSha256: await digest(preseed, "--early-preseed"),
  };
}

/**
 * Returns the SHA-256 of the running binary; undefined if the program runs from source, or the
 * binary cannot be read. It has 100 MB: another thread reads it.
 */
export async function builderDigest(): Promise<string | undefined> {
  const path = ownBinary();
  const sizeBytes = path === undefined ? undefined : statIfThere(path)?.size;
  if (path === undefined || sizeBytes === undefined) return undefined;
  const task = { segment: fileSegment({ path, sizeBytes }), kind: "image" } as const;
  return await digestOne(task).catch(() => undefined);
}

/**
 * Describes a checkout.
 *
 * @param known SHA-256 of files that were read already, by their path on this machine.
 * @throws {UserError} "tree" for a file that cannot be read.
 */
export function describeCheckout(
  tree: TreeModel,
  known?: ReadonlyMap<string, string>,
): RecordedCheckout {
  const commits = REPOSITORIES.flatMap((path) => {
    const commit = headCommit(join(tree.root, path));
    return commit === undefined ? [] : [{ path, commit }];
  });
  return { digest: treeDigest(tree, known), commits };
}

/** Returns the SHA-256 of the checkout files that were written, by their path on this machine. */
function writtenDigests({ plan, written }: BuiltJob): Map<string, string> {
  const files = [...written.files, ...written.images.flatMap((image) => image.files)];
  const digests = new Map(files.map(({ path, sha256 }) => [path, sha256]));
  const entries = [...plan.entries, ...plan.disk?.entries ?? []];
  return new Map(entries.flatMap(({ path, content }) => {
    const sha256 = digests.get(path);
    return content.kind === "tree" && sha256 !== undefined ? [[content.source, sha256]] : [];
  }));
}

/** Where each distfile was had that a plan needs. */
export function originsOf(
  plan: Plan,
  located: Located,
  store: string,
): Map<string, DistfileOrigin> {
  const origin = ({ name, sha256 }: PlannedDistfile): DistfileOrigin => {
    const { from } = located.get(name)!;
    if (from !== "store") return { kind: from };
    const known = recallOrigin(store, sha256);
    return known === undefined ? { kind: "store" } : { kind: "url", ...known };
  };
  return new Map(
    neededDistfiles(plan).map((distfile) => [distfile.name, origin(distfile)] as const),
  );
}
