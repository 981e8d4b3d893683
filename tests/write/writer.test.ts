// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { UserError } from "../../src/errors.ts";
import { type Piece, piecesDigest } from "../../src/format/pieces.ts";
import { MIB, type Segment, textSegment, totalSize } from "../../src/format/segment.ts";
import { digestImage, DigestMismatch, writeImage } from "../../src/write/writer.ts";
import { rejection } from "../fetch/harness.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { concat, fileOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

function pieceOf(bytes: Uint8Array): Piece {
  return { sizeBytes: bytes.length, sha256: sha256(bytes) };
}

/** The open files of this process below a directory. */
function openFiles(dir: string): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(dir) ? [path] : [];
    } catch {
      return [];
    }
  });
}
const hasProc = existsSync("/proc/self/fd");

async function write(segments: readonly Segment[], more = 0) {
  const path = join(temp.make(), "image");
  const size = totalSize(segments);
  const written = await writeImage(path, segments, { sizeBytes: size + more });
  return { path, written, bytes: readFileSync(path) };
}

test("writeImage() writes segments of all sizes around that of a buffer", async () => {
  const dir = temp.make();
  const bodies = [0, 1, MIB - 1, MIB, MIB + 1, 17 * MIB + 3].map((size, i) =>
    sampleBody(size, i + 1)
  );
  const files = bodies.map((body, i) => fileOf(dir, `${i}`, body, i % 2 === 0));
  const segments: Segment[] = files.flatMap((file, i) => [textSegment(`head ${i}\n`), file]);
  segments.push({ kind: "zeros", sizeBytes: 3 }, { kind: "bytes", bytes: sampleBody(MIB + 5, 9) });
  const wanted = concat([
    ...bodies.flatMap((body, i) => [new TextEncoder().encode(`head ${i}\n`), body]),
    new Uint8Array(3),
    sampleBody(MIB + 5, 9),
  ]);
  const { written, bytes } = await write(segments);
  expect(bytes.equals(wanted)).toBe(true);
  const texts = bodies.map((_, i) => new TextEncoder().encode(`head ${i}\n`));
  const end = concat([new Uint8Array(3), sampleBody(MIB + 5, 9)]);
  // An empty file is no piece: the bytes around it are one.
  const first = concat([texts[0]!, texts[1]!]);
  const pieces = [first, ...bodies.slice(1).flatMap((b, i) => i === 0 ? [b] : [texts[i + 1]!, b])];
  expect(written.piecesSha256).toBe(piecesDigest([...pieces, end].map(pieceOf)));
  files.forEach((file, i) => expect(written.fileDigests.get(file)).toBe(sha256(bodies[i]!)));
});

test("digestImage() returns what writeImage() does, and writes nothing", async () => {
  const dir = temp.make();
  const file = fileOf(dir, "f", sampleBody(3 * MIB + 7));
  const text = textSegment("a file made by a build");
  const segments: Segment[] = [textSegment("x"), { kind: "zeros", sizeBytes: 200_000 }, file, text];
  const files = new Set<Segment>([text]);
  const path = join(dir, "image");
  const written = await writeImage(path, segments, { sizeBytes: totalSize(segments), files });
  const bytes = readFileSync(path);
  expect(written.piecesSha256).toBe(piecesDigest(
    [bytes.subarray(0, 200_001), sampleBody(3 * MIB + 7), text.bytes].map(pieceOf),
  ));
  expect(await digestImage(segments, { files })).toEqual(written);
  expect(readdirSync(dir).sort()).toEqual(["f", "image"]);
  const wrong = [{ ...file, sha256: "0".repeat(64) }];
  expect(await rejection(digestImage(wrong, {}))).toBeInstanceOf(DigestMismatch);
});

test("writeImage() writes no segments, and many small files", async () => {
  expect((await write([])).bytes).toHaveLength(0);
  const dir = temp.make();
  const bodies = Array.from({ length: 3000 }, (_, i) => sampleBody(i % 40, 1 + i % 200));
  const { bytes, written } = await write(bodies.map((body, i) => fileOf(dir, `${i}`, body)));
  expect(bytes.equals(concat(bodies))).toBe(true);
  const pieces = bodies.filter(({ length }) => length > 0).map(pieceOf);
  expect(written.piecesSha256).toBe(piecesDigest(pieces));
});

test("writeImage() reads a run from the middle of a file", async () => {
  const file = fileOf(temp.make(), "f", sampleBody(5000), false);
  const { bytes } = await write([{ ...file, offsetBytes: 1000, sizeBytes: 777 }]);
  expect(bytes.equals(sampleBody(5000).subarray(1000, 1777))).toBe(true);
});

test("writeImage() leaves holes for zeros and for the tail", async () => {
  const segments: Segment[] = [
    textSegment("a"),
    { kind: "zeros", sizeBytes: 40 * MIB },
    textSegment("b"),
  ];
  const { path, written, bytes } = await write(segments, 60 * MIB);
  const data = bytes.subarray(0, 40 * MIB + 2);
  expect(bytes).toHaveLength(100 * MIB + 2);
  expect(data[0]).toBe(0x61);
  expect(data[40 * MIB + 1]).toBe(0x62);
  expect(bytes.equals(concat([data, new Uint8Array(60 * MIB)]))).toBe(true);
  expect(written.piecesSha256).toBe(piecesDigest([pieceOf(data)]));
  expect(statSync(path).blocks * 512).toBeLessThan(MIB);
});

test("writeImage() reports every byte that it reads from files once", async () => {
  const dir = temp.make();
  const file = fileOf(dir, "f", sampleBody(2 * MIB + 9));
  let read = 0;
  await writeImage(join(dir, "image"), [textSegment("x"), file, file], {
    sizeBytes: 2 * file.sizeBytes + 1,
    onBytes: (bytes) => read += bytes,
  });
  expect(read).toBe(2 * file.sizeBytes);
});

/** Returns the error of writing these segments, and expects that no file stays open. */
async function failure(segments: readonly Segment[], dir: string): Promise<UserError> {
  const error = await rejection(writeImage(join(dir, "image"), segments, { sizeBytes: 10 }));
  if (hasProc) expect(openFiles(dir)).toEqual([]);
  return error;
}

test("writeImage() refuses a file whose digest is wrong, and names both digests", async () => {
  const dir = temp.make();
  const file = fileOf(dir, "f", sampleBody(3 * MIB));
  const error = await failure([{ ...file, sha256: "0".repeat(64) }], dir);
  expect(error).toBeInstanceOf(DigestMismatch);
  expect(error).toMatchObject({ kind: "verify", path: file.path });
  expect(error.message).toBe(
    `Cannot use ${file.path}: its SHA-256 is ${file.sha256}, expected ${"0".repeat(64)}`,
  );
});

test("writeImage() refuses a file that grew, shrank or disappeared since it was planned", async () => {
  const dir = temp.make();
  const file = fileOf(dir, "f", sampleBody(5000));
  appendFileSync(file.path, "x");
  expect((await failure([file], dir)).message).toEndWith("at the start, now it has 5001 bytes");
  truncateSync(file.path, 4999);
  expect(await failure([file], temp.make())).toMatchObject({ kind: "tree" });
  const run = { ...file, offsetBytes: 1, sizeBytes: 4999 };
  expect((await failure([run], temp.make())).message).toEndWith("now it has 4999 bytes");
  const gone = { ...file, path: join(dir, "none") };
  expect(await failure([gone], temp.make())).toMatchObject({ kind: "tree", where: gone.path });
});

test("writeImage() does not overwrite a file", async () => {
  const dir = temp.make();
  writeFileSync(join(dir, "image"), "precious");
  expect(await failure([textSegment("x")], dir)).toMatchObject({ kind: "target" });
  expect(readFileSync(join(dir, "image"), "utf8")).toBe("precious");
  const error = await rejection(writeImage("/nowhere/at/all", [], { sizeBytes: 0 }));
  expect(error).toMatchObject({ kind: "target", where: "/nowhere/at/all" });
});

const tmpfs = temp.make();
const isMounted = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=3M", "none", tmpfs]).success;
if (!isMounted) console.log("skipped: a full disk: no tmpfs can be mounted here");
if (isMounted) Bun.spawnSync(["umount", tmpfs]);

test.skipIf(!isMounted)("writeImage() says that a disk is full, whenever it fills", async () => {
  const dir = temp.make();
  const full = temp.make();
  Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=3M", "none", full]);
  try {
    for (const size of [3 * MIB + 1, 40 * MIB]) {
      const file = fileOf(dir, "f", sampleBody(size));
      const path = join(full, "image");
      const error = await rejection(writeImage(path, [file], { sizeBytes: size }));
      expect(error).toMatchObject({ kind: "target", where: path });
      expect(error.message).toContain("ENOSPC");
      expect(error.hint).toStartWith("Free some space there");
      expect(openFiles(full)).toEqual([]);
      Bun.spawnSync(["rm", path]);
    }
  } finally {
    Bun.spawnSync(["umount", "-l", full]);
  }
});

test("writeImage() fails when its thread fails, and leaves no file open", async () => {
  const Real = globalThis.Worker;
  globalThis.Worker = class extends Real {
    constructor() {
      super("data:text/javascript,throw new Error('no thread today')");
    }
  } as typeof Worker;
  try {
    const dir = temp.make();
    const file = fileOf(dir, "f", sampleBody(40 * MIB));
    const writing = writeImage(join(dir, "image"), [file], { sizeBytes: file.sizeBytes });
    const error = await writing.catch((error: unknown) => error);
    // A bug, not an error of the disk.
    expect(error).not.toBeInstanceOf(UserError);
    expect(String(error)).toContain("no thread today");
    if (hasProc) expect(openFiles(dir)).toEqual([]);
  } finally {
    globalThis.Worker = Real;
  }
});

test("writeImage() stops when the signal is raised, and leaves no file open", async () => {
  const dir = temp.make();
  const file = fileOf(dir, "f", sampleBody(30 * MIB));
  const stop = new AbortController();
  let read = 0;
  const segments = Array.from({ length: 40 }, () => ({ ...file }));
  const writing = writeImage(join(dir, "image"), segments, {
    sizeBytes: 40 * file.sizeBytes,
    signal: stop.signal,
    onBytes: (bytes) => {
      read += bytes;
      if (read >= 20 * MIB) stop.abort();
    },
  });
  expect(await rejection(writing)).toMatchObject({ kind: "interrupt", exitCode: 130 });
  // The threads stop at once, in the middle of a file.
  expect(read).toBeLessThan(40 * file.sizeBytes);
  if (hasProc) expect(openFiles(dir)).toEqual([]);
});

test("writeImage() writes the CRC-32 of all bytes before a crc32 segment", async () => {
  const file = fileOf(temp.make(), "f", sampleBody(MIB + 10));
  const front: Segment[] = [textSegment("a"), { kind: "zeros", sizeBytes: 100_000 }, file];
  const segments: Segment[] = [...front, { kind: "crc32" }, textSegment("\n"), { kind: "crc32" }];
  const { bytes } = await write(segments);
  const end = bytes.length - 17;
  const digits = (length: number) => crc32(bytes.subarray(0, length)).toString(16).padStart(8, "0");
  expect(bytes.subarray(end).toString()).toBe(`${digits(end)}\n${digits(end + 9)}`);
  expect(bytes.subarray(100_001, end).equals(sampleBody(MIB + 10))).toBe(true);
});
