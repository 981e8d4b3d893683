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
  askSizes(some, { mirrors: mirrors(...urls), userAgent: "seedstrap/test", ...bounds });
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
  const sizes = await ask(names, [`${odd.url}/files/`, all.url]);
  expect(sizes).toEqual(new Map(names.map((name, at) => [name, at % 2 === 0 ? 7 : at * 1000])));
  expect(odd.seen.toSorted()).toEqual(names.map((name) => `HEAD /files/${name}`).toSorted());
  expect(all.seen).toHaveLength(names.length / 2);
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
  const sizes = await ask(["moved.tar", "gzip.tar", "error.tar", "none.tar"], [server.url]);
  expect(sizes).toEqual(new Map([["moved.tar", 7]]));
});

test("askSizes() gives up a mirror that is dead or silent, and asks the next one", async () => {
  const silent = await bench.raw(() => {});
  const live = await bench.http(sized);
  const sizes = await ask(names, [await deadUrl(bench), silent.url, live.url], { stallMs: 1000 });
  expect(sizes.size).toBe(30);
  // As many as are asked at once, and not all.
  expect(silent.seen.length).toBeLessThan(names.length / 2);
  expect(await ask(names, [await deadUrl(bench)])).toEqual(new Map());
});

test("askSizes() returns what it knows when its time is over, and ends with its signal", async () => {
  let asked = 0;
  const slow = await bench.http((request, response) => {
    if (asked++ === 0) sized(request, response); // all others wait
  });
  const some = ["1.tar", ...names];
  expect((await ask(some, [slow.url], { totalMs: 300 })).size).toBeLessThanOrEqual(1);
  expect(slow.seen.length).toBeLessThan(some.length);
  const stop = AbortSignal.abort(new Error("stopped"));
  await expect(ask(names, [slow.url], { signal: stop })).rejects.toThrow("stopped");
});
