// SPDX-License-Identifier: MIT
/**
 * Reads a live-bootstrap checkout, in a directory or in a bundle. Nothing is written to it.
 *
 * @module
 */

import type { TreeEntry } from "./entry.ts";
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readSync, realpathSync, statSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { UserError } from "../errors.ts";
import { type OpenedFile, type OpenOptions, openRegular, readWholeFrom } from "../read.ts";
import { attempting, readHint } from "../refused.ts";
import { statIfThere } from "../runtime/stat.ts";
import {
  bundleAt,
  digestBundledFile,
  hasBundled,
  holdsBundled,
  readBundledFile,
  walkBundle,
} from "./bundled.ts";

/** The file that makes a directory a checkout. */
const MANIFEST = "steps/manifest";

/**
 * Longest file of a checkout that is read whole. Of live-bootstrap's, the manifest has 10 KB, a
 * sources file and a script less than 10 KB, the hex0 of the second stage 90 KB.
 */
export const MAX_TREE_FILE_BYTES = 4 * 1024 * 1024;

/** What is read, for messages. */
const CHECKOUT = "the checkout";

/** Limit for links to directories: with two in each directory, twenty levels make a million. */
const MAX_LINKS = 1000;

/** The command that gets a checkout with all its submodules. */
const CLONE = "git clone --recursive https://github.com/fosslinux/live-bootstrap";

/**
 * Checks that a directory is a checkout, or that a bundle contains one.
 *
 * @param dir A directory, a bundle, or the first of the parts of a bundle.
 * @returns Its absolute path: the root for all reads from it.
 * @throws {UserError} "tree" if an essential file is missing, such as those of submodules; "verify"
 * if the bundle is damaged.
 */
export function openCheckout(dir: string): string {
  const root = resolve(dir);
  if (!isCheckout(root)) {
    throw new UserError("tree", `Cannot find a live-bootstrap checkout in ${root}`, {
      where: join(root, MANIFEST),
      hint: `Name one with --tree DIR, or run seedstrap inside it; get one with: ${CLONE}`,
    });
  }
  return root;
}

/** Reports whether a directory or a bundle looks like a checkout. */
function isCheckout(dir: string): boolean {
  return hasTreeFile(dir, MANIFEST);
}

/**
 * Reads a file of the checkout as text.
 *
 * @param path Relative to the checkout.
 * @throws {UserError} "tree" if it is missing, unreadable, too long or not UTF-8.
 */
export function readTreeText(root: string, path: string): string {
  const bytes = readTreeFile(root, path);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new UserError("tree", `Cannot read ${path}: it is not UTF-8 text`, {
      where: join(root, path),
      cause,
    });
  }
}

/**
 * Reads a whole file of the checkout, of at most {@link MAX_TREE_FILE_BYTES}.
 *
 * @throws {UserError} "tree", and "verify" in a bundle.
 */
export function readTreeFile(root: string, path: string): Uint8Array {
  const limitBytes = MAX_TREE_FILE_BYTES;
  const source = join(root, path);
  const bundle = bundleAt(root);
  if (bundle !== undefined) return readBundledFile(bundle, path, source, limitBytes);
  return reading(source, () => {
    const opened = openInside(root, path);
    try {
      return readWholeFrom(opened, source, { ...ofTree(path), limitBytes });
    } finally {
      opened.close();
    }
  });
}

/**
 * SHA-256 of a file of the checkout of any size, in lower-case hex.
 *
 * @throws {UserError} as {@link readTreeFile}
 */
export function digestTreeFile(root: string, path: string): string {
  const source = join(root, path);
  const bundle = bundleAt(root);
  if (bundle !== undefined) return digestBundledFile(bundle, path, source);
  return reading(source, () => {
    const { file, close } = openInside(root, path);
    try {
      const hash = createHash("sha256");
      const buffer = new Uint8Array(PIECE_BYTES);
      while (true) {
        const read = readSync(file, buffer);
        if (read === 0) return hash.digest("hex");
        hash.update(buffer.subarray(0, read));
      }
    } finally {
      close();
    }
  });
}

/**
 * Opens a file of the checkout. What was opened is the file that the path leads to inside of it,
 * whatever the path led to a moment before.
 */
function openInside(root: string, path: string): OpenedFile {
  const source = join(root, path);
  const home = realpathSync(root);
  // Told as what it is, before the error for something that cannot be opened.
  inside(home, source);
  const opened = openRegular(source, ofTree(path));
  try {
    const found = lstatSync(inside(home, source));
    if (found.dev === opened.stat.dev && found.ino === opened.stat.ino) return opened;
    throw new UserError("tree", `Cannot read ${path}: it was replaced while it was read`, {
      where: source,
      hint: "Do not change files while a build or a write reads them",
    });
  } catch (error) {
    opened.close();
    throw error;
  }
}

const PIECE_BYTES = 64 * 1024;

function ofTree(path: string): OpenOptions {
  return { what: `read ${path}`, kind: "tree", hint: hintFor("the checkout") };
}

/** Reports whether the checkout has a regular file with that path. */
export function hasTreeFile(root: string, path: string): boolean {
  const bundle = bundleAt(root);
  if (bundle !== undefined) return hasBundled(bundle, path);
  return statIfThere(join(root, path), ofTree(path))?.isFile() === true;
}

/** Reports whether a directory of the checkout is there and has more in it than `.git`. */
export function holdsAnything(root: string, path: string): boolean {
  const bundle = bundleAt(root);
  if (bundle !== undefined) return holdsBundled(bundle, path);
  const place = join(root, path);
  if (statIfThere(place, ofTree(path))?.isDirectory() !== true) return false;
  return reading(place, () => readdirSync(place)).some((name) => name !== ".git");
}

/**
 * Lists everything below a directory of the checkout.
 *
 * A symbolic link counts as the file or directory it points to, as in the Python tools, and has to
 * stay inside the checkout. `.git` is left out.
 *
 * @param path Relative to the checkout.
 * @param what The checkout, or what is walked instead, for messages.
 * @param skips Reports whether to leave out a path, relative to the root, and everything below it.
 * @returns Files and directories without the directory itself, unordered.
 * @throws {UserError} "tree" for a link that leads out of it or into a loop, too many links to
 * directories, a device, socket or pipe, an unreadable path, and a name that is not UTF-8.
 */
export function walkTree(
  root: string,
  path: string,
  what = CHECKOUT,
  skips: (path: string) => boolean = () => false,
): TreeEntry[] {
  const bundle = bundleAt(root);
  if (bundle !== undefined) {
    return walkBundle(bundle, root, path, skips);
  }
  const entries: TreeEntry[] = [];
  let links = 0;
  const reading = <T>(place: string, read: () => T) => readingOf(what, place, read);
  const home = reading(root, () => realpathSync(root));
  const walk = (dir: string, prefix: string, above: readonly string[]) => {
    for (const name of reading(dir, () => readdirSync(dir))) {
      const source = join(dir, name);
      const inner = prefix === "" ? name : `${prefix}/${name}`;
      if (name === ".git" || skips(join(path, inner))) continue;
      if (name.includes("\uFFFD")) {
        throw new UserError("tree", `Cannot use a file name that is not UTF-8: ${inner}`, {
          where: dir,
          hint: `Rename the file, or move it out of ${what}`,
        });
      }
      // A list of files has one in each line: in the image, and of a bundle.
      if (name.includes("\n") && what === CHECKOUT) {
        throw new UserError("tree", `Cannot use ${JSON.stringify(inner)}: its name has a newline`, {
          where: join(dir, name),
          hint: `Rename the file, or move it out of ${what}`,
        });
      }
      const isLink = reading(source, () => lstatSync(source)).isSymbolicLink();
      const real = isLink ? reading(source, () => inside(home, source, what)) : undefined;
      const stat = reading(source, () => statSync(source));
      if (stat.isFile()) {
        const isExecutable = (stat.mode & 0o100) !== 0;
        const identity = { dev: stat.dev, ino: stat.ino };
        const sizeBytes = stat.size;
        entries.push({ path: inner, kind: "file", source, identity, sizeBytes, isExecutable });
      } else if (stat.isDirectory()) {
        const place = real ?? join(above.at(-1)!, name);
        if (above.includes(place)) {
          throw new UserError("tree", `Cannot follow a link into a directory above it`, {
            where: source,
          });
        }
        if (isLink && ++links > MAX_LINKS) {
          throw new UserError("tree", `Cannot follow more than ${MAX_LINKS} links to directories`, {
            where: source,
            hint: "Replace links to directories that contain such links by what they point to",
          });
        }
        entries.push({ path: inner, kind: "directory", source, sizeBytes: 0, isExecutable: true });
        walk(source, inner, [...above, place]);
      } else {
        throw new UserError("tree", `Cannot use ${inner}: neither a file nor a directory`, {
          where: source,
          hint: `Move it out of ${what}`,
        });
      }
    }
  };
  const top = join(root, path);
  walk(top, "", [reading(top, () => inside(home, top, what))]);
  return entries;
}

/** Returns the real path of a path, which must be inside the checkout. */
function inside(home: string, place: string, what = "the checkout"): string {
  const real = realpathSync(place);
  const way = relative(home, real);
  if (way === ".." || way.startsWith(`..${sep}`)) {
    throw new UserError("tree", `Cannot follow a link out of ${what}, to ${real}`, {
      where: place,
      hint: "Replace the link by what it points to",
    });
  }
  return real;
}

function reading<T>(place: string, read: () => T): T {
  return readingOf("the checkout", place, read);
}

function readingOf<T>(what: string, place: string, read: () => T): T {
  return attempting(`read ${what}`, place, read, {
    kind: "tree",
    hint: hintFor(what),
  });
}

function hintFor(what: string): (code: string) => string {
  return (code) =>
    code === "ENOENT" && what === CHECKOUT
      ? "Is the checkout complete? git submodule update --init --recursive"
      : readHint(code);
}
