// SPDX-License-Identifier: MIT
/**
 * What two archives differ in: tar, as it is or compressed.
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";
import { GIB } from "../format/segment.ts";
import { readArchiveFrom } from "./archive.ts";
import type { ArchiveMember } from "./types.ts";

/** A member that two archives do not have alike. */
export interface MemberDifference {
  readonly kind: "only in first" | "only in second" | "different";
  readonly path: string;
}

/** Most that a package may expand to: far beyond any. */
const MAX_BYTES = 256 * GIB;

/**
 * Compares two archives member by member: kind, mode, content, and where a link leads. Nothing is
 * found where only times, owners, the order or the compression differ.
 *
 * @throws {UserError} "format" for what cannot be read as an archive.
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

/** What counts of each member, by path. */
async function readMembers(source: ByteSource): Promise<Map<string, string>> {
  const { members } = await readArchiveFrom(source, { maxBytes: MAX_BYTES });
  return new Map(members.map((member) => [member.path, describe(member)]));
}

function describe(member: ArchiveMember): string {
  if (member.kind !== "file") return JSON.stringify(member);
  const { kind, mode, size, sha256 } = member;
  return JSON.stringify([kind, mode, size, sha256]);
}
