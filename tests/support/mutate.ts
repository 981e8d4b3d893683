// SPDX-License-Identifier: MIT
/**
 * Damage at random, for the tests and the fuzzer of readers; the same for the same number.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** Numbers at random: splitmix32. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** A whole number from 0 to below a limit. */
  below(limit: number): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return Math.floor(((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32 * limit);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }
}

/** A sound input, and what is known of its kind. */
export interface Sound {
  readonly bytes: Uint8Array;
  /** Others of its kind, to be spliced with; there may be none. */
  readonly others?: readonly Uint8Array[];
  /** Words that mean something to its reader. */
  readonly words?: readonly string[];
  /** Whether it consists of lines and words. */
  readonly isText?: boolean;
}

const EDGE_BYTES = [0, 1, 0x0a, 0x20, 0x2e, 0x2f, 0x30, 0x39, 0x7f, 0x80, 0xff];
const EDGES = [
  0n,
  1n,
  0x7fn,
  0xffn,
  0x100n,
  0x7fffn,
  0xffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];
const EDGE_WORDS = [
  ...["0", "1", "-1", "00", "4294967295", "4294967296", "9007199254740992", "9999999999999999"],
  ...[
    "18446744073709551616",
    "1e9",
    "0x10",
    "NaN",
    "null",
    "true",
    "{}",
    "[]",
    '""',
    "77777777777",
  ],
  ...["", " ", "\t", "\r", "\n", "\0", "..", "/", "../../etc/passwd", "/etc/passwd", "\\", "$HOME"],
  ...[
    "`id`",
    "$(id)",
    '"',
    "'",
    "#",
    "\x1b[2J",
    "\x9b2J",
    "\u202e",
    "\ufeff",
    "\ud800",
    "\u{1f600}",
  ],
  ...["__proto__", "constructor", "a".repeat(64), "b".repeat(256), "c/".repeat(2100), "%2e%2e%2f"],
];

/** What changes have made longer is cut here; no sound input is as long. */
const MOST_BYTES = 4 * 1024 * 1024;

/** Returns a copy of a sound input with one to four changes. */
export function damaged(random: Random, sound: Sound): Uint8Array {
  let bytes: Buffer = Buffer.from(sound.bytes);
  for (let left = 1 + random.below(4); left > 0; left--) {
    bytes = sound.isText && random.below(4) > 0
      ? Buffer.from(changedText(random, bytes.toString(), sound))
      : changedBytes(random, bytes, sound);
    bytes = bytes.subarray(0, MOST_BYTES);
  }
  return new Uint8Array(bytes);
}

/** A place near the beginning, in something else than zeros, or anywhere. */
function placeIn(random: Random, bytes: Buffer): number {
  if (bytes.length === 0) return 0;
  const how = random.below(4);
  if (how === 0) return random.below(Math.min(bytes.length, 2000));
  let at = random.below(bytes.length);
  for (let tries = 0; how > 1 && bytes[at] === 0 && tries < 30; tries++) {
    at = random.below(bytes.length);
  }
  return at;
}

function changedBytes(random: Random, bytes: Buffer, { others = [], words = [] }: Sound): Buffer {
  const at = placeIn(random, bytes);
  const run = () => bytes.subarray(at, at + 1 + random.below(random.pick([4, 40, 600, 5000])));
  const replaced = (by: Buffer, length = by.length) =>
    Buffer.concat([bytes.subarray(0, at), by, bytes.subarray(at + length)]);
  switch (random.below(10)) {
    case 0:
      return replaced(Buffer.of((bytes[at] ?? 0) ^ (1 << random.below(8))));
    case 1:
      return replaced(
        Buffer.of(random.below(2) === 0 ? random.below(256) : random.pick(EDGE_BYTES)),
      );
    case 2:
      return bytes.subarray(0, at);
    case 3: { // a run of it comes once more, or instead of something else
      const copy = Buffer.from(run());
      const to = placeIn(random, bytes);
      const gone = random.pick([0, copy.length]);
      return Buffer.concat([bytes.subarray(0, to), copy, bytes.subarray(to + gone)]);
    }
    case 4:
      return replaced(Buffer.alloc(0), run().length);
    case 5: { // the rest of another
      const other = others.length === 0 ? bytes : Buffer.from(random.pick(others));
      return Buffer.concat([bytes.subarray(0, at), other.subarray(placeIn(random, other))]);
    }
    case 6: {
      const word = Buffer.from(random.pick([...words, ...EDGE_WORDS]));
      return replaced(word, random.pick([0, word.length]));
    }
    case 7: { // a number in text
      const digits = /\d+/.exec(bytes.toString("latin1", at, at + 4000));
      if (digits === null) return replaced(Buffer.of(0x39));
      const start = at + digits.index;
      const number = String(random.pick(EDGES) + BigInt(random.below(3)) - 1n);
      return Buffer.concat([
        bytes.subarray(0, start),
        Buffer.from(random.below(3) === 0 ? number : number.slice(-digits[0].length)),
        bytes.subarray(start + digits[0].length),
      ]);
    }
    default: { // an integer, mostly where one is
      const width = random.pick([1, 2, 4, 4, 8, 8]);
      const integer = Buffer.alloc(8);
      const old = bytes.length >= at + width ? bytes.readUIntLE(at, Math.min(width, 6)) : 0;
      const value = random.below(3) === 0
        ? BigInt(old + random.below(65) - 32)
        : random.pick(EDGES) + BigInt(random.below(3)) - 1n;
      integer.writeBigUInt64LE(BigInt.asUintN(64, value));
      const field = integer.subarray(0, width);
      return replaced(Buffer.from(random.below(5) === 0 ? field.reverse() : field));
    }
  }
}

/** Changes words and lines. */
function changedText(random: Random, text: string, { others = [], words = [] }: Sound): string {
  if (random.below(3) === 0) {
    const lines = text.split(/(?<=\n)/);
    const [from, to] = [random.below(lines.length), random.below(lines.length)];
    const more = others.length === 0
      ? lines
      : Buffer.from(random.pick(others)).toString().split(/(?<=\n)/);
    switch (random.below(4)) {
      case 0:
        lines.splice(to, 0, random.pick(more));
        break;
      case 1:
        lines.splice(from, 1 + random.below(3));
        break;
      case 2:
        [lines[from], lines[to]] = [lines[to]!, lines[from]!];
        break;
      default:
        lines.splice(to, 0, lines[from]!.repeat(random.pick([2, 70, 300])).slice(0, 100_000));
    }
    return lines.join("");
  }
  const parts = text.split(/([\s"'=:,/(){}[\]]+)/);
  const [from, to] = [random.below(parts.length), random.below(parts.length)];
  switch (random.below(4)) {
    case 0:
      [parts[from], parts[to]] = [parts[to]!, parts[from]!];
      break;
    case 1:
      parts.splice(to, 0, parts[from]!);
      break;
    case 2:
      parts.splice(from, 1);
      break;
    default:
      parts[to] = random.pick([...words, ...EDGE_WORDS]);
  }
  return parts.join("");
}
