// SPDX-License-Identifier: MIT
/**
 * Compares two archives: tar, plain or compressed.
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";
import { GIB } from "../format/segment.ts";
import { readArchiveFrom } from "./archive.ts";
import type { ArchiveMember } from "./types.ts";

/** A member that differs between two archives. */
export interface MemberDifference {
  readonly kind: "only in first" | "only in second" | "different";
  readonly path: string;
}

/** Limit for the expanded size of a package, far above that of any. */
const MAX_BYTES = 256 * GIB;

/**
 * Compares two archives member by member: kind, mode, content, and target of a link. Times, owners,
 * order and compression are ignored.
 *
 * @throws {UserError} "format" if one cannot be read as an archive.
 */
export async function diffMembers(a: ByteSource, b: ByteSource): Promise<MemberDifference[]> {
  const before = await readMembers(a);
  const after = await readMembers(b);
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  return paths.flatMap((path): MemberDifference[] => {
    if (!after.has(path)) return [{ kind: "only in first", path }];
    if (!before.has(path)) return [{ kind: "only in second", path }];
    return before.get(path) === after.get(path) ? [] : [{ kind: "different", path }];
  });
}

/** Returns the compared properties of each member as text, by path. */
async function readMembers(source: ByteSource): Promise<Map<string, string>> {
  const { members } = await readArchiveFrom(source, { maxBytes: MAX_BYTES });
  return new Map(members.map((member) => [member.path, describe(member)]));
}

function describe(member: ArchiveMember): string {
  if (member.kind !== "file") return JSON.stringify(member);
  const { kind, mode, size, sha256 } = member;
  return JSON.stringify([kind, mode, size, sha256]);
}
