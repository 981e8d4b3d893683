// SPDX-License-Identifier: MIT
/**
 * The entries of the root of the booted machine at its start.
 *
 * @module
 */

import { archiveEntries, flatEntries } from "../archive/entries.ts";
import type { Archive } from "../archive/types.ts";
import { UserError } from "../errors.ts";
import { sortedByBytes } from "../bytes.ts";
import type { TreeEntry } from "../tree/entry.ts";
import { isStepPath } from "../tree/extra.ts";
import type { TreeModel } from "../tree/model.ts";
import type { AddedDirectory } from "./added.ts";
import { type PlannedDistfile, type PlannedEntry, SEED_DIRECTORIES } from "./types.ts";

/** The directory of stage0-posix with the binary seeds, which have to be trusted. */
const SEEDS = "bootstrap-seeds";

/**
 * Returns the entries of a boot image. The seeds are not among them, as builder-hex0 makes them. A
 * path that contains `.git` has never been part of a boot image.
 */
export function bootEntries(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  preseed?: Archive,
): PlannedEntry[] {
  const files = rootFiles(tree, preseed).filter(({ path }) =>
    path !== SEEDS && !path.startsWith(`${SEEDS}/`) && !path.includes(".git")
  );
  const carried = distfiles.filter(({ place }) => place === "boot");
  const members = preseed === undefined ? [] : flatMembers(preseed);
  // builder-hex0 treats an empty directory as a file, and after the jump it is one.
  return rootEntries(files, distfileEntries(carried, "external/distfiles/"), members);
}

/**
 * Returns the entries of a directory that a bootstrap starts in: also the seeds, and the first of
 * them as init.
 *
 * @param arch Architecture in the spelling of stage0-posix.
 * @throws {UserError} "tree" if there is no seed for it.
 */
export function directoryEntries(
  tree: TreeModel,
  arch: string,
  distfiles: readonly PlannedDistfile[],
  repo: readonly TreeEntry[],
  preseed?: Archive,
): PlannedEntry[] {
  const carried = distfiles.filter(({ place }) => place === "boot");
  const others = [
    directory("./external/distfiles"),
    ...distfileEntries(carried, "external/distfiles/"),
    ...repoEntries(repo, "external/repo-preseeded"),
  ];
  if (preseed !== undefined) {
    return rootEntries(rootFiles(tree, preseed), others, treeMembers(preseed));
  }
  const path = seedPath(arch);
  const seed = tree.files.find((file) => file.kind === "file" && file.path === path);
  if (seed === undefined) {
    throw new UserError("tree", `Cannot bootstrap ${arch}: the checkout has no seed for it`, {
      where: `seed/stage0-posix/${path}`,
      hint: "Is the checkout complete? git submodule update --init --recursive",
    });
  }
  return rootEntries([...tree.files, { ...seed, path: "init" }], others);
}

/** Returns the path of the first program of a bootstrap, relative to its root. */
export function seedPath(arch: string): string {
  return `${SEEDS}/POSIX/${arch}/kaem-optional-seed`;
}

/** Returns the entries of the second disk, which the booted system mounts as `/external`. */
export function externalEntries(
  distfiles: readonly PlannedDistfile[],
  repo: readonly TreeEntry[],
): PlannedEntry[] {
  return rootEntries([], [
    directory("./distfiles"),
    ...distfileEntries(distfiles.filter(({ place }) => place !== "network"), "distfiles/"),
    ...repoEntries(repo, "repo-preseeded"),
  ]);
}

/** Path of the first script that kaem runs after builder-hex0. */
export const FIRST_SCRIPT = "kaem.x86";
/** The script used instead if an archive contains the results of the first steps. */
const PRESEEDED_SCRIPT = "preseeded.kaem";

/**
 * Returns the files of the checkout in the root. With an archive these are only the steps, and the
 * script that continues after the steps in the archive.
 *
 * @throws {UserError} "tree" if that script is missing.
 */
function rootFiles(tree: TreeModel, preseed: Archive | undefined): readonly TreeEntry[] {
  if (preseed === undefined) return tree.files;
  const script = tree.files.find(({ path }) => path === PRESEEDED_SCRIPT);
  if (script === undefined) {
    throw new UserError("tree", "Cannot use --early-preseed: the checkout has no script for it", {
      where: `seed/${PRESEEDED_SCRIPT}`,
      hint: "Use a checkout that supports a bootstrap from an archive",
    });
  }
  const steps = tree.files.filter(({ path }) => isStepPath(path));
  return [...steps, { ...script, path: FIRST_SCRIPT }];
}

/** Returns the entries of an archive for a boot image. */
function flatMembers(preseed: Archive): PlannedEntry[] {
  return flatEntries(preseed).entries
    .filter(({ path }) => path !== FIRST_SCRIPT && !path.includes(".git"))
    .map(({ path, body }) =>
      body === undefined ? directory(`./${path}`) : {
        path: `./${path}`,
        content: { kind: "preseed", body },
        size: body.sizeBytes,
        isExecutable: false,
      }
    );
}

/** Returns the entries of an archive for a directory. */
function treeMembers(preseed: Archive): PlannedEntry[] {
  return archiveEntries(preseed).filter(({ path }) => path !== FIRST_SCRIPT).map((entry) => {
    const { body, special, mode, isExecutable } = entry;
    const rest = { path: `./${entry.path}`, isExecutable, ...(mode !== undefined && { mode }) };
    if (body !== undefined) {
      return { ...rest, content: { kind: "preseed", body }, size: body.sizeBytes };
    }
    if (special !== undefined) return { ...rest, content: { kind: "special", special }, size: 0 };
    return { ...rest, content: { kind: "directory" }, size: 0 };
  });
}

/**
 * Adds the files of the overlay to entries. A file that replaces one of the checkout keeps its
 * position and whether it is executable.
 *
 * @param overlay Content by path, relative to the root.
 */
export function withOverlay(
  entries: readonly PlannedEntry[],
  overlay: ReadonlyMap<string, Uint8Array>,
): PlannedEntry[] {
  const all = new Map(entries.map((entry) => [entry.path, entry]));
  for (const [path, bytes] of overlay) {
    for (const above of parents(path)) {
      if (!all.has(`./${above}`)) all.set(`./${above}`, directory(`./${above}`));
    }
    const isExecutable = all.get(`./${path}`)?.isExecutable ?? false;
    const content = { kind: "generated", bytes } as const;
    all.set(`./${path}`, { path: `./${path}`, content, size: bytes.length, isExecutable });
  }
  return inOrder([...all.values()]);
}

/**
 * Adds directories of the user to entries. They replace nothing.
 *
 * @throws {UserError} "usage", naming what is in the way.
 */
export function withAdded(
  entries: readonly PlannedEntry[],
  added: readonly AddedDirectory[],
): PlannedEntry[] {
  if (added.length === 0) return [...entries];
  const all = new Map(entries.map((entry) => [entry.path, entry]));
  for (const { dir, path: top, entries: found } of added) {
    const put = (path: string, entry: PlannedEntry) => {
      const there = all.get(entry.path);
      if (there === undefined) all.set(entry.path, entry);
      else if (!isDirectory(there) || !isDirectory(entry)) {
        throw new UserError("usage", `Cannot add ${dir}: the bootstrap has /${path} already`, {
          where: dir,
          hint: "Name another place for it: --add DIR=/PATH",
        });
      }
    };
    for (const path of [...parents(top), top]) put(path, directory(`./${path}`));
    for (const file of found) {
      const { kind, sizeBytes: size, isExecutable } = file;
      const path = `${top}/${file.path}`;
      const content = { kind: "added", ...foundFile(file) } as const;
      put(
        path,
        kind === "directory"
          ? directory(`./${path}`)
          : { path: `./${path}`, content, size, isExecutable },
      );
    }
  }
  return inOrder([...all.values()]);
}

/** Where `improve: import_payload_rest` restores the tars of `--add` until they are unpacked. */
const TARS_PLACE = "./external/added.tars";

/**
 * Checks that directories of the user would replace nothing in a kernel bootstrap: neither what its
 * boot image has, nor what it restores.
 *
 * @param entries Of the boot image.
 * @throws {UserError} "usage", naming what is in the way.
 */
export function checkAddedPlaces(
  entries: readonly PlannedEntry[],
  distfiles: readonly PlannedDistfile[],
  repo: readonly TreeEntry[],
  added: readonly AddedDirectory[],
): void {
  if (added.length === 0) return;
  const carried = distfiles.filter(({ place }) => place === "payload");
  const restored = [
    directory("./external/distfiles"),
    ...distfileEntries(carried, "external/distfiles/"),
    ...repoEntries(repo, "external/repo-preseeded"),
    file(TARS_PLACE),
  ];
  const seeds = SEED_DIRECTORIES.map((path) => directory(`.${path}`));
  withAdded([...entries, ...seeds, ...restored], added);
}

function isDirectory({ content }: PlannedEntry): boolean {
  return content.kind === "directory";
}

/**
 * Returns the entries of a root, in order.
 *
 * @param others Replace files of the checkout; directories above them are added.
 * @param members Entries of an archive, in its order.
 */
function rootEntries(
  files: TreeModel["files"],
  others: readonly PlannedEntry[],
  members: readonly PlannedEntry[] = [],
): PlannedEntry[] {
  const entries = new Map<string, PlannedEntry>();
  const add = (entry: PlannedEntry) => entries.set(entry.path, entry);
  add(directory("."));
  for (const file of files) {
    const { path, kind, sizeBytes: size, isExecutable } = file;
    const content = { kind: "tree", ...foundFile(file) } as const;
    add(
      kind === "directory"
        ? directory(`./${path}`)
        : { path: `./${path}`, content, size, isExecutable },
    );
  }
  for (const entry of others) {
    for (const above of parents(entry.path.slice(2))) add(directory(`./${above}`));
    add(entry);
  }
  // An entry of the checkout replaces a member with the same path, also a directory with its mode.
  const added = members.filter(({ path }) => !entries.has(path));
  return inOrder([...entries.values(), ...added]);
}

/**
 * Sorts entries bytewise by path, a directory before its content. With an archive, all directories
 * come first, and its files last in the order of their data, so that it is read in one pass.
 */
function inOrder(entries: readonly PlannedEntry[]): PlannedEntry[] {
  const byPath = (some: readonly PlannedEntry[]) => sortedByBytes(some, ({ path }) => path);
  const isOfArchive = ({ content }: PlannedEntry) =>
    content.kind === "preseed" || content.kind === "special";
  const members = entries.filter(isOfArchive);
  if (members.length === 0) return byPath(entries);
  return [
    ...byPath(entries.filter(isDirectory)),
    ...byPath(entries.filter((entry) => !isDirectory(entry) && !isOfArchive(entry))),
    ...members,
  ];
}

function distfileEntries(distfiles: readonly PlannedDistfile[], prefix: string): PlannedEntry[] {
  return distfiles.map(({ name, size }) => ({
    path: `./${prefix}${name}`,
    content: { kind: "distfile", name },
    size: size ?? 0,
    isExecutable: false,
  }));
}

function repoEntries(repo: readonly TreeEntry[], top: string): PlannedEntry[] {
  return repo.map((file) => {
    const { path, kind, sizeBytes: size, isExecutable } = file;
    if (kind === "directory") return directory(`./${top}/${path}`);
    const content = { kind: "repo", ...foundFile(file) } as const;
    return { path: `./${top}/${path}`, content, size, isExecutable };
  });
}

function foundFile({ source, bundled, identity }: TreeEntry) {
  return { source, ...(bundled && { bundled }), ...(identity && { identity }) };
}

/** Returns the directories above a path, outermost first. */
function parents(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
}

/** Returns an empty file, where no directory can be. */
function file(path: string): PlannedEntry {
  const content = { kind: "generated", bytes: new Uint8Array() } as const;
  return { path, content, size: 0, isExecutable: false };
}

function directory(path: string): PlannedEntry {
  return { path, content: { kind: "directory" }, size: 0, isExecutable: true };
}
