// SPDX-License-Identifier: MIT
/**
 * The members of an archive, put together to a tree.
 *
 * @module
 */

import { parentOf } from "./names.ts";
import type { ArchiveMember, FileMember, HardlinkMember } from "./types.ts";

/** Most members of an archive, directories that are only implied included. */
export const MAX_MEMBERS = 1_000_000;

/** A name of a file. Those that share its data share the object: the first of them is the file. */
interface FileName {
  readonly kind: "file" | "hardlink";
  readonly path: string;
  readonly file: FileMember;
}

type Named = FileName | Exclude<ArchiveMember, FileMember | HardlinkMember>;

/** Members by path. What comes later replaces what was there, as tar does it. */
export class MemberTree {
  readonly #members = new Map<string, Named>();

  /**
   * Adds a member.
   *
   * @returns Why it is refused, or undefined.
   */
  add(member: ArchiveMember): string | undefined {
    const fault = this.#addParents(member.path);
    if (fault !== undefined) return fault;
    const { kind, path } = member;
    const before = this.#members.get(path);
    if (before !== undefined && (before.kind === "directory") !== (kind === "directory")) {
      return `it is a ${kind}, and was a ${before.kind} further up`;
    }
    const named = member.kind === "file"
      ? { kind: member.kind, path, file: member }
      : member.kind === "hardlink"
      ? this.#linked(member)
      : member;
    if (typeof named === "string") return named;
    // A link to itself leaves what is there, as does one that is there already.
    if ("file" in named && before !== undefined && "file" in before && named.file === before.file) {
      return undefined;
    }
    // A directory stays ahead of what it holds.
    if (kind !== "directory") this.#members.delete(path);
    return this.#put(named);
  }

  /**
   * Leaves out everything with one of these names at the top.
   *
   * @returns The other members in order.
   */
  without(names: ReadonlySet<string>): ArchiveMember[] {
    const files = new Map<FileMember, string>();
    return [...this.#members.values()].flatMap((named): ArchiveMember[] => {
      const { path } = named;
      if (names.has(path.split("/", 1)[0]!)) return [];
      if (!("file" in named)) return [named];
      const target = files.get(named.file);
      if (target !== undefined) return [{ kind: "hardlink", path, target }];
      files.set(named.file, path);
      return [{ ...named.file, path }];
    });
  }

  /** What a hard link is another name of, or why there is no such thing. */
  #linked({ kind, path, target }: HardlinkMember): FileName | string {
    const named = this.#members.get(target);
    if (named !== undefined && "file" in named) return { kind, path, file: named.file };
    return `it is a hard link to ${JSON.stringify(target)}, which is no file further up`;
  }

  #put(named: Named): string | undefined {
    this.#members.set(named.path, named);
    return this.#members.size > MAX_MEMBERS
      ? `the archive has more than ${MAX_MEMBERS} members`
      : undefined;
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
