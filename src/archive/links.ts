// SPDX-License-Identifier: MIT
/**
 * Resolves the symbolic links of an archive, as a kernel with the root of the archive would.
 *
 * Every link is followed only once, however many others lead through it, so the time is limited by
 * the size of the archive, also for a hostile one.
 *
 * @module
 */

import type { ArchiveMember, SymlinkMember } from "./types.ts";

/** Linux follows at most this many links to resolve one path. */
const MAX_LINKS = 40;

/** A node of the tree. Only the root is a directory without a member. */
interface Place {
  /** Absent for the root. */
  readonly up?: Place;
  member?: ArchiveMember;
  inside?: Map<string, Place>;
  /** The end of a link that was followed. */
  end?: End;
}

/** Where a link leads, if anywhere, and the number of links followed to get there. */
interface End {
  readonly place: Place | undefined;
  readonly links: number;
}

/** The end of a link: a member, the root, nothing, or a loop (`circle`). */
export type LinkEnd = Exclude<ArchiveMember, SymlinkMember> | "root" | "nothing" | "circle";

/**
 * Makes a function that follows the links of an archive.
 *
 * @param members Of the archive, all of them, in any order.
 */
export function linkFollower(
  members: readonly ArchiveMember[],
): (link: SymlinkMember) => LinkEnd {
  const root: Place = {};
  for (const member of members) placeOf(root, member.path).member = member;
  return (link) => {
    const end = follow(placeOf(root, link.path), link, root, 1);
    if (end === undefined) return "circle";
    if (end.place === root) return "root";
    const found = end.place?.member;
    return found === undefined || found.kind === "symlink" ? "nothing" : found;
  };
}

/** Returns the node of a path; creates it if it is missing. */
function placeOf(root: Place, path: string): Place {
  let place = root;
  for (const part of path.split("/")) {
    place.inside ??= new Map();
    let next = place.inside.get(part);
    if (next === undefined) place.inside.set(part, next = { up: place });
    place = next;
  }
  return place;
}

/** Follows a link, the `depth`th of its path; returns undefined if there are too many. */
function follow(place: Place, link: SymlinkMember, root: Place, depth: number): End | undefined {
  if (place.end !== undefined) return place.end;
  if (depth > MAX_LINKS) return undefined;
  const parts = link.target.split("/");
  let at = link.target.startsWith("/") ? root : place.up ?? root;
  let links = 1;
  for (const [index, part] of parts.entries()) {
    if (part === "" || part === ".") continue;
    let next = part === ".." ? at.up ?? root : at.inside?.get(part);
    if (next?.member?.kind === "symlink") {
      const end = follow(next, next.member, root, depth + 1);
      if (end === undefined || (links += end.links) > MAX_LINKS) return undefined;
      next = end.place;
    }
    if (next === root || next?.member?.kind === "directory") {
      at = next;
      continue;
    }
    // A file has nothing below it.
    const isLast = index === parts.length - 1 && next?.member !== undefined;
    return place.end = { place: isLast ? next : undefined, links };
  }
  return place.end = { place: at, links };
}
