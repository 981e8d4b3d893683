// SPDX-License-Identifier: MIT
/**
 * What an archive holds, as data.
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
  /** As it stands in the archive: relative to the link, or with a leading "/" to the root. */
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
 * Owners are not kept: whoever writes a member owns it. A set-user-id bit is thus only there where
 * root owned the file in the archive, a set-group-id bit only where the group 0 did: otherwise
 * another user's program would become root's.
 */
export type ArchiveMember =
  | FileMember
  | DirectoryMember
  | SymlinkMember
  | HardlinkMember
  | DeviceMember;

/** An archive, as it was when it was read. */
export interface Archive {
  /** The file on this machine. */
  readonly path: string;
  /** In the order of the archive, each path once, and a directory ahead of what it holds. */
  readonly members: readonly ArchiveMember[];
  /** Length of the tar file when it is expanded. */
  readonly expandedBytes: number;
}
