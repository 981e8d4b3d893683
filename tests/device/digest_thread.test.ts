// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { once } from "node:events";
import { MIB } from "../../src/format/segment.ts";
import { DigestThread } from "../../src/device/digest_thread.ts";
import { Ring } from "../../src/device/ring.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { concat } from "../support/sources.ts";

test("DigestThread rejects all requests after its thread has failed, also later ones", async () => {
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
    const thread = new DigestThread(ring);
    const early = thread.add(0, 0, 1);
    await Promise.all([
      once(started!, "error"),
      expect(early).rejects.toThrow("the thread of a sink failed"),
    ]);
    await expect(thread.add(0, 0, 1)).rejects.toThrow("the thread of a sink failed");
    await expect(thread.end()).rejects.toThrow("no thread today");
    thread.close();
  } finally {
    globalThis.Worker = Real;
  }
});

test("DigestThread hashes ranges of slots and zeros in order, and each piece on its own", async () => {
  const [first, second] = [MIB, 7].map((size, i) => sampleBody(size, i + 1)) as [
    Uint8Array,
    Uint8Array,
  ];
  const ring = new Ring({ slots: 2, slotBytes: MIB });
  const thread = new DigestThread(ring);
  ring.view(0).set(first);
  ring.view(1).set(second);
  const adding = [thread.add(0, 0, 5), thread.add(0, 5, MIB)];
  thread.addZeros(300_000);
  adding.push(thread.add(1, 0, 4));
  const one = thread.end();
  adding.push(thread.add(1, 4, 7));
  const other = thread.end();
  await Promise.all(adding);
  expect(await one).toBe(sha256(concat([first, new Uint8Array(300_000), second.subarray(0, 4)])));
  expect(await other).toBe(sha256(second.subarray(4)));
  expect(await thread.end()).toBe(sha256(new Uint8Array(0)));
  thread.close();
});
