// SPDX-License-Identifier: MIT
/**
 * What scripts/fuzz.ts asks of a reader.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Random, Sound } from "../../tests/support/mutate.ts";

/** A reader of what may be hostile. */
export interface Reader {
  readonly name: string;
  /** Prepares for cases; `dir` is empty, and for its files. */
  prepare(dir: string): Prepared | Promise<Prepared>;
}

/** A reader that is ready. */
export interface Prepared {
  readonly sounds: readonly Sound[];
  /** Makes an input that reaches further than a checksum or a syntax, for half of the cases. */
  readonly repair?: (damaged: Uint8Array, random: Random, sound: Sound) => Uint8Array;
  /**
   * Reads a case. Throws a `UserError` where it refuses it, and anything else where it finds that
   * the reader breaks its word.
   *
   * @param sound What the case was before it was damaged.
   */
  read(bytes: Uint8Array, sound: Sound, random: Random): unknown;
}

/** Some readers as one: they take turns. The name of each is that of its sounds. */
export function groupOf(readers: readonly Reader[]): Reader & { nameOf(sound: Sound): string } {
  const owners = new Map<Sound, readonly [name: string, prepared: Prepared]>();
  return {
    name: readers.map(({ name }) => name).join("+"),
    nameOf: (sound) => owners.get(sound)![0],
    async prepare(dir) {
      const sounds: Sound[] = [];
      for (const reader of readers) {
        const own = join(dir, reader.name);
        mkdirSync(own);
        const prepared = await reader.prepare(own);
        // Each reader gets as many cases, however many sounds it has.
        const turns = prepared.sounds.map((sound): Sound => ({ ...sound }));
        for (const sound of turns) owners.set(sound, [reader.name, prepared]);
        sounds.push(...Array.from({ length: 60 }, (_, i) => turns[i % turns.length]!));
      }
      return {
        sounds,
        repair(bytes, random, sound) {
          return owners.get(sound)![1].repair?.(bytes, random, sound) ?? bytes;
        },
        read: (bytes, sound, random) => owners.get(sound)![1].read(bytes, sound, random),
      };
    },
  };
}

/** Throws where something does not hold. */
export function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`broken: ${what}`);
}

/** Sounds of one kind, each with the others. */
export function soundsOf(
  inputs: readonly (Uint8Array | string)[],
  rest: Omit<Sound, "bytes" | "others"> = {},
): Sound[] {
  const all = inputs.map((input) =>
    typeof input === "string" ? new TextEncoder().encode(input) : input
  );
  return all.map((bytes) => ({ bytes, others: all.filter((other) => other !== bytes), ...rest }));
}

/** The text of bytes; what is no UTF-8 becomes U+FFFD. */
export function textOf(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

export function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
