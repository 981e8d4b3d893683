// SPDX-License-Identifier: MIT
/**
 * Block maps that were changed.
 *
 * @module
 */
import { sha256 } from "../fetch/servers.ts";

const FIELD = /(<BmapFileChecksum>\s*)[0-9a-f]{64}/;

/** Gives a bmap that was changed the checksum that it should have; each character is a byte. */
export function sealedBmap(text: string): string {
  const zeroed = text.replace(FIELD, (_, tag) => tag + "0".repeat(64));
  return text.replace(FIELD, (_, tag) => tag + sha256(Buffer.from(zeroed, "latin1")));
}
