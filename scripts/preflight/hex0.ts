// SPDX-License-Identifier: MIT
/**
 * Makes `steps/preflight-1.0/stage*.hex0` from the assembler sources beside them.
 *
 *     bun scripts/preflight/hex0.ts            writes the hex0 files (and the CRC of stage 2)
 *     bun scripts/preflight/hex0.ts --check    exits with 1 if a file is not current
 *
 * The product uses the hex0, which must be readable on its own. So every line of the assembler
 * source becomes a line of hex0: its bytes, then the source line as a comment. Needs binutils.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** A stage: its name and the address at which it runs. */
export interface Stage {
  readonly name: string;
  readonly address: number;
}

export const STAGES: readonly Stage[] = [
  { name: "stage1", address: 0x7c00 },
  { name: "stage2", address: 0x7e00 },
];

/** Directory of the stages. */
export const STAGES_DIR = join(import.meta.dirname ?? ".", "../../steps/preflight-1.0");

/** The output of binutils for a source. */
export interface Assembled {
  readonly bytes: Uint8Array;
  /** For each source line (from 0) the offset of its first byte; absent if it has none. */
  readonly offsets: ReadonlyMap<number, number>;
}

/**
 * Assembles one source with binutils.
 *
 * @param path The .S file.
 * @param address Address of the first byte at run time.
 * @param symbols Symbols to define with `--defsym`, for tests.
 */
export function assemble(
  path: string,
  address: number,
  symbols: Readonly<Record<string, number>> = {},
): Assembled {
  const dir = mkdtempSync(join(tmpdir(), "preflight-"));
  try {
    const [object, linked, flat, listing] = ["o", "elf", "bin", "lst"].map((ext) =>
      join(dir, `stage.${ext}`)
    ) as [string, string, string, string];
    const defsyms = Object.entries(symbols).flatMap(([name, value]) => [
      "--defsym",
      `${name}=${value}`,
    ]);
    execFileSync("as", ["--32", `-aln=${listing}`, ...defsyms, "-o", object, path]);
    execFileSync("ld", [
      ...["-m", "elf_i386", "-e", "0", `-Ttext=0x${address.toString(16)}`],
      ...["-o", linked, object],
    ]);
    execFileSync("objcopy", ["-O", "binary", "-j", ".text", linked, flat]);
    return {
      bytes: new Uint8Array(readFileSync(flat)),
      offsets: readListing(readFileSync(listing, "utf8")),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** A line of the listing with the first bytes of a source line: line number, offset, hex bytes. */
const LISTING_LINE = /^ *(\d+) ([0-9a-f]{4,8}) [0-9A-F]/;

function readListing(listing: string): Map<number, number> {
  const offsets = new Map<number, number>();
  for (const line of listing.split("\n")) {
    const match = LISTING_LINE.exec(line);
    if (match === null) continue;
    const index = Number(match[1]) - 1;
    if (!offsets.has(index)) offsets.set(index, parseInt(match[2] ?? "", 16));
  }
  return offsets;
}

/** Bytes in one row of hex0, and the column where the comment begins. */
const ROW_BYTES = 10;
const COMMENT_COLUMN = 31;
const OPERATION_WIDTH = 28;

/**
 * Formats a source and its bytes as commented hex0.
 *
 * Comment lines stay unchanged, a label gets its address, and other lines are bytes and a comment.
 */
export function formatHex0(source: string, assembled: Assembled, address: number): string {
  const lines = source.replace(/\n$/, "").split("\n");
  const starts = [...assembled.offsets.values()].sort((a, b) => a - b);
  const endOf = new Map(starts.map((start, i) => [start, starts[i + 1] ?? assembled.bytes.length]));
  let done = 0;
  const out = lines.flatMap((line, index): string[] => {
    const text = line.trim();
    const start = assembled.offsets.get(index);
    if (start !== undefined) {
      if (start !== done) throw new Error(`line ${index + 1}: bytes ${done} to ${start} are lost`);
      done = endOf.get(start) ?? start;
      return rows(assembled.bytes.subarray(start, done), text);
    }
    const label = /^(\w+):$/.exec(text);
    if (label !== null) return [`#:${label[1]}  [${hex(address + done, 4)}]`];
    return [text === "" || text.startsWith("#") ? text : `# ${text}`];
  });
  if (done !== assembled.bytes.length) throw new Error(`bytes from ${done} on are lost`);
  return out.join("\n") + "\n";
}

function rows(bytes: Uint8Array, text: string): string[] {
  const out: string[] = [];
  for (let i = 0; i < bytes.length; i += ROW_BYTES) {
    out.push([...bytes.subarray(i, i + ROW_BYTES)].map((byte) => hex(byte, 2)).join(" "));
  }
  const comment = /^(.*?\S)\s+# (.*)$/.exec(text);
  const note = comment === null
    ? `# ${text}`
    : `# ${comment[1]?.padEnd(OPERATION_WIDTH)} ; ${comment[2]}`;
  return out.map((row, i) => (i === 0 ? row.padEnd(COMMENT_COLUMN) + note : row));
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, "0");
}

/** Returns the CRC-32 register (IEEE 802.3, reflected, initially all ones), not complemented. */
export function crcRegister(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return crc >>> 0;
}

/** The last line of stage 2, whose value makes the CRC over the whole stage zero. */
const CLOSING = /(\nclosing_crc:\n {4}\.long 0x)[0-9A-F]{8}/;

/** Returns the source with the right closing CRC, or unchanged if it has none. */
function closed(path: string, source: string, address: number): string {
  if (!CLOSING.test(source)) return source;
  const { bytes } = assemble(path, address);
  const crc = crcRegister(bytes.subarray(0, -4));
  return source.replace(CLOSING, (_, head: string) => head + hex(crc, 8));
}

function main(argv: readonly string[]): number {
  const check = argv.includes("--check");
  let stale = 0;
  const update = (path: string, was: string, text: string) => {
    if (was === text) return;
    stale++;
    console.log(`${check ? "stale" : "written"}: ${path}`);
    if (!check) writeFileSync(path, text);
  };
  for (const { name, address } of STAGES) {
    const path = join(STAGES_DIR, `${name}.S`);
    const was = readFileSync(path, "utf8");
    const source = closed(path, was, address);
    update(path, was, source);
    const hex0Path = join(STAGES_DIR, `${name}.hex0`);
    const assembled = assemble(path, address);
    update(hex0Path, readOr(hex0Path), formatHex0(source, assembled, address));
    console.log(`${name}: ${assembled.bytes.length} bytes`);
  }
  return check && stale > 0 ? 1 : 0;
}

function readOr(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

if (import.meta.main) process.exitCode = main(process.argv.slice(2));
