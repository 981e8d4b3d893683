// SPDX-License-Identifier: MIT
/**
 * Reads streams of a large file in a process of its own, whose memory and open files are looked at.
 *
 * usage: stream_read.ts FILE SHA256
 *
 * @module
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { fileSegment } from "../../src/format/segment.ts";
import { imageStream } from "../../src/write/stream.ts";

const [path = "", sha256 = ""] = process.argv.slice(2);
const segment = fileSegment({ path, sizeBytes: statSync(path).size }, sha256);

function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return [];
    }
  }).filter((name) => name === path);
}

function peakBytes(): number {
  return 1024 * Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]);
}

function readBytes(): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))![1]);
}

const openBefore = openFiles();
const before = peakBytes();
const hash = createHash("sha256");
const reader = imageStream([segment]).getReader();
hash.update((await reader.read()).value!);
const readBefore = readBytes();
await setTimeout(200);
const readWhileWaitingBytes = readBytes() - readBefore;
for (let index = 0;; index++) {
  const { done, value } = await reader.read();
  if (done) break;
  hash.update(value);
  if (index % 100 === 0) await setTimeout(1);
}
const grownBytes = peakBytes() - before;
const openAfterEnd = openFiles();

const cancelled = imageStream([segment]).getReader();
await cancelled.read();
const openMeanwhile = openFiles();
await cancelled.cancel();
const openAfterCancel = openFiles();

const controller = new AbortController();
const stopped = imageStream([segment], { signal: controller.signal }).getReader();
await stopped.read();
controller.abort();
await stopped.closed.catch(() => {});
await setTimeout(0);
const openAfterSignal = openFiles();

let wrong = "";
try {
  for await (const _ of imageStream([{ ...segment, sha256: "0".repeat(64) }]));
} catch (error) {
  wrong = String(error);
}
console.log(JSON.stringify({
  sha256: hash.digest("hex"),
  readWhileWaitingBytes,
  grownBytes,
  openBefore,
  openMeanwhile,
  openAfterCancel,
  openAfterSignal,
  openAfterEnd,
  wrong,
}));
