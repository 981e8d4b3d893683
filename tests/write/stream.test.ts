// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compress, listed, rawTar } from "../archive/support.ts";
import { flatEntries } from "../../src/archive/entries.ts";
import { UserError } from "../../src/errors.ts";
import {
  joinedSegment,
  MIB,
  type Segment,
  textSegment,
  totalSize,
} from "../../src/format/segment.ts";
import { imageStream, streamImage } from "../../src/write/stream.ts";
import { DigestMismatch, writeImage } from "../../src/write/writer.ts";
import { rejection } from "../fetch/harness.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { DENO, run } from "../support/run.ts";
import { concat, fileOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Segments of every kind, with files that end within a chunk, at its end and beside it. */
async function everyKind(dir: string): Promise<Segment[]> {
  const data = sampleBody(700_001, 5);
  const archive = await listed(dir, compress("gzip", rawTar([{ name: "a", data }])));
  const [member] = flatEntries(archive).entries;
  const whole = fileOf(dir, "parts", sampleBody(600_000, 6));
  const runs = [[0, 250_000], [250_000, 350_000]].map(([offsetBytes, sizeBytes]) => ({
    path: whole.path,
    offsetBytes: offsetBytes!,
    sizeBytes: sizeBytes!,
  }));
  const { sha256: _, ...unknown } = fileOf(dir, "unknown", sampleBody(1000, 7));
  return [
    textSegment("head\n"),
    fileOf(dir, "small", sampleBody(300)),
    fileOf(dir, "empty", new Uint8Array()),
    { kind: "bytes", bytes: sampleBody(256 * 1024 - 305, 2) },
    fileOf(dir, "chunk", sampleBody(256 * 1024, 3)),
    { kind: "zeros", sizeBytes: 3 },
    { kind: "crc32" },
    fileOf(dir, "large", sampleBody(3 * MIB + 7, 4)),
    { kind: "zeros", sizeBytes: MIB + 1 },
    unknown,
    member!.body!,
    { ...whole, bundled: { name: "f", sha256: whole.sha256!, runs } },
    joinedSegment([
      textSegment("a head of its own"),
      fileOf(dir, "joined", sampleBody(400_000, 8), false),
      { kind: "zeros", sizeBytes: 300_000 },
      fileOf(dir, "empty too", new Uint8Array()),
    ]),
    { kind: "crc32" },
  ];
}

/** Reads a stream to its end, or to its error. */
async function drain(
  stream: ReadableStream<Uint8Array>,
): Promise<{ bytes: Uint8Array; error: unknown }> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of stream) chunks.push(chunk);
    return { bytes: concat(chunks), error: undefined };
  } catch (error) {
    return { bytes: concat(chunks), error };
  }
}

/** A place that keeps what it gets, and how it ended. */
function keeping() {
  const chunks: Uint8Array[] = [];
  const ends: string[] = [];
  const to = new WritableStream<Uint8Array>({
    write: (chunk) => void chunks.push(chunk),
    close: () => void ends.push("closed"),
    abort: () => void ends.push("aborted"),
  });
  return { chunks, ends, to };
}

test("imageStream() has the bytes that writeImage() writes, and streamImage() its digests", async () => {
  const dir = temp.make();
  const segments = await everyKind(dir);
  for (const tailBytes of [0, 1, 3 * MIB]) {
    const path = join(dir, `image ${tailBytes}`);
    const sizeBytes = totalSize(segments) + tailBytes;
    const written = await writeImage(path, segments, { sizeBytes });
    const image = readFileSync(path);
    const { bytes, error } = await drain(imageStream(segments, { sizeBytes }));
    expect(error).toBeUndefined();
    expect(image.equals(bytes)).toBe(true);
    const { chunks, ends, to } = keeping();
    let done = 0;
    const onBytes = (more: number) => void (done += more);
    expect(await streamImage(segments, to, { sizeBytes, onBytes })).toEqual(written);
    expect(image.equals(concat(chunks))).toBe(true);
    expect(done).toBe(sizeBytes);
    expect(ends).toEqual(["closed"]);
  }
  expect((await drain(imageStream([]))).bytes).toHaveLength(0);
});

test("the last bytes of a wrong file are never in a stream", async () => {
  const dir = temp.make();
  for (const size of [1, 1000, 256 * 1024, 512 * 1024, MIB + 5]) {
    const wrong = { ...fileOf(dir, `${size}`, sampleBody(size)), sha256: sha256("another") };
    const after = fileOf(dir, "after", sampleBody(5 * MIB, 2));
    const { bytes, error } = await drain(imageStream([wrong, after]));
    expect(error).toBeInstanceOf(DigestMismatch);
    expect(bytes.length).toBeLessThan(size);
    const last = await drain(imageStream([after, wrong]));
    expect(last.error).toBeInstanceOf(DigestMismatch);
    expect(last.bytes.length).toBeLessThan(after.sizeBytes + size);
    const { ends, to } = keeping();
    const refused = await rejection(streamImage([after, wrong], to));
    expect([refused.kind, refused instanceof DigestMismatch]).toEqual(["verify", false]);
    expect(refused.message).toContain(wrong.path);
    expect(ends).toEqual(["aborted"]);
  }
  const short = fileOf(dir, "short", sampleBody(MIB));
  truncateSync(short.path, MIB - 1);
  const { error } = await drain(imageStream([short]));
  expect((error as UserError).kind).toBe("tree");
});

test("a stream ends with the error of its place", async () => {
  const file = fileOf(temp.make(), "f", sampleBody(3 * MIB));
  let chunks = 0;
  const full = new WritableStream<Uint8Array>({
    write: () => {
      if (++chunks === 3) throw new UserError("target", "it is full");
    },
  });
  expect((await rejection(streamImage([file], full))).message).toBe("it is full");
  expect(chunks).toBe(3);
});

test("a signal ends a stream that nobody reads", async () => {
  const file = fileOf(temp.make(), "f", sampleBody(3 * MIB));
  const controller = new AbortController();
  const reader = imageStream([file], { signal: controller.signal }).getReader();
  expect((await reader.read()).value).toHaveLength(256 * 1024);
  controller.abort();
  expect((await rejection(reader.read())).kind).toBe("interrupt");
  expect((await rejection(reader.closed)).kind).toBe("interrupt");
  const late = imageStream([file], { signal: controller.signal }).getReader();
  expect((await rejection(late.read())).kind).toBe("interrupt");
});

const SCRIPT = fileURLToPath(new URL("stream_read.ts", import.meta.url).href);

test("under Bun and Deno a slow reader costs no memory, and a cancelled stream closes its files", async () => {
  const dir = temp.make();
  const file = fileOf(dir, "large", sampleBody(400 * MIB));
  for (const runtime of [[process.execPath], [DENO, "run", "--quiet", "--allow-all"]]) {
    const { code, stdout, stderr } = await run([...runtime, SCRIPT, file.path, file.sha256!]);
    expect([stderr, code]).toEqual(["", 0]);
    const got = JSON.parse(stdout);
    expect(got.sha256).toBe(file.sha256);
    // What was read before it was asked for, and of it as a whole, against 400 MiB.
    expect(got.readWhileWaitingBytes).toBeLessThan(2 * MIB);
    expect(got.grownBytes).toBeLessThan(100 * MIB);
    expect(got.openBefore).toEqual([]);
    expect(got.openMeanwhile).toEqual([file.path]);
    expect(got.openAfterCancel).toEqual([]);
    expect(got.openAfterSignal).toEqual([]);
    expect(got.openAfterEnd).toEqual([]);
    expect(got.wrong).toContain("its SHA-256 is");
  }
});
