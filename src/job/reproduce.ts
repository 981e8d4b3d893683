// SPDX-License-Identifier: MIT
/**
 * Builds again what a record says was built, and compares.
 *
 * A record may come from anywhere. Of what it says only the checked options are used, and of
 * these none that names a file of this machine: kernel, packages, archive, directories with distfiles
 * are those that the user names. What is built goes into a new directory, under names that are the
 * plan's; nothing that was built is started.
 *
 * @module
 */

import { httpMirrors, type Mirror, withSecretsOf } from "../fetch/mirror.ts";
import { renameSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { messageOf, orRefused, UserError } from "../errors.ts";
import type { AddedPlace } from "../plan/added.ts";
import { type BuildOptions, continuesPass } from "../plan/options.ts";
import { compareRecords, type RecordComparison } from "../record/compare.ts";
import { readTree } from "../tree/model.ts";
import { makeScratch } from "../runtime/scratch.ts";
import { type BuildEvents, buildMedia } from "./build.ts";
import { describeCheckout } from "../record/materials.ts";
import { readRecordFile, recordPlace } from "../record/read.ts";
import type { RecordedImage, TargetRecord } from "../record/types.ts";

/** What to build again, and from what. */
export interface ReproduceRequest {
  /** Path of a target, of its record, or of a copy of it. */
  readonly record: string;
  /** Directory of the checkout, or a bundle. */
  readonly tree: string;
  /** Asked before the URLs of the distfiles; the record's HTTP mirrors if there are none. */
  readonly mirrors: readonly Mirror[];
  /** Directory that downloads are kept in. */
  readonly store: string;
  /** Nothing is downloaded. */
  readonly isOffline?: boolean;
  /** Directory of packages, archive to begin from, kernel: needed where the record has them. */
  readonly repo?: string | undefined;
  readonly added?: readonly AddedPlace[];
  readonly preseed?: string | undefined;
  readonly kernel?: string | undefined;
  /** An existing directory to build in; that of the record if absent. */
  readonly target?: string | undefined;
  /** Leaves what was built there. */
  readonly keep: boolean;
  readonly force: boolean;
  readonly jobs: number;
}

/** What came of it. */
export interface Reproduction extends RecordComparison {
  /** Where what was built again is, if it was kept. */
  readonly kept?: string;
}

const PREFIX = "seedstrap-reproduce-";

/**
 * Builds again from a record and compares; differences are a result, not an error.
 *
 * @throws {UserError} "target" for a record that is none, "usage" where something has to be
 * given again, and whatever a build throws.
 */
export async function reproduceBuild(
  request: ReproduceRequest,
  events: BuildEvents = {},
  signal?: AbortSignal,
): Promise<Reproduction> {
  const record = recordPlace(resolve(request.record));
  const stated = readRecordFile(record);
  const options = optionsAgain(stated, request);
  const tree = readTree(request.tree, options.extraBuilds);
  const isOther = describeCheckout(tree).digest !== stated.checkout.digest;
  if (isOther) events.onNotice?.("the checkout is not the one that was built from");
  const parent = resolve(request.target ?? dirname(record));
  const dir = orRefused(
    () => makeScratch(join(parent, PREFIX)),
    (_, cause) =>
      new UserError("target", `Cannot build in ${parent}: ${messageOf(cause)}`, {
        where: parent,
        hint: "Name an existing directory with room for it: --target DIR",
        cause,
      }),
  );
  try {
    const { tree, store, isOffline, repo, added, preseed, force, jobs, keep } = request;
    const areOld = stated.images.some(hasNoPieces);
    const given = request.mirrors.length > 0 ? request.mirrors : options.mirrors;
    // A directory that the record names is one of another machine.
    const sources = given.filter((mirror) =>
      given === request.mirrors || mirror.kind !== "directory"
    );
    const found = await buildMedia(
      {
        ...{ tree, store, isOffline, repo, added, preseed, force, jobs, sources },
        options: areOld ? { ...options, sha256: true } : options,
        ...{ target: dir, isDry: !keep },
      },
      events,
      signal,
    );
    const comparison = compareRecords(stated, areOld ? asStated(stated, found) : found);
    return request.keep ? { ...comparison, kept: keepFrom(dir) } : comparison;
  } catch (error) {
    throw isOther ? withAnother(error, stated) : error;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Reports whether the record of an image is one from before there were digests of pieces. */
function hasNoPieces({ piecesSha256, blocksSha256 }: RecordedImage): boolean {
  return piecesSha256 === undefined && blocksSha256 === undefined;
}

/** Leaves out the digests of pieces that an older record does not state. */
function asStated(stated: TargetRecord, found: TargetRecord): TargetRecord {
  const old = new Set(stated.images.filter(hasNoPieces).map(({ name }) => name));
  const images = found.images.map((image) => {
    const { piecesSha256: _, ...others } = image;
    return old.has(image.name) ? others : image;
  });
  return { ...found, images };
}

/**
 * Says of a checkout that cannot be built as the record says that it is another one. What is
 * missing for it, such as hundreds of distfiles, is of no use then.
 */
function withAnother(error: unknown, { checkout }: TargetRecord): unknown {
  if (!(error instanceof UserError) || error.kind === "interrupt") return error;
  const [first] = error.message.split("\n");
  const commit = checkout.commits.find(({ path }) => path === ".")?.commit;
  const message = `${first}, for a checkout that is not the one that was built from`;
  return new UserError(error.kind, message, {
    ...(error.where !== undefined && { where: error.where }),
    hint: `Name the one that was built from with --tree` +
      (commit === undefined ? "" : `: commit ${commit}`),
    cause: error,
  });
}

/** Gives what was built a name that no later run takes for a leftover: without our pid. */
function keepFrom(dir: string): string {
  const kept = join(dirname(dir), `${PREFIX}${dir.slice(dir.lastIndexOf("-") + 1)}`);
  // Nothing but an empty directory is replaced.
  renameSync(dir, kept);
  return kept;
}

/** What `--add` was given for each place, and what is given for it now. */
function addedAgain(
  { addedPaths = [] }: BuildOptions,
  added: readonly AddedPlace[],
): { option: string; needed: boolean; given: string | undefined }[] {
  const paths = new Set([...addedPaths, ...added.map(({ path }) => path)]);
  return [...paths].map((path) => ({
    option: `--add DIR=/${path}`,
    needed: addedPaths.includes(path),
    given: added.find((place) => place.path === path)?.dir,
  }));
}

/**
 * The options of a record, with what names a file of the machine as it is given now.
 *
 * @throws {UserError} "usage" naming every option that has to be given, or has no use.
 */
function optionsAgain(stated: TargetRecord, request: ReproduceRequest): BuildOptions {
  const { options } = stated;
  const where = request.record;
  if (continuesPass(options)) {
    const option = `--internal-ci ${options.internalCi}`;
    throw new UserError("usage", `Cannot reproduce what was built with ${option}`, {
      where,
      hint: "It went on in what a bootstrap had left: reproduce pass1",
    });
  }
  const wanted = [
    { option: "--kernel FILE", needed: options.kernel !== undefined, given: request.kernel },
    { option: "--repo DIR", needed: options.hasRepo, given: request.repo },
    ...addedAgain(options, request.added ?? []),
    { option: "--early-preseed ARCHIVE", needed: options.hasPreseed, given: request.preseed },
  ];
  const isSecretGiven = httpMirrors(request.mirrors).some(({ secret }) => secret !== undefined);
  if (options.mirrorCredentials && !isSecretGiven) {
    throw new UserError("usage", "Cannot reproduce without the mirror's user name and password", {
      where,
      hint: "They are in the image, and not in the record: give the mirror again, with -m URL",
    });
  }
  const missing = wanted.filter(({ needed, given }) => needed && given === undefined);
  if (missing.length > 0) {
    const names = missing.map(({ option }) => option).join(", ");
    throw new UserError("usage", `Cannot reproduce without ${names}`, {
      where,
      hint: "It was built with that, and a record only has its digest: give it again",
    });
  }
  const useless = wanted.find(({ needed, given }) => !needed && given !== undefined);
  if (useless !== undefined) {
    throw new UserError("usage", `Cannot reproduce with ${useless.option}: it was built without`, {
      where,
      hint: "Leave it out",
    });
  }
  return {
    ...options,
    // A record has no secrets. The machine gets those of the same mirror as it is named now.
    mirrors: withSecretsOf(options.mirrors, request.mirrors),
    kernel: request.kernel === undefined ? undefined : resolve(request.kernel),
  };
}
