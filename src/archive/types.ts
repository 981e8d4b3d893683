// SPDX-License-Identifier: MIT
/**
 * The members of an archive, as data.
 *
 * @module
 */

/** A file with data of its own. */
export interface FileMember {
  readonly kind: "file";
  readonly path: string;
  /** The lowest 12 bits; see {@link ArchiveMember}. */
  readonly mode: number;
  /** First byte of the data in the expanded archive. */
  readonly offset: number;
  readonly size: number;
  readonly sha256: string;
}

export interface DirectoryMember {
  readonly kind: "directory";
  readonly path: string;
  readonly mode: number;
}

export interface SymlinkMember {
  readonly kind: "symlink";
  readonly path: string;
  /** As in the archive: relative to the link, or with a leading "/" to the root. */
  readonly target: string;
}

export interface HardlinkMember {
  readonly kind: "hardlink";
  readonly path: string;
  /** Path of the file member that it is another name of. */
  readonly target: string;
}

/** A device or a fifo. */
export interface DeviceMember {
  readonly kind: "device";
  readonly path: string;
  readonly mode: number;
  readonly type: DeviceType;
  /** Both 0 for a fifo. */
  readonly major: number;
  readonly minor: number;
}

export type DeviceType = "char" | "block" | "fifo";

/**
 * A member of an archive. Its path is relative, without leading `./`, trailing `/`, `.` or `..`.
 *
 * Owners are not kept: the user who writes a member owns it. Thus a set-user-id bit is kept only if
 * the owner in the archive is root, and a set-group-id bit only if the group is 0. Otherwise a
 * program that runs as another user would run as root.
 */
export type ArchiveMember =
  | FileMember
  | DirectoryMember
  | SymlinkMember
  | HardlinkMember
  | DeviceMember;

/** An archive, as of the time it was read. */
export interface Archive {
  /** Path of the archive file. */
  readonly path: string;
  /** In the order of the archive, each path once, and a directory before its contents. */
  readonly members: readonly ArchiveMember[];
  /** Length of the expanded tar file. */
  readonly expandedBytes: number;
}
