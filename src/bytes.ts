// SPDX-License-Identifier: MIT
/**
 * Helpers for bytes: digests, order, zeros, UUIDs.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

/** Returns the SHA-256 of bytes, or of text as UTF-8, as 64 lower-case hex digits. */
export function sha256Of(content: Uint8Array | string): string {
  return createHash("sha256").update(content).digest("hex");
}

/** Compares byte strings as `memcmp` does; a prefix comes first. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!;
  }
  return a.length - b.length;
}

/**
 * Returns items sorted by the UTF-8 bytes of their text, the same on every host and in every
 * locale.
 *
 * @param textOf Returns the sort key of an item. Items with equal keys keep their order.
 */
export function sortedByBytes<T>(items: Iterable<T>, textOf: (item: T) => string): T[] {
  const encoder = new TextEncoder();
  return Array.from(items, (item) => ({ item, key: encoder.encode(textOf(item)) }))
    .sort((a, b) => compareBytes(a.key, b.key)).map(({ item }) => item);
}

const ZEROS = Buffer.alloc(64 * 1024);

/** Reports whether all bytes are zero. */
export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length);
    if (ZEROS.compare(part, 0, part.length, 0, part.length) !== 0) return false;
  }
  return true;
}

/** Returns a UUID of version 8 (RFC 9562: custom bits) made from the first 16 bytes. */
export function uuidOf(seed: Uint8Array): string {
  const bytes = Buffer.from(seed.subarray(0, 16));
  bytes[6] = 0x80 + bytes[6]! % 16;
  bytes[8] = 0x80 + bytes[8]! % 64;
  const hex = bytes.toString("hex");
  return [0, 8, 12, 16, 20].map((at, index, all) => hex.slice(at, all[index + 1])).join("-");
}
