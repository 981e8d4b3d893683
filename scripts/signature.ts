// SPDX-License-Identifier: MIT
/**
 * Checks the code signature in a binary for macOS, which can be done on any machine, and replaces a
 * wrong one.
 *
 * Apple silicon starts no program without a signature, and macOS kills one whose pages do not have
 * the hashes in it. Nobody has to sign it: the one made here is only of hashes (ad hoc). Bun makes
 * such a one for arm64. For x64 it leaves that of its own runtime, of which nothing is right any
 * more, and which asks for the hardened runtime.
 *
 * The signature is at the place that the load command LC_CODE_SIGNATURE names, at the end of the
 * file: a table of blobs, of which the code directory has a hash for each page of all that is before
 * it. Its integers are big-endian, those of the Mach-O file little-endian. Source: Apple's
 * mach-o/loader.h, and osfmk/kern/cs_blobs.h of XNU.
 *
 * usage: signature.ts [--mend] BINARY
 *
 * @module
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";

const MACHO_64 = 0xfeedfacf;
const HEADER_BYTES = 32;
const CPUS: Readonly<Record<number, Cpu>> = {
  0x01000007: { name: "x64", memoryPageBytes: 0x1000 },
  0x0100000c: { name: "arm64", memoryPageBytes: 0x4000 },
};
const LC_SEGMENT_64 = 0x19;
const LC_CODE_SIGNATURE = 0x1d;

const SUPER_BLOB = 0xfade0cc0;
/** With the place of one blob, and padding. */
const SUPER_BLOB_BYTES = 24;
const CODE_DIRECTORY = 0xfade0c02;
/** Of version 2.4, the first that has the executable segment. */
const CODE_DIRECTORY_BYTES = 88;
const VERSION = 0x20400;
/** CS_ADHOC and CS_LINKER_SIGNED, as linkers have them. */
const FLAGS = 0x20002;
const CS_EXECSEG_MAIN_BINARY = 1n;
const SHA_256 = 2;
const HASH_BYTES = 32;
const PAGE_BITS = 12;
const IDENTIFIER = "seedstrap\0";

interface Cpu {
  readonly name: "x64" | "arm64";
  readonly memoryPageBytes: number;
}

/** A binary, and what its load commands say. */
interface MachO {
  readonly file: DataView;
  readonly cpu: Cpu;
  /** Offsets of load commands. */
  readonly signatureCommand: number | undefined;
  readonly segments: ReadonlyMap<string, number>;
}

/** A signature whose hashes are all right. */
export interface Signature {
  readonly cpu: "x64" | "arm64";
  /** Number of pages with a hash; 0 where the binary has no signature. */
  readonly pages: number;
}

/**
 * Compares every page of a binary with its signature.
 *
 * @throws {Error} for what is no binary for macOS, for a wrong signature, and for none on arm64.
 */
export function checkSignature(binary: Uint8Array): Signature {
  const { file, cpu, signatureCommand } = parse(binary);
  if (signatureCommand === undefined) {
    if (cpu.name === "arm64") throw new Error("it has no signature");
    return { cpu: cpu.name, pages: 0 };
  }
  const at = file.getUint32(signatureCommand + 8, true);
  const directory = codeDirectoryAt(file, at);
  const hashesAt = directory + file.getUint32(directory + 16);
  const pages = file.getUint32(directory + 28);
  const limit = file.getUint32(directory + 32);
  const pageBytes = 2 ** file.getUint8(directory + 39);
  if (limit !== at) throw new Error(`it is signed up to ${limit}, and its signature is at ${at}`);
  if (file.getUint8(directory + 36) !== HASH_BYTES || file.getUint8(directory + 37) !== SHA_256) {
    throw new Error("its hashes are not SHA-256");
  }
  if (pages !== Math.ceil(limit / pageBytes)) throw new Error("it has no hash for each page");
  for (const { index, startBytes, hash } of pageHashes(binary, limit, pageBytes)) {
    const wanted = hashesAt + index * HASH_BYTES;
    if (!hash.equals(binary.subarray(wanted, wanted + HASH_BYTES))) {
      throw new Error(`the page at ${startBytes} is not as it was signed`);
    }
  }
  return { cpu: cpu.name, pages };
}

/**
 * Returns a binary with a signature of its own, in place of the one that it has at its end.
 *
 * @throws {Error} for what is no binary for macOS, and for one without a signature at its end.
 */
export function signed(binary: Uint8Array): Uint8Array<ArrayBuffer> {
  const { file, cpu, signatureCommand, segments } = parse(binary);
  const [text, last] = [segments.get("__TEXT"), segments.get("__LINKEDIT")];
  if (signatureCommand === undefined || text === undefined || last === undefined) {
    throw new Error("it has no signature to replace");
  }
  const at = file.getUint32(signatureCommand + 8, true);
  if (at + file.getUint32(signatureCommand + 12, true) !== binary.length) {
    throw new Error("its signature is not its end");
  }
  const pageBytes = 2 ** PAGE_BITS;
  const pages = Math.ceil(at / pageBytes);
  // The hashes begin at a multiple of 16, as those of linkers do.
  const headBytes = SUPER_BLOB_BYTES + CODE_DIRECTORY_BYTES + IDENTIFIER.length;
  const hashesAt = Math.ceil(headBytes / 16) * 16 - SUPER_BLOB_BYTES;
  const directoryBytes = hashesAt + pages * HASH_BYTES;
  const signatureBytes = SUPER_BLOB_BYTES + directoryBytes;

  const bytes = new Uint8Array(at + signatureBytes);
  bytes.set(binary.subarray(0, at));
  const out = new DataView(bytes.buffer);
  // The load commands are in what is hashed.
  out.setUint32(signatureCommand + 12, signatureBytes, true);
  const lastBytes = bytes.length - Number(out.getBigUint64(last + 40, true));
  out.setBigUint64(last + 48, BigInt(lastBytes), true);
  const pagesInMemory = Math.ceil(lastBytes / cpu.memoryPageBytes);
  if (out.getBigUint64(last + 32, true) < lastBytes) {
    out.setBigUint64(last + 32, BigInt(pagesInMemory * cpu.memoryPageBytes), true);
  }

  // One blob, of type 0, right after the table.
  [SUPER_BLOB, signatureBytes, 1, 0, SUPER_BLOB_BYTES]
    .forEach((value, index) => out.setUint32(at + index * 4, value));
  const directory = at + SUPER_BLOB_BYTES;
  [
    ...[CODE_DIRECTORY, directoryBytes, VERSION, FLAGS, hashesAt, CODE_DIRECTORY_BYTES],
    ...[0, pages, at],
  ].forEach((value, index) => out.setUint32(directory + index * 4, value));
  bytes.set([HASH_BYTES, SHA_256, 0, PAGE_BITS], directory + 36);
  out.setBigUint64(directory + 64, out.getBigUint64(text + 40, true));
  out.setBigUint64(directory + 72, out.getBigUint64(text + 48, true));
  out.setBigUint64(directory + 80, CS_EXECSEG_MAIN_BINARY);
  bytes.set(new TextEncoder().encode(IDENTIFIER), directory + CODE_DIRECTORY_BYTES);
  for (const { index, hash } of pageHashes(bytes, at, pageBytes)) {
    bytes.set(hash, directory + hashesAt + index * HASH_BYTES);
  }
  return bytes;
}

function parse(bytes: Uint8Array): MachO {
  const file = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || file.getUint32(0, true) !== MACHO_64) {
    throw new Error("it is no 64-bit Mach-O file");
  }
  const cpu = CPUS[file.getUint32(4, true)];
  if (cpu === undefined) throw new Error("it is for another processor than x64 and arm64");
  const segments = new Map<string, number>();
  let signatureCommand: number | undefined;
  let at = HEADER_BYTES;
  for (let left = file.getUint32(16, true); left > 0; left--) {
    const command = file.getUint32(at, true);
    if (command === LC_CODE_SIGNATURE) signatureCommand = at;
    if (command === LC_SEGMENT_64) {
      const name = new TextDecoder().decode(bytes.subarray(at + 8, at + 24));
      segments.set(name.replace(/\0.*/s, ""), at);
    }
    at += file.getUint32(at + 4, true);
  }
  return { file, cpu, signatureCommand, segments };
}

function codeDirectoryAt(file: DataView, at: number): number {
  if (file.getUint32(at) !== SUPER_BLOB) throw new Error("there is no signature in its place");
  for (let blob = 0; blob < file.getUint32(at + 8); blob++) {
    const place = at + file.getUint32(at + 12 + blob * 8 + 4);
    if (file.getUint32(place) === CODE_DIRECTORY) return place;
  }
  throw new Error("its signature has no code directory");
}

function* pageHashes(bytes: Uint8Array, limit: number, pageBytes: number) {
  for (let index = 0; index * pageBytes < limit; index++) {
    const startBytes = index * pageBytes;
    const page = bytes.subarray(startBytes, Math.min(startBytes + pageBytes, limit));
    yield { index, startBytes, hash: createHash("sha256").update(page).digest() };
  }
}

/** Mends a binary if that is asked for and needed, and says what there is now. */
function main(path: string, isMended: boolean): string {
  let binary = new Uint8Array(readFileSync(path));
  try {
    checkSignature(binary);
  } catch (error) {
    if (!isMended) throw error;
    binary = signed(binary);
    writeFileSync(path, binary);
  }
  const { cpu, pages } = checkSignature(binary);
  return `for ${cpu}, ${pages === 0 ? "not signed" : `its ${pages} pages are as signed`}`;
}

if (import.meta.main) {
  const words = process.argv.slice(2);
  const isMended = words[0] === "--mend";
  const [path, ...rest] = isMended ? words.slice(1) : words;
  if (path === undefined || rest.length > 0) {
    console.error("usage: signature.ts [--mend] BINARY");
    process.exit(2);
  }
  try {
    console.log(`signature: ${path}: ${main(path, isMended)}`);
  } catch (error) {
    console.error(`signature: ${path}: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}
