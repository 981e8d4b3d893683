// SPDX-License-Identifier: MIT
/**
 * Compiles payload-import, makes payload images, sound and unsound, and runs the one on the other.
 *
 * @module
 */
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { payload, type PayloadEntry, type PayloadLayout } from "../../src/format/payload.ts";
import { type Segment, segmentSize, textSegment, totalSize } from "../../src/format/segment.ts";
import { writeImage } from "../../src/write/writer.ts";

/** The importer's source. */
export const SOURCE = fileURLToPath(
  new URL("../../steps/payload-import-1.0/src/payload-import.c", import.meta.url).href,
);
/** Name under which the importer writes a file before it is whole. */
export const PART = ".payload-import\\part";
/** Exit codes, as the source's first comment has them. */
export const EXIT = {
  done: 0,
  none: 1,
  usage: 2,
  format: 3,
  read: 4,
  write: 5,
  different: 6,
  list: 7,
  digest: 8,
  proc: 9,
} as const;

const GCC = ["gcc", "-std=c89", "-pedantic", "-Wall", "-Wextra", "-Werror"];
const COMPILERS: Readonly<Record<string, readonly string[]>> = {
  "gcc": [...GCC, "-O2"],
  "gcc -m32": [...GCC, "-m32"],
  "tcc": ["tcc", "-std=c89", "-Wall", "-Werror"],
  "sanitized": [...GCC, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
};

/** The importer as one compiler makes it. */
export interface Variant {
  readonly name: string;
  readonly program: string;
  /** What the compiler said; of one that was given, nothing is known. */
  readonly compilation?: Outcome;
}

/**
 * Compiles with each compiler that works here; says of the others that they are skipped. Where
 * IMPORTER in the environment names a program, that one is tested and no other.
 */
export function variants(dir: string): Variant[] {
  const given = process.env["IMPORTER"];
  if (given !== undefined) return [{ name: given, program: given }];
  const trivial = join(dir, "trivial.c");
  writeFileSync(trivial, '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n');
  return Object.entries(COMPILERS).flatMap(([name, compiler]) => {
    const program = join(dir, name.replaceAll(" ", ""));
    if (Bun.which(compiler[0]!) === null || !compiles([...compiler, "-o", program, trivial])) {
      console.log(`skipped: payload-import with ${name}: that compiler does not work here`);
      return [];
    }
    return [{ name, program, compilation: runSync([...compiler, "-o", program, SOURCE]) }];
  });
}

function compiles(argv: readonly string[]): boolean {
  return Bun.spawnSync([...argv], { stdout: "ignore", stderr: "ignore" }).exitCode === 0;
}

/** What a run of the importer gave. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export function runSync(argv: readonly string[]): Outcome {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...argv], { stdin: "ignore" });
  return { code: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** A file of a payload with its content in memory. */
export function entry(name: string, content: string | Uint8Array): PayloadEntry {
  return {
    name,
    body: typeof content === "string" ? textSegment(content) : { kind: "bytes", bytes: content },
  };
}

/** Writes an image with the product's own writer. */
export async function writePayload(
  path: string,
  entries: readonly PayloadEntry[],
  layout: PayloadLayout = 64,
): Promise<string> {
  const segments = payload(entries, layout);
  await writeImage(path, segments, { sizeBytes: totalSize(segments) });
  return path;
}

/** Writes an image in which everything but the bytes made by the program is a hole. */
export function writeHollow(path: string, segments: readonly Segment[]): string {
  const file = openSync(path, "wx");
  let offset = 0;
  for (const segment of segments) {
    if (segment.kind === "bytes") {
      writeSync(file, segment.bytes, 0, segment.bytes.length, offset);
    }
    offset += segmentSize(segment);
  }
  ftruncateSync(file, offset);
  closeSync(file);
  return path;
}

/** A record of a payload that need not be sound. */
export interface RawRecord {
  readonly name: string | Uint8Array;
  readonly data?: string;
  /** Name length to claim. */
  readonly nameBytes?: bigint;
  /** Size to claim. */
  readonly size?: bigint;
}

/** The bytes of a payload as told, without padding. */
export function rawPayload(
  layout: PayloadLayout,
  records: readonly RawRecord[],
  count = BigInt(records.length),
): Uint8Array {
  const parts = [Buffer.from("LBPAYLD1"), integer(layout, count)];
  for (const { name, data = "", nameBytes, size } of records) {
    const bytes = typeof name === "string" ? Buffer.from(name) : Buffer.from(name);
    parts.push(
      integer(layout, nameBytes ?? BigInt(bytes.length)),
      integer(layout, size ?? BigInt(data.length)),
      bytes,
      Buffer.from(data),
    );
  }
  return Buffer.concat(parts);
}

function integer(layout: PayloadLayout, value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes.subarray(0, layout / 8);
}
