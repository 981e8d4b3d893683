// SPDX-License-Identifier: MIT
/**
 * What a payload has besides distfiles: prebuilt packages, and directories of the user as tars. The
 * machine restores it after `jump: move_disk`, when its root is on a disk, as the second disk with a
 * file system would have brought it.
 *
 * @module
 */

import { sortedByBytes } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { fileSegment, GIB, type JoinedSegment } from "../format/segment.ts";
import { plainTar } from "../format/tar.ts";
import type { TreeEntry } from "../tree/entry.ts";
import type { ActiveLine } from "../tree/manifest.ts";
import type { TreeModel } from "../tree/model.ts";
import type { AddedDirectory } from "./added.ts";
import { asksForPayload, type BuildOptions } from "./options.ts";
import { findRestPlace } from "./overlay.ts";
import type { Extras } from "./preseed.ts";
import { SUMS_NAME } from "./restore.ts";
import type { PayloadExtra } from "./types.ts";

/** Where the machine looks for prebuilt packages. */
const PACKAGES = "/external/repo-preseeded";

/** The tar of that place is linked with the C library of mes, which opens no larger file. */
const MAX_TAR_BYTES = 2 * GIB - 1;

/**
 * Returns what the payload of a kernel bootstrap has besides distfiles; nothing where the options
 * alone make no payload, as prebuilt packages are on a disk of their own then.
 *
 * @param taken Names of the distfiles.
 * @throws {UserError} "usage" for a package that a payload cannot have; "limit" for a directory that
 * is too large.
 */
export function payloadExtras(
  options: BuildOptions,
  { repo, added = [] }: Extras,
  taken: ReadonlySet<string>,
): PayloadExtra[] {
  if (!asksForPayload(options)) return [];
  return [...packages(repo, taken), ...added.map((place, index) => tarOf(place, index + 1))];
}

function packages(repo: readonly TreeEntry[], taken: ReadonlySet<string>): PayloadExtra[] {
  return sortedByBytes(repo, ({ path }) => path).flatMap((file): PayloadExtra[] => {
    const { path: name, kind, sizeBytes: size } = file;
    // The list of digests that harvest leaves beside packages is not for the machine.
    if (kind === "directory" || name === SUMS_NAME) return [];
    const fault = name.includes("/")
      ? "it is in a directory"
      // deno-lint-ignore no-control-regex -- the machine reads its name in a list
      : /[\x00-\x1f\x7f\\]/.test(name)
      ? "its name has a control character or a backslash"
      : taken.has(name)
      ? "a distfile has that name"
      : isTarName(name)
      ? "seedstrap uses such names for --add"
      : undefined;
    if (fault === undefined) {
      const body = fileSegment({ ...file, path: file.source });
      return [{ name, origin: "repo", size, to: PACKAGES, body }];
    }
    throw new UserError(
      "usage",
      `Cannot put the package ${JSON.stringify(name)} into a payload: ${fault}`,
      {
        where: file.source,
        hint:
          "Move it out of the directory given to --repo, or use --payload never: then packages " +
          "are on a second disk with a file system",
      },
    );
  });
}

/**
 * Reports whether a name is that of the tar of a directory of the user. It sorts after those of
 * distfiles, so that a large one pushes none of them to where Fiwix cannot read.
 */
export function isTarName(name: string): boolean {
  return /^zz-add-\d+-.*\.tar$/.test(name);
}

/** Returns a directory of the user as a tar. */
function tarOf({ dir, path, entries }: AddedDirectory, number: number): PayloadExtra {
  const top = path.split("/").at(-1)!.replaceAll(/[^A-Za-z0-9._+-]/g, "_");
  const body: JoinedSegment = plainTar(entries.map((file) => ({
    path: file.path,
    isExecutable: file.isExecutable,
    ...(file.kind === "file" && { body: fileSegment({ ...file, path: file.source }) }),
  })));
  const { sizeBytes: size } = body;
  if (size > MAX_TAR_BYTES) {
    throw new UserError("limit", `Cannot add ${dir}: a tar of it has ${size} bytes`, {
      where: dir,
      hint: "The tar that live-bootstrap has by then opens files of less than 2 GiB: add the " +
        "directories in it one by one",
    });
  }
  return {
    name: `zz-add-${number}-${top.slice(0, 200)}.tar`,
    origin: "added",
    size,
    to: `/${path}`,
    body,
  };
}

/**
 * Checks that the machine restores what the payload has besides distfiles.
 *
 * @throws {UserError} "tree" if the manifest has no place for that, or an importer of its own.
 */
export function checkExtras(
  tree: TreeModel,
  active: readonly ActiveLine[],
  extras: readonly PayloadExtra[],
): void {
  if (extras.length === 0) return;
  const what = extras.some(({ origin }) => origin === "repo") ? "packages" : "what --add brings";
  const refusal = (why: string) =>
    new UserError("tree", `Cannot have ${what} restored on the booted machine: ${why}`, {
      where: tree.manifest.file,
      hint: what === "packages"
        ? "Use --payload never: then packages are on a second disk with a file system"
        : "Use --chroot, --bwrap or --kernel with --add",
    });
  if (tree.ownImporter !== undefined) throw refusal("the checkout has an importer of its own");
  if (!active.some(({ line }) => line.kind === "jump" && line.name === "fiwix")) {
    throw refusal('the manifest has no "jump: fiwix"');
  }
  const place = findRestPlace(tree.manifest, tree.procImproves);
  if (typeof place === "string") throw refusal(`the manifest has no "${place}"`);
  const at = tree.manifest.lines.indexOf(place);
  const hasTar = active.some(({ line, index }) =>
    index < at && line.kind === "build" && line.name.startsWith("tar-")
  );
  if (hasTar || extras.every(({ origin }) => origin !== "added")) return;
  throw refusal(`the manifest builds no tar before ${place.kind}: ${place.name}`);
}
