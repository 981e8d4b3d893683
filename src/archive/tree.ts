// SPDX-License-Identifier: MIT
/**
 * The members of an archive, put together to a tree.
 *
 * @module
 */

import { parentOf } from "./names.ts";
import type { ArchiveMember, FileMember } from "./types.ts";

/** Most members of an archive, directories that are only implied included. */
export const MAX_MEMBERS = 1_000_000;

/** Members by path. What comes later replaces what was there, as tar does it. */
export class MemberTree {
  readonly #members = new Map<string, ArchiveMember>();
  /** Paths of the hard links to a file, by its path. */
  readonly #links = new Map<string, Set<string>>();

  /**
   * Adds a member.
   *
   * @returns Why it is refused, or undefined.
   */
  add(member: ArchiveMember): string | undefined {
    const fault = this.#addParents(member.path);
    if (fault !== undefined) return fault;
    const before = this.#members.get(member.path);
    if (before !== undefined && (before.kind === "directory") !== (member.kind === "directory")) {
      return `it is a ${member.kind}, and was a ${before.kind} further up`;
    }
    if (member.kind === "hardlink") {
      const target = this.#file(member.target);
      if (target === undefined) {
        return `it is a hard link to ${JSON.stringify(member.target)}, which is no file further up`;
      }
      // A link to itself leaves what is there, as does one that is there already.
      if (target.path === member.path) return undefined;
      this.#remove(member.path);
      return this.#put({ ...member, target: target.path });
    }
    // A directory stays ahead of what it holds.
    if (member.kind !== "directory") this.#remove(member.path);
    return this.#put(member);
  }

  /**
   * Leaves out everything with one of these names at the top.
   *
   * @returns The other members in order.
   */
  without(names: ReadonlySet<string>): ArchiveMember[] {
    const isDropped = (path: string) => names.has(path.split("/", 1)[0]!);
    if (names.size > 0) {
      for (const path of [...this.#members.keys()].filter(isDropped)) this.#remove(path);
    }
    return [...this.#members.values()];
  }

  /** Takes a member out. The first one of the links to a file then is the file. */
  #remove(path: string): void {
    const member = this.#members.get(path);
    this.#members.delete(path);
    if (member?.kind === "hardlink") this.#links.get(member.target)?.delete(path);
    if (member?.kind !== "file") return;
    const [heir, ...others] = this.#links.get(path) ?? [];
    this.#links.delete(path);
    if (heir === undefined) return;
    this.#members.set(heir, { ...member, path: heir });
    this.#links.set(heir, new Set(others));
    for (const other of others) {
      this.#members.set(other, { kind: "hardlink", path: other, target: heir });
    }
  }

  #put(member: ArchiveMember): string | undefined {
    this.#members.set(member.path, member);
    if (member.kind === "hardlink") {
      const links = this.#links.get(member.target) ?? new Set();
      this.#links.set(member.target, links.add(member.path));
    }
    return this.#members.size > MAX_MEMBERS
      ? `the archive has more than ${MAX_MEMBERS} members`
      : undefined;
  }

  /** The file that a path is a name of. */
  #file(path: string): FileMember | undefined {
    const member = this.#members.get(path);
    if (member?.kind === "hardlink") return this.#file(member.target);
    return member?.kind === "file" ? member : undefined;
  }

  /** Sees to it that what a path lies in is a directory. */
  #addParents(path: string): string | undefined {
    const parent = parentOf(path);
    if (parent === undefined) return undefined;
    const member = this.#members.get(parent);
    if (member?.kind === "directory") return undefined;
    if (member !== undefined) {
      const what = member.kind === "symlink" ? "symbolic link" : member.kind;
      return `it lies below ${JSON.stringify(parent)}, which is a ${what}`;
    }
    return this.#addParents(parent) ?? this.#put({ kind: "directory", path: parent, mode: 0o755 });
  }
}
