// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { once } from "node:events";
import { libc } from "../../src/runtime/libc.ts";
import { DigestThread, Ring } from "../../src/write/ring.ts";

test("DigestThread tells that its thread has failed, also who asks later", async () => {
  const Real = globalThis.Worker;
  let started: Worker | undefined;
  globalThis.Worker = class extends Real {
    constructor() {
      super("data:text/javascript,throw new Error('no thread today')");
      started = this;
    }
  } as typeof Worker;
  try {
    const thread = new DigestThread(new Ring(libc()!));
    await once(started!, "error");
    const late = new Promise((_, reject) => setTimeout(reject, 2000, new Error("no answer")));
    await expect(Promise.race([thread.add(0, 1), late])).rejects.toThrow(
      "the digesting thread failed",
    );
    await expect(thread.sofar()).rejects.toThrow("no thread today");
    thread.end();
  } finally {
    globalThis.Worker = Real;
  }
});
