// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { alternatives, HostHealth } from "../../src/fetch/alternatives.ts";
import { fetchAll } from "../../src/fetch/fetch.ts";
import type { FetchEvent } from "../../src/fetch/types.ts";
import { bench, mirrorsAt } from "./harness.ts";
import { sampleBody, sha256 } from "./servers.ts";

afterEach(() => bench.release());

const [A, B, C] = ["http://a.example", "http://b.example", "http://c.example"];

test("a mirror comes first as often as it is fast, and one that is not known as the fastest", () => {
  const health = new HostHealth();
  health.sent(A, 9_000_000, 1000);
  health.sent(B, 1_000_000, 1000);
  const mirrors = mirrorsAt(A, B, C);
  const firsts = new Map<string, number>();
  let seed = 0;
  const random = () => (seed = (seed * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
  for (let round = 0; round < 1900; round++) {
    const [first] = alternatives(
      { name: "x", sha256: "0" },
      [],
      mirrors,
      random,
      (url) => health.weight(url),
    );
    firsts.set(new URL(first!).origin, (firsts.get(new URL(first!).origin) ?? 0) + 1);
  }
  expect(firsts.get(A)).toBeWithin(800, 1000);
  expect(firsts.get(C)).toBeWithin(800, 1000);
  expect(firsts.get(B)).toBeWithin(50, 150);
  // One that is fast and has nothing comes last, as a rule.
  for (let times = 0; times < 99; times++) health.judged(A, false);
  for (let times = 0; times < 99; times++) health.judged(B, true);
  expect(health.weight(A)).toBeLessThan(health.weight(B));
});

test("a host is outdone only by one that is much faster, known, alive, and worth a request", () => {
  const health = new HostHealth();
  health.sent(A, 10_000_000, 1000);
  const slow = { bytes: 100_000, ms: 2000 };
  expect(health.isOutdone(B, slow, [A], 10_000_000)).toBe(true);
  // There is not much left.
  expect(health.isOutdone(B, slow, [A], 100_000)).toBe(false);
  expect(health.isOutdone(B, slow, [C], 10_000_000)).toBe(false);
  expect(health.isOutdone(B, slow, [`${B}/other`], 10_000_000)).toBe(false);
  expect(health.isOutdone(B, { bytes: 6_000_000, ms: 1000 }, [A], 1e9)).toBe(false);
  for (let times = 0; times < 3; times++) health.down(A);
  expect(health.isOutdone(B, slow, [A], 10_000_000)).toBe(false);
});

test("a slow mirror is left for a fast one, which goes on where it was", async () => {
  const body = sampleBody(3_000_000);
  const other = sampleBody(400_000, 2);
  const bodyOf = (url: string) => url.endsWith("big") ? body : other;
  const slow = await bench.http(({ url }, response) => {
    const bytes = bodyOf(url!);
    response.writeHead(200, { "Content-Length": bytes.length });
    let at = 0;
    const timer = setInterval(() => {
      response.write(bytes.subarray(at, at += 5000));
      if (at >= bytes.length) response.end();
    }, 50);
    response.on("close", () => clearInterval(timer));
  });
  const fast = await bench.http(({ url, headers }, response) => {
    const bytes = bodyOf(url!);
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, {
      "Content-Length": bytes.length - from,
      ...(from > 0 && { "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
    }).end(bytes.subarray(from));
  });
  const events: FetchEvent[] = [];
  const report = await fetchAll([
    { name: "big", sha256: sha256(body), urls: [`${slow.url}/big`, `${fast.url}/big`] },
    { name: "other", sha256: sha256(other), urls: [`${fast.url}/other`] },
  ], {
    ...{ store: await bench.dir(), mirrors: [], userAgent: "seedstrap/test" },
    onProgress: (event) => events.push(event),
  });
  expect(report.failures).toEqual([]);
  expect(report.files.get("big")?.source).toBe(`${fast.url}/big`);
  const [, from] = /bytes=(\d+)-/.exec(fast.seen.find((line) => line.includes("/big"))!)!;
  expect(Number(from)).toBeGreaterThan(100_000);
  const failed = events.flatMap((event) => event.kind === "failed-attempt" ? [event.answer] : []);
  expect(failed).toHaveLength(1);
  expect(failed[0]).toMatch(/^slower than others: \d+ KB a second, after \d+ of 3000000 bytes$/);
});
