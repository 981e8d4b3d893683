// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { FetchTally } from "../../src/fetch/tally.ts";
import type { FetchEvent } from "../../src/fetch/types.ts";

function tallyOf(...events: readonly FetchEvent[]): FetchTally {
  const tally = new FetchTally();
  for (const event of events) tally.add(event);
  return tally;
}
const body = (
  kind: "start" | "bytes",
  name: string,
  bytes: number,
  total?: number,
): FetchEvent => ({
  kind,
  name,
  url: "http://a/",
  bytes,
  total,
});

test("FetchTally adds up what is whole and what is being received", () => {
  const tally = tallyOf(
    { kind: "begin", files: 3 },
    body("start", "a", 0, 100),
    body("bytes", "a", 60, 100),
    { kind: "done", name: "b", url: "file:///b", bytes: 40, total: 40 },
    body("start", "c", 500, 1000),
    body("bytes", "c", 600, 1000),
  );
  expect(tally.files).toBe(3);
  expect(tally.filesDone).toBe(1);
  expect(tally.names).toEqual(["a", "c"]);
  expect(tally.doneBytes).toBe(700);
  // Neither what was in the store, nor what an earlier run has left there.
  expect(tally.receivedBytes).toBe(160);
  expect(tally.totalBytes).toEqual({ bytes: 1140, isExact: true });
});

test("FetchTally forgets what an attempt brought, but not that it was received", () => {
  const tally = tallyOf(
    { kind: "begin", files: 1 },
    body("start", "a", 0, 100),
    body("bytes", "a", 100, 100),
    { kind: "failed-attempt", name: "a", url: "http://a/", answer: "wrong", fault: "digest" },
  );
  expect(tally).toMatchObject({ filesDone: 0, doneBytes: 0, receivedBytes: 100, names: [] });
});

test("FetchTally estimates the size of all files once some are known", () => {
  const done = (name: string): FetchEvent => {
    return { kind: "done", name, url: "http://a/", bytes: 10, total: 10 };
  };
  const tally = tallyOf({ kind: "begin", files: 100 }, done("0"));
  expect(tally.totalBytes).toBeUndefined();
  for (let name = 1; name < 8; name++) tally.add(done(String(name)));
  expect(tally.totalBytes).toEqual({ bytes: 1000, isExact: false });
});
