// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemCode } from "../../src/errors.ts";
import { MIB } from "../../src/format/segment.ts";
import { Ring } from "../../src/write/ring.ts";
import { SinkThread } from "../../src/write/sink_thread.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { concat } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

test("SinkThread rejects all requests after its thread has failed, also later ones", async () => {
  const Real = globalThis.Worker;
  let started: Worker | undefined;
  globalThis.Worker = class extends Real {
    constructor() {
      super("data:text/javascript,throw new Error('no thread today')");
      started = this;
    }
  } as typeof Worker;
  try {
    const ring = new Ring({ slots: 1, slotBytes: 1 });
    const thread = new SinkThread(ring, "/nowhere");
    const early = thread.add(0, 1, false);
    await Promise.all([
      once(started!, "error"),
      expect(early).rejects.toThrow("the thread of a sink failed"),
    ]);
    await expect(thread.add(0, 1, true)).rejects.toThrow("the thread of a sink failed");
    await expect(thread.digestSoFar()).rejects.toThrow("no thread today");
    await thread.close();
  } finally {
    globalThis.Worker = Real;
  }
});

test("SinkThread rejects all requests after a write error, with its code, and can be closed", async () => {
  const dir = join(temp.make(), "directory");
  mkdirSync(dir);
  const thread = new SinkThread(new Ring({ slots: 2, slotBytes: 4 }), dir);
  const codeOf = (asked: Promise<unknown>) => asked.then(() => "no failure", systemCode);
  const asked = [thread.add(0, 4, false), thread.add(1, 4, false), thread.finish()];
  expect(await Promise.all(asked.map(codeOf))).toEqual(["EISDIR", "EISDIR", "EISDIR"]);
  expect(await codeOf(thread.digestSoFar())).toBe("EISDIR");
  await thread.close();
});

test("SinkThread writes unwritten slots at their offsets, and digests all in order", async () => {
  const path = join(temp.make(), "file");
  const [first, second, third] = [5, MIB, 7].map((size, i) => sampleBody(size, i + 1));
  writeFileSync(path, "");
  const ring = new Ring({ slots: 3, slotBytes: MIB });
  const thread = new SinkThread(ring, path);
  const add = (slot: number, body: Uint8Array, isWritten: boolean) => {
    ring.view(slot).set(body);
    return thread.add(slot, body.length, isWritten);
  };
  const adding = [add(0, first!, false), add(1, second!, true)];
  thread.addZeros(300_000);
  adding.push(add(2, third!, false));
  expect(thread.pendingSlots).toBeGreaterThan(0);
  await Promise.all(adding);
  expect(thread.pendingSlots).toBe(0);
  const all = concat([first!, second!, new Uint8Array(300_000), third!]);
  expect(await thread.digestSoFar()).toBe(sha256(all));
  expect(await thread.finish()).toBe(sha256(all));
  // The second slot is for the caller to write: its range stays a hole.
  all.fill(0, 5, 5 + MIB);
  expect(readFileSync(path).equals(all)).toBe(true);
  await thread.close();
});
