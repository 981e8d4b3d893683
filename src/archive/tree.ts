// SPDX-License-Identifier: MIT
/**
 * Builds the tree of the members of an archive.
 *
 * @module
 */

import { parentOf } from "./names.ts";
import type { ArchiveMember, FileMember, HardlinkMember } from "./types.ts";

/** Most members of an archive, including implied directories. */
export const MAX_MEMBERS = 1_000_000;

/** One name of a file. Names with the same data share one object, and the first is the file. */
interface FileName {
  readonly kind: "file" | "hardlink";
  readonly path: string;
  readonly file: FileMember;
}

type Named = FileName | Exclude<ArchiveMember, FileMember | HardlinkMember>;

/** Members by path. A later member replaces an earlier one of the same path, as in tar. */
export class MemberTree {
  readonly #members = new Map<string, Named>();

  /**
   * Adds a member.
   *
   * @returns The reason why it is refused, or undefined.
   */
  add(member: ArchiveMember): string | undefined {
    const fault = this.#addParents(member.path);
    if (fault !== undefined) return fault;
    const { kind, path } = member;
    const before = this.#members.get(path);
    if (before !== undefined && (before.kind === "directory") !== (kind === "directory")) {
      return `it is a ${kind}, and was a ${before.kind} before`;
    }
    const named = member.kind === "file"
      ? { kind: member.kind, path, file: member }
      : member.kind === "hardlink"
      ? this.#linked(member)
      : member;
    if (typeof named === "string") return named;
    // A hard link to its own path, or to the file already there, changes nothing.
    if ("file" in named && before !== undefined && "file" in before && named.file === before.file) {
      return undefined;
    }
    // A directory stays before its contents.
    if (kind !== "directory") this.#members.delete(path);
    return this.#put(named);
  }

  /**
   * Returns the members that are not at or below one of these names at the top level.
   *
   * @returns Members in order.
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

  /** Returns the file of a hard link, or the reason why there is none. */
  #linked({ kind, path, target }: HardlinkMember): FileName | string {
    const named = this.#members.get(target);
    if (named !== undefined && "file" in named) return { kind, path, file: named.file };
    return `it is a hard link to ${JSON.stringify(target)}, which is not an earlier file`;
  }

  #put(named: Named): string | undefined {
    this.#members.set(named.path, named);
    return this.#members.size > MAX_MEMBERS
      ? `the archive has more than ${MAX_MEMBERS} members`
      : undefined;
  }

  /** Adds the directories above a path; returns the reason if one of them is not a directory. */
  #addParents(path: string): string | undefined {
    const parent = parentOf(path);
    if (parent === undefined) return undefined;
    const member = this.#members.get(parent);
    if (member?.kind === "directory") return undefined;
    if (member !== undefined) {
      const what = member.kind === "symlink" ? "symbolic link" : member.kind;
      return `it is below ${JSON.stringify(parent)}, which is a ${what}`;
    }
    return this.#addParents(parent) ?? this.#put({ kind: "directory", path: parent, mode: 0o755 });
  }
}
