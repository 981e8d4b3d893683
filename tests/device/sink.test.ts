// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { closeSync, fsyncSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { isZero } from "../../src/bytes.ts";
import { chooseTarget } from "../../src/device/candidates.ts";
import { MIB } from "../../src/format/segment.ts";
import { BlockFile } from "../../src/device/block_file.ts";
import { DeviceSink, writeBytes } from "../../src/device/sink.ts";
import { rejection } from "../fetch/harness.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { concat } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const SIZE = 32 * MIB;
const OPTIONS = { sizeBytes: SIZE, onDone: () => {} };

/** Writes data to the start of a file of other content, and returns the open sink. */
async function withSink(
  work: (sink: DeviceSink, out: BlockFile, path: string) => Promise<void>,
): Promise<void> {
  const path = join(temp.make(), "file");
  writeFileSync(path, sampleBody(SIZE));
  const out = BlockFile.open(chooseTarget(path, true));
  const sink = await DeviceSink.begin(out, OPTIONS);
  try {
    await writeBytes(sink, sampleBody(9 * MIB));
    await work(sink, out, path);
  } finally {
    await sink.close();
    await out.close();
  }
}

/** Changes a byte, as an unreliable drive might. */
function change(path: string, offset: number, byte: number): void {
  const file = openSync(path, "r+");
  writeSync(file, Uint8Array.of(byte), 0, 1, offset);
  fsyncSync(file);
  closeSync(file);
}

test.each([
  ["data", 5 * MIB + 7],
  ["a hole", 20 * MIB],
  ["the zeros after the data", SIZE - 1],
])("readBack() finds a byte that changed in %s, and where", async (_, offset) => {
  await withSink(async (sink, _, path) => {
    await sink.skip(16 * MIB);
    await writeBytes(sink, sampleBody(MIB));
    await sink.finish();
    await sink.readBack();
    change(path, offset, offset < 9 * MIB ? sampleBody(9 * MIB)[offset]! ^ 1 : 1);
    const error = await rejection(sink.readBack());
    expect(error.kind).toBe("verify");
    const [, from, to] = /between offset (\d+) and (\d+)$/.exec(error.where!)!;
    expect(offset).toBeWithin(Number(from), Number(to));
  });
});

test("pieces are hashed whatever they have in common with buffers, blocks and holes", async () => {
  const sizes = [1, 5000, 4 * MIB + 1, 0, 3 * MIB];
  const bodies = sizes.map((size, index) => sampleBody(size, index + 1));
  await withSink(async (sink) => {
    const digests: Promise<string>[] = [];
    for (const body of bodies) {
      await writeBytes(sink, sampleBody(10));
      sink.beginPiece();
      await writeBytes(sink, body);
      digests.push(sink.endPiece());
    }
    sink.beginPiece();
    await writeBytes(sink, sampleBody(7));
    await sink.skip(5 * MIB);
    await writeBytes(sink, sampleBody(9));
    digests.push(sink.endPiece());
    await sink.finish();
    const holed = concat([sampleBody(7), new Uint8Array(5 * MIB), sampleBody(9)]);
    expect(await Promise.all(digests)).toEqual([...bodies, holed].map(sha256));
  });
});

test("seal() finds a wrong byte in the first MiB", async () => {
  await withSink(async (sink, out, path) => {
    await sink.finish();
    await sink.readBack();
    await sink.seal(true);
    const sync = out.sync.bind(out);
    out.sync = async () => {
      await sync();
      change(path, 4711, sampleBody(MIB)[4711]! ^ 1);
    };
    const error = await rejection(sink.seal(true));
    expect(error.kind).toBe("verify");
    expect(error.where).toEndWith(`between offset 0 and ${MIB}`);
    await sink.seal(false);
  });
});

test("seal() writes the first block after all others, as a write may be cut short", async () => {
  await withSink(async (sink, out, path) => {
    await sink.finish();
    const sync = out.sync.bind(out);
    const seen: (readonly [first: boolean, rest: boolean])[] = [];
    out.sync = async () => {
      await sync();
      const front = readFileSync(path).subarray(0, MIB);
      const [first, rest] = [front.subarray(0, 4096), front.subarray(4096)];
      const whole = sampleBody(MIB);
      seen.push([isZero(first), rest.equals(whole.subarray(4096))]);
    };
    await sink.seal(true);
    expect(seen).toEqual([[true, true], [false, true]]);
    expect(readFileSync(path).subarray(0, MIB).equals(sampleBody(MIB))).toBe(true);
  });
});
