// SPDX-License-Identifier: MIT
/**
 * Composes small preflight images, boots them in QEMU, and reads the report from COM1.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { STAGES_DIR } from "../../scripts/preflight/hex0.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";

export const MIB = 1024 * 1024;
const SECTOR_BYTES = 512;

/** Returns the hex0 text of a stage, as embedded in the product. */
export function stageText(name: string): string {
  return readFileSync(join(STAGES_DIR, `${name}.hex0`), "utf8");
}

/** Returns a stage as assembled by the product. */
export function stageBytes(name: string): Uint8Array {
  return assembleHex0(utf8(stageText(name)), `${name}.hex0`);
}

export interface ImageOptions {
  /** Entries of the srcfs: path and content. */
  readonly entries?: readonly (readonly [path: string, body: Uint8Array])[];
  /** The text between `preflight ` and `crc32=`: each `key=value` with a space after it. */
  readonly expectations?: string;
  /** Whether the srcfs ends with the checksum record. */
  readonly trailer?: boolean;
  /** The stage 2 text, for tests that damage it. */
  readonly stage2?: string;
}

/** Concatenates bytes. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const utf8 = (text: string) => new TextEncoder().encode(text);
const roundUp = (size: number, unit: number) => Math.ceil(size / unit) * unit;

/** Returns the offset of the srcfs in an image with a stage 2 text. */
export function srcfsOffset(stage2: string): number {
  return roundUp(SECTOR_BYTES + utf8(stage2).length + 1, SECTOR_BYTES);
}

/** Composes a boot image in memory: stage 1, stage 2, srcfs, checksum record, zeros. */
export function composeImage(options: ImageOptions = {}): Uint8Array {
  const { expectations = "payload=0 ", trailer = true } = options;
  const stage2 = options.stage2 ?? stageText("stage2");
  const entries = options.entries ?? defaultEntries();
  const head = new Uint8Array(srcfsOffset(stage2));
  head.set(stageBytes("stage1"));
  head.set(utf8(stage2), SECTOR_BYTES);
  const records = entries.flatMap(([path, body]) => [utf8(`src ${body.length} ${path}\n`), body]);
  const covered = concat(head, ...records, utf8(`preflight ${expectations}crc32=`));
  const crc = crc32(covered).toString(16).padStart(8, "0");
  const closed = trailer ? concat(covered, utf8(`${crc}\n`)) : concat(head, ...records);
  const image = new Uint8Array(roundUp(closed.length, MIB) + MIB);
  image.set(closed);
  return image;
}

/** Returns a small tree, with one file large enough for many reads. */
export function defaultEntries(): [string, Uint8Array][] {
  const large = Uint8Array.from({ length: 700_001 }, (_, i) => (i * 2654435761) >>> 24);
  return [
    [".", new Uint8Array(0)],
    ["./steps", new Uint8Array(0)],
    ["./steps/manifest", utf8("build: preflight-1.0\n")],
    ["./steps/High Level", new Uint8Array(0)],
    ["./steps/large", large],
  ];
}

/** A file of a payload: its name and content. */
export type PayloadFile = readonly [name: string, body: Uint8Array];

/** Composes an `LBPAYLD1` container, padded to a whole MiB. */
export function composePayload(layout: 32 | 64, files: readonly PayloadFile[]): Uint8Array {
  const field = (value: number) => {
    const bytes = new Uint8Array(layout / 8);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return bytes;
  };
  const parts = files.flatMap(([name, body]) => [
    field(utf8(name).length),
    field(body.length),
    utf8(name),
    body,
  ]);
  const packed = concat(utf8("LBPAYLD1"), field(files.length), ...parts);
  const image = new Uint8Array(roundUp(packed.length, MIB));
  image.set(packed);
  return image;
}

/** The result of a boot. */
export interface Report {
  /** Everything that was sent to COM1. */
  readonly text: string;
  /** The lines that begin with `preflight: `, without that prefix. */
  readonly lines: readonly string[];
  /** The text of the verdict line; undefined unless it is the only one and the last line. */
  readonly verdict: string | undefined;
  /** Exit status of QEMU; null if it had to be killed. */
  readonly status: number | null;
  readonly seconds: number;
}

export const QEMU = "qemu-system-x86_64";

/** Returns the arguments for a drive as the n-th IDE disk. */
export function ide(path: string, index: number): string[] {
  return ["-drive", `file=${path},format=raw,if=ide,index=${index},snapshot=on`];
}

/** Boots QEMU with further arguments and returns what was sent to COM1. */
export function boot(args: readonly string[], options: BootOptions = {}): Promise<Report> {
  const { memoryMib = 4096, timeoutSeconds = 60, serial = "stdio" } = options;
  const argv = [
    ...["-accel", "tcg", "-m", `${memoryMib}`, "-no-reboot", "-nic", "none"],
    ...["-monitor", "none", "-serial", serial, "-display", "none", ...args],
  ];
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const qemu = spawn(QEMU, argv, { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    qemu.stdout.setEncoding("latin1").on("data", (chunk: string) => text += chunk);
    qemu.stderr.setEncoding("latin1").on("data", (chunk: string) => text += chunk);
    const timer = setTimeout(() => qemu.kill("SIGKILL"), timeoutSeconds * 1000);
    qemu.on("error", reject);
    qemu.on("close", (status) => {
      clearTimeout(timer);
      resolve(readReport(text, status, (performance.now() - started) / 1000));
    });
  });
}

export interface BootOptions {
  readonly memoryMib?: number;
  readonly timeoutSeconds?: number;
  /** Where COM1 goes; the report is empty unless it is `stdio`. */
  readonly serial?: string;
}

function readReport(text: string, status: number | null, seconds: number): Report {
  const prefix = "preflight: ";
  const lines = text.split("\r\n").filter((line) => line.startsWith(prefix))
    .map((line) => line.slice(prefix.length));
  const verdicts = lines.filter((line) => line.startsWith("verdict "));
  const last = lines.at(-1);
  const verdict = verdicts.length === 1 && last === verdicts[0]
    ? last?.slice("verdict ".length)
    : undefined;
  return { text, lines, verdict, status, seconds };
}
