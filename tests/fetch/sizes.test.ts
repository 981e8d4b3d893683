// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { HttpMirror } from "../../src/fetch/mirror.ts";
import { askSizes } from "../../src/fetch/sizes.ts";
import { Bench, deadUrl } from "./servers.ts";

const bench = new Bench();
afterEach(() => bench.release());

const names = Array.from({ length: 60 }, (_, at) => `${at}.tar`);
const mirrors = (...urls: string[]): HttpMirror[] => urls.map((url) => ({ kind: "http", url }));
const ask = (some: readonly string[], urls: readonly string[], bounds = {}) =>
  askSizes(some.map((name) => ({ name, sha256: "0" })), {
    mirrors: mirrors(...urls),
    userAgent: "seedstrap/test",
    ...bounds,
  });
/** Answers with the number in the name as the size, or not found for even numbers. */
const sized = (request: IncomingMessage, response: ServerResponse) => {
  const number = Number(/(\d+)\.tar$/.exec(request.url ?? "")![1]);
  if (number % 2 === 0) response.writeHead(404).end();
  else response.writeHead(200, { "Content-Length": number * 1000 }).end();
};

test("askSizes() asks by HEAD, one mirror after the other, until one tells a size", async () => {
  const odd = await bench.http(sized);
  const all = await bench.http((_, response) =>
    response.writeHead(200, { "Content-Length": 7 }).end()
  );
  const { sizes, nowhere, useless } = await ask(names, [`${odd.url}/files/`, all.url]);
  expect(sizes).toEqual(new Map(names.map((name, at) => [name, at % 2 === 0 ? 7 : at * 1000])));
  expect(odd.seen.toSorted()).toEqual(names.map((name) => `HEAD /files/${name}`).toSorted());
  expect(all.seen).toHaveLength(names.length / 2);
  expect([...nowhere, ...useless]).toEqual([]);
});

test("askSizes() follows redirects, and takes no size of an encoded body, an error or none", async () => {
  const all = await bench.http((_, response) =>
    response.writeHead(200, { "Content-Length": 7 }).end()
  );
  const server = await bench.http(({ url }, response) => {
    if (url === "/moved.tar") response.writeHead(302, { Location: `${all.url}/x` });
    else if (url === "/gzip.tar") {
      response.writeHead(200, { "Content-Length": 5, "Content-Encoding": "gzip" });
    } else if (url === "/error.tar") response.writeHead(500, { "Content-Length": 5 });
    else response.writeHead(200, { "Transfer-Encoding": "chunked" });
    response.end();
  });
  const { sizes, nowhere } = await ask(["moved.tar", "gzip.tar", "error.tar", "none.tar"], [
    server.url,
  ]);
  expect(sizes).toEqual(new Map([["moved.tar", 7]]));
  // An error is no certain answer.
  expect([...nowhere]).toEqual([]);
});

test("askSizes() gives up a mirror that is dead or silent, and asks the next one", async () => {
  const silent = await bench.raw(() => {});
  const live = await bench.http(sized);
  const dead = await deadUrl(bench);
  const { sizes, nowhere, useless } = await ask(names, [dead, silent.url, live.url], {
    stallMs: 1000,
  });
  expect(useless).toEqual([
    { url: dead, why: "connection refused" },
    { url: silent.url, why: "timed out: no byte for 1 s" },
  ]);
  // Who is silent may have it.
  expect([...nowhere]).toEqual([]);
  expect(sizes.size).toBe(30);
  // As many as are asked at once, and not all.
  expect(silent.seen.length).toBeLessThan(names.length / 2);
  expect((await ask(names, [dead])).sizes).toEqual(new Map());
});

test("askSizes() says which mirrors have nothing, and which files no mirror has for certain", async () => {
  const [dead, empty, odd] = [
    await deadUrl(bench),
    await bench.status(404),
    await bench.http(sized),
  ];
  const asked = ["1.tar", "2.tar", "3.tar", "4.tar"];
  const { nowhere, useless } = await ask(asked, [dead, empty.url, odd.url]);
  expect([...nowhere]).toEqual(["2.tar", "4.tar"]);
  expect(useless).toEqual([
    { url: dead, why: "connection refused" },
    { url: empty.url, why: "has 0 of 4 files that are asked for (HTTP 404)" },
  ]);
  const busy = await bench.status(503);
  const unsure = await ask(["1.tar"], [dead, busy.url]);
  expect([...unsure.nowhere]).toEqual([]);
  expect(unsure.useless.at(-1)).toEqual({
    url: busy.url,
    why: "has 0 of 1 file that is asked for (HTTP 503)",
  });
  const none = await ask(asked, []);
  expect([...none.nowhere, ...none.useless]).toEqual([]);
});

test("askSizes() returns what it knows when its time is over, and ends with its signal", async () => {
  let asked = 0;
  const slow = await bench.http((request, response) => {
    if (asked++ === 0) sized(request, response); // all others wait
  });
  const some = ["1.tar", ...names];
  expect((await ask(some, [slow.url], { totalMs: 300 })).sizes.size).toBeLessThanOrEqual(1);
  expect(slow.seen.length).toBeLessThan(some.length);
  const stop = AbortSignal.abort(new Error("stopped"));
  await expect(ask(names, [slow.url], { signal: stop })).rejects.toThrow("stopped");
});
