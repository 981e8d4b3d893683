// SPDX-License-Identifier: MIT
/**
 * Many paths in little memory: each is kept once, as bytes outside of the heap of the runtime, and
 * has a number.
 *
 * Where a path is looked up follows from its keyed hash (HalfSipHash-1-3 of 32 bits, Aumasson and
 * Bernstein), as the paths of a hostile image would else all be looked up in one place.
 *
 * @module
 */

import { randomBytes } from "node:crypto";

const PAGE_BYTES = 1024 * 1024;
const PAGE_PLACES = 16 * 1024;

/** Numbers from 0 on, in the order in which paths first came. */
export class PathNumbers {
  readonly #key = randomBytes(8);
  readonly #encoder = new TextEncoder();
  #scratch = new Uint8Array(4096);
  /** Pages with the bytes of the paths: they are added, and never copied. */
  readonly #pages: Uint8Array[] = [];
  #used = Infinity;
  /** Where each path is: page, offset and length. */
  readonly #places: Int32Array[] = [];
  /** One more than the number of a path, by hash; 0 is free. At most half of it is in use. */
  #slots = new Int32Array(2048);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** The number of a path, a new one where it comes for the first time. */
  add(path: string): number {
    const most = 3 * path.length;
    if (this.#scratch.length < most) this.#scratch = new Uint8Array(most);
    const { written } = this.#encoder.encodeInto(path, this.#scratch);
    const bytes = this.#scratch.subarray(0, written);
    const slot = this.#slotOf(bytes);
    const known = this.#slots[slot]! - 1;
    if (known >= 0) return known;
    const number = this.#count++;
    if (this.#used + written > PAGE_BYTES) {
      this.#pages.push(new Uint8Array(Math.max(PAGE_BYTES, written)));
      this.#used = 0;
    }
    this.#pages.at(-1)!.set(bytes, this.#used);
    const row = number % PAGE_PLACES;
    if (row === 0) this.#places.push(new Int32Array(3 * PAGE_PLACES));
    this.#places.at(-1)!.set([this.#pages.length - 1, this.#used, written], 3 * row);
    this.#used += written;
    this.#slots[slot] = number + 1;
    if (2 * this.#count > this.#slots.length) this.#spread();
    return number;
  }

  /** The path of a number. */
  path(number: number): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.#bytesOf(number));
  }

  #bytesOf(number: number): Uint8Array {
    const places = this.#places[Math.floor(number / PAGE_PLACES)]!;
    const at = 3 * (number % PAGE_PLACES);
    const offset = places[at + 1]!;
    return this.#pages[places[at]!]!.subarray(offset, offset + places[at + 2]!);
  }

  /** Where a path is, or the free place where it belongs. */
  #slotOf(bytes: Uint8Array): number {
    const length = this.#slots.length;
    let slot = halfSipHash(this.#key, bytes) % length;
    for (let held = this.#slots[slot]!; held > 0; held = this.#slots[slot]!) {
      if (isSame(this.#bytesOf(held - 1), bytes)) break;
      slot = (slot + 1) % length;
    }
    return slot;
  }

  #spread(): void {
    this.#slots = new Int32Array(2 * this.#slots.length);
    for (let number = 0; number < this.#count; number++) {
      this.#slots[this.#slotOf(this.#bytesOf(number))] = number + 1;
    }
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/**
 * HalfSipHash-1-3 with an output of 32 bits.
 *
 * @param key 8 bytes.
 */
export function halfSipHash(key: Uint8Array, bytes: Uint8Array): number {
  const k0 = wordAt(key, 0, 4);
  const k1 = wordAt(key, 4, 4);
  let [v0, v1, v2, v3] = [k0, k1, 0x6c796765 ^ k0, 0x74656462 ^ k1];
  const whole = bytes.length - bytes.length % 4;
  // The last word has the rest of the bytes, and the length in its highest byte. Three more rounds.
  for (let at = 0, left = 3; at <= whole || left > 0; at += 4) {
    let word = 0;
    if (at < whole) word = wordAt(bytes, at, 4);
    else if (at === whole) word = wordAt(bytes, at, bytes.length % 4) | bytes.length << 24;
    else {
      if (left === 3) v2 ^= 0xff;
      left--;
    }
    v3 ^= word;
    v0 = v0 + v1 | 0;
    v1 = (v1 << 5 | v1 >>> 27) ^ v0;
    v0 = v0 << 16 | v0 >>> 16;
    v2 = v2 + v3 | 0;
    v3 = (v3 << 8 | v3 >>> 24) ^ v2;
    v0 = v0 + v3 | 0;
    v3 = (v3 << 7 | v3 >>> 25) ^ v0;
    v2 = v2 + v1 | 0;
    v1 = (v1 << 13 | v1 >>> 19) ^ v2;
    v2 = v2 << 16 | v2 >>> 16;
    v0 ^= word;
  }
  return (v1 ^ v3) >>> 0;
}

/** Up to four bytes, little-endian. */
function wordAt(bytes: Uint8Array, at: number, count: number): number {
  let word = 0;
  for (let index = 0; index < count; index++) word |= bytes[at + index]! << 8 * index;
  return word;
}
