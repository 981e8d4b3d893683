// SPDX-License-Identifier: MIT
/**
 * Converts the members of an archive into entries of an image or a directory.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { sortedByBytes } from "../bytes.ts";
import type { MemberSegment } from "../format/segment.ts";
import { type LinkEnd, linkFollower } from "./links.ts";
import type { Archive, ArchiveMember, DeviceType, FileMember, SymlinkMember } from "./types.ts";

/** A file, or a directory if there is no body. */
export interface FlatEntry {
  /** Path in the archive. */
  readonly path: string;
  readonly body?: MemberSegment;
}

/** A member that cannot be in the image, or not as it was. */
export interface LeftOut {
  readonly path: string;
  /** The reason, or what is there instead. */
  readonly why: string;
}

/** What a directory can contain besides files and directories. */
export type SpecialFile =
  | { readonly kind: "symlink"; readonly target: string }
  | {
    readonly kind: "device";
    readonly type: DeviceType;
    readonly major: number;
    readonly minor: number;
  };

/** An entry of a directory to write: a directory if it has neither body nor special. */
export interface ArchiveEntry {
  readonly path: string;
  readonly body?: MemberSegment;
  readonly special?: SpecialFile;
  /** The lowest 12 bits; absent for a symbolic link. */
  readonly mode?: number;
  readonly isExecutable: boolean;
}

/**
 * Returns entries for a medium with files and directories only: links become copies of the files
 * that they lead to in the new root.
 *
 * @returns Directories first, sorted bytewise; then files in the order of their data, so that the
 * archive is expanded once. Also the members that are left out or changed.
 * @throws {UserError} "format" for a link that leads through a loop or through too many links.
 */
export function flatEntries(
  archive: Archive,
): { readonly entries: readonly FlatEntry[]; readonly leftOut: readonly LeftOut[] } {
  const members = new Map(archive.members.map((member) => [member.path, member]));
  const follow = linkFollower(archive.members);
  const directories: string[] = [];
  const files: MemberFile[] = [];
  const leftOut: LeftOut[] = [];
  const add = (path: string, found: Found) => {
    if (found === "directory") directories.push(path);
    else if (found === "nothing") leftOut.push({ path, why: "it leads to nothing" });
    else if (found === "device") leftOut.push({ path, why: "it is a device" });
    else files.push({ path, file: found });
  };
  for (const member of archive.members) {
    const { path } = member;
    const found = member.kind === "symlink"
      ? followed(archive, members, member, follow(member))
      : foundAs(members, member);
    add(path, found);
    if (member.kind === "symlink" && found === "directory") {
      leftOut.push({ path, why: `it is an empty directory, and was a link to ${member.target}` });
    }
  }
  return {
    entries: [
      ...sortedByBytes(directories, (path) => path).map((path) => ({ path })),
      ...inOrderOfData(files).map(({ path, file }) => ({
        path,
        body: bodyOf(archive, file, path),
      })),
    ],
    leftOut,
  };
}

/**
 * Returns entries for a directory, including links and devices. Hard links become separate files,
 * as the bootstrap changes files in place.
 *
 * @returns Directories in the order of the archive, then files in the order of their data, then
 * all others.
 */
export function archiveEntries(archive: Archive): ArchiveEntry[] {
  const members = new Map(archive.members.map((member) => [member.path, member]));
  const directories: ArchiveEntry[] = [];
  const files: MemberFile[] = [];
  const others: ArchiveEntry[] = [];
  for (const member of archive.members) {
    const { path } = member;
    switch (member.kind) {
      case "directory":
        directories.push({ path, mode: member.mode, isExecutable: true });
        break;
      case "file":
        files.push({ path, file: member });
        break;
      case "hardlink":
        files.push({ path, file: linkedFile(members, member.target) });
        break;
      case "symlink":
        others.push({
          path,
          special: { kind: "symlink", target: member.target },
          isExecutable: false,
        });
        break;
      case "device": {
        const { kind, type, major, minor, mode } = member;
        others.push({ path, special: { kind, type, major, minor }, mode, isExecutable: false });
      }
    }
  }
  return [
    ...directories,
    ...inOrderOfData(files).map(({ path, file }) => ({
      path,
      body: bodyOf(archive, file, path),
      mode: file.mode,
      isExecutable: (file.mode & 0o100) !== 0,
    })),
    ...others,
  ];
}

/** Makes a function that reports whether a path is a file, or a link that leads to one. */
export function fileFinder({ members }: Archive): (path: string) => boolean {
  const byPath = new Map(members.map((member) => [member.path, member]));
  const follow = linkFollower(members);
  return (path) => {
    const member = byPath.get(path);
    const end = member?.kind === "symlink" ? follow(member) : member;
    return typeof end === "object" && (end.kind === "file" || end.kind === "hardlink");
  };
}

/** One name of a file, which may have several. */
interface MemberFile {
  readonly path: string;
  readonly file: FileMember;
}

function inOrderOfData(files: readonly MemberFile[]): MemberFile[] {
  return sortedByBytes(files, ({ path }) => path)
    .sort((a, b) => a.file.offset - b.file.offset);
}

function bodyOf({ path: archive }: Archive, file: FileMember, member: string): MemberSegment {
  const { offset, size, sha256 } = file;
  return { kind: "member", archive, member, offsetBytes: offset, sizeBytes: size, sha256 };
}

/** The file that a path leads to, or why it leads to none. */
type Found = FileMember | "directory" | "device" | "nothing";

function followed(
  archive: Archive,
  members: ReadonlyMap<string, ArchiveMember>,
  { path }: SymlinkMember,
  end: LinkEnd,
): Found {
  if (end === "circle") {
    const name = JSON.stringify(path);
    throw new UserError(
      "format",
      `Cannot use archive ${archive.path}: member ${name}: too many levels of symbolic links`,
      { where: `${archive.path}: ${name}`, hint: "Create the archive again without this link" },
    );
  }
  return end === "root" ? "directory" : end === "nothing" ? end : foundAs(members, end);
}

function foundAs(
  members: ReadonlyMap<string, ArchiveMember>,
  member: Exclude<ArchiveMember, SymlinkMember>,
): Found {
  if (member.kind === "hardlink") return linkedFile(members, member.target);
  return member.kind === "file" ? member : member.kind;
}

function linkedFile(members: ReadonlyMap<string, ArchiveMember>, path: string): FileMember {
  const member = members.get(path);
  if (member?.kind !== "file") throw new Error(`${path} is not a file of the archive`);
  return member;
}
