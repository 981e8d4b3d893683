// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { libc } from "../../src/runtime/libc.ts";
import { ALIGNMENT_BYTES, Ring } from "../../src/device/ring.ts";

test("Ring hands out no slot twice, and a returned one to the first that waits", async () => {
  const ring = new Ring({ slots: 2, slotBytes: 4 });
  expect([await ring.take(), await ring.take()]).toEqual([0, 1]);
  const taken: string[] = [];
  const first = ring.take().then((slot) => taken.push(`first ${slot}`));
  const second = ring.take().then((slot) => taken.push(`second ${slot}`));
  await Promise.resolve();
  expect(taken).toEqual([]);
  ring.give(1);
  await first;
  expect(taken).toEqual(["first 1"]);
  ring.give(0);
  await second;
  expect(taken).toEqual(["first 1", "second 0"]);
});

test("Ring has slots that do not overlap, and are aligned for direct reads", () => {
  for (const calls of [undefined, libc()!]) {
    const ring = new Ring({
      slots: 3,
      slotBytes: ALIGNMENT_BYTES,
      ...(calls !== undefined && { libc: calls }),
    });
    [0, 1, 2].forEach((slot) => ring.view(slot).fill(slot + 1));
    for (const slot of [0, 1, 2]) {
      const view = ring.view(slot);
      expect(view).toHaveLength(ALIGNMENT_BYTES);
      expect(view.every((byte) => byte === slot + 1)).toBe(true);
      if (calls !== undefined) expect(calls.addressOf(view) % ALIGNMENT_BYTES).toBe(0);
    }
    expect(ring.view(1, 7)).toHaveLength(7);
  }
});
