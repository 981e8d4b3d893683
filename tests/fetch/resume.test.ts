// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { link, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import type { FetchEvent } from "../../src/fetch/types.ts";
import { bench, BODY, filesOf, get, NAME, OTHER, putPart, rejection, stored } from "./harness.ts";
import { sampleBody, sha256 } from "./servers.ts";
import { makeStoreDirectory } from "../../src/fetch/store.ts";

afterEach(() => bench.release());

test("fetchAll() resumes a part and asks only for the rest", async () => {
  const server = await bench.files(BODY);
  const store = await bench.dir();
  putPart(store, BODY.subarray(0, 100_000));
  const events: FetchEvent[] = [];
  const report = await get(store, [`${server.url}/a`], {
    onProgress: (event) => events.push(event),
  });
  expect(server.seen).toEqual(["GET /a bytes=100000-"]);
  expect(events[1]).toMatchObject({ kind: "start", bytes: 100_000, total: 300_000 });
  expect(report.files.get(NAME)?.sizeBytes).toBe(300_000);
  expect(sha256(await readFile(stored(store)))).toBe(sha256(BODY));
});

test("fetchAll() continues with the next URL where the one before was cut short", async () => {
  const cut = await bench.says(
    `HTTP/1.1 200 OK\nContent-Length: ${BODY.length}\n\n`,
    BODY.subarray(0, 1000),
  );
  const good = await bench.files(BODY);
  await get(await bench.dir(), [cut.url, `${good.url}/b`]);
  expect(good.seen).toEqual(["GET /b bytes=1000-"]);
});

test("fetchAll() takes a part that is already whole, even if its URL is invalid", async () => {
  const store = await bench.dir();
  putPart(store, BODY);
  const report = await get(store, ["http://[/a"]);
  const path = stored(store);
  const source = pathToFileURL(path).href;
  expect(report.files.get(NAME)).toEqual({ path, sizeBytes: BODY.length, source });
});

test("fetchAll() starts over when a server ignores the range", async () => {
  const server = await bench.http((_, response) => response.end(BODY));
  const store = await bench.dir();
  putPart(store, BODY.subarray(0, 100_000));
  const report = await get(store, [server.url]);
  expect(report.failures).toEqual([]);
  expect(server.seen).toHaveLength(1);
});

test("fetchAll() starts over when a server sends another range than the requested one", async () => {
  const server = await bench.http((request, response) => {
    if (request.headers.range === undefined) return void response.end(BODY);
    const headers = { "Content-Range": "bytes 99999-299999/300000", "Content-Length": 200_001 };
    response.writeHead(206, headers).write("never to be appended"); // and never ends
  });
  const store = await bench.dir();
  putPart(store, BODY.subarray(0, 100_000));
  const report = await get(store, [server.url]);
  expect(report.failures).toEqual([]);
  expect(server.seen).toEqual(["GET / bytes=100000-", "GET /"]);
});

test("fetchAll() continues when a server sends less than the requested range", async () => {
  const server = await bench.http((request, response) => {
    const from = Number(/\d+/.exec(request.headers.range ?? "")?.[0]);
    const range = `bytes ${from}-${from + 99_999}/300000`;
    response.writeHead(206, { "Content-Range": range }).end(BODY.subarray(from, from + 100_000));
  });
  const store = await bench.dir();
  putPart(store, BODY.subarray(0, 100_000));
  const failed: string[] = [];
  const report = await get(store, [server.url], {
    onProgress: (event) => {
      if (event.kind === "failed-attempt") failed.push(event.answer);
    },
  });
  expect(report.failures).toEqual([]);
  expect(failed).toEqual(["body ended after 200000 of 300000 bytes"]);
  expect(server.seen).toEqual(["GET / bytes=100000-", "GET / bytes=200000-"]);
});

test("fetchAll() gives no final name to a part that another process has replaced", async () => {
  const server = await bench.files(BODY);
  const store = await bench.dir();
  const error = await rejection(get(store, [server.url], {
    onProgress: (event) => {
      if (event.kind !== "start") return;
      rmSync(`${stored(store)}.part`);
      putPart(store, OTHER);
    },
  }));
  expect(error.kind).toBe("target");
  expect(error.message).toEndWith("another process has changed it");
  expect(await filesOf(store)).toEqual([`${sha256(BODY)}.part`]);
});

test("fetchAll() starts over when a part of other content was resumed", async () => {
  const server = await bench.files(BODY);
  const store = await bench.dir();
  putPart(store, OTHER.subarray(0, 100_000));
  const report = await get(store, [`${server.url}/a`]);
  expect(report.failures).toEqual([]);
  expect(server.seen).toEqual(["GET /a bytes=100000-", "GET /a"]);
  expect(sha256(await readFile(stored(store)))).toBe(sha256(BODY));
});

test("fetchAll() starts over when a part is longer than the file", async () => {
  const server = await bench.files(BODY);
  const store = await bench.dir();
  putPart(store, sampleBody(400_000, 3));
  const report = await get(store, [`${server.url}/a`]);
  expect(report.failures).toEqual([]);
  expect(server.seen).toEqual(["GET /a bytes=400000-", "GET /a"]);
});

test("fetchAll() takes a part that is already whole without a request", async () => {
  const server = await bench.files(BODY);
  const store = await bench.dir();
  putPart(store, BODY);
  const report = await get(store, [server.url]);
  expect(server.seen).toEqual([]);
  expect(report.files.get(NAME)?.source).toBe(pathToFileURL(stored(store)).href);
});

test("fetchAll() does not write through a part that is a symbolic link", async () => {
  const server = await bench.files(BODY);
  const [store, elsewhere] = [await bench.dir(), await bench.dir()];
  const precious = join(elsewhere, "precious");
  await writeFile(precious, "precious");
  for (const plant of [symlink, link]) {
    makeStoreDirectory(stored(store));
    await plant(precious, `${stored(store)}.part`);
    expect((await get(store, [server.url])).failures).toEqual([]);
    expect(await readFile(precious, "utf8")).toBe("precious");
    await writeFile(stored(store), "wrong again");
  }
});

test("fetchAll() waits for another fetch of the same file, and takes its result", async () => {
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
  const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
  const server = await bench.http(async (_, response) => {
    response.write(BODY.subarray(0, 1000));
    ask();
    await mayGoOn;
    response.end(BODY.subarray(1000));
  });
  const store = await bench.dir();
  const first = get(store, [server.url], { stallMs: 10_000 });
  await asked;
  const events: FetchEvent[] = [];
  const second = get(store, [server.url], {
    onProgress(event) {
      events.push(event);
      goOn();
    },
  });
  const path = stored(store);
  expect((await second).files.get(NAME)?.source).toBe(pathToFileURL(path).href);
  expect((await first).files.get(NAME)?.source).toBe(server.url);
  expect(events[1]).toEqual({ kind: "wait", name: NAME, pid: process.pid });
  expect(events.map(({ kind }) => kind)).toEqual(["begin", "wait", "done", "end"]);
  expect(server.seen).toHaveLength(1);
  expect(await filesOf(store)).toEqual([sha256(BODY)]);
});

test("fetchAll() that waits for another fetch can be aborted, and resumes if that is aborted", async () => {
  const slow = await bench.raw((socket) =>
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\nabc")
  );
  const good = await bench.files(BODY);
  const store = await bench.dir();
  const stop = new AbortController();
  const told = new AbortController();
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const first = get(store, [slow.url], {
    stallMs: 10_000,
    signal: stop.signal,
    onProgress: ({ kind }) => void (kind === "bytes" && begin()),
  });
  await begun;
  const waiting = { onProgress: ({ kind }: FetchEvent) => void (kind === "wait" && told.abort()) };
  const second = get(store, [good.url], { signal: told.signal, ...waiting });
  expect((await rejection(second)).kind).toBe("interrupt");
  const third = get(store, [good.url], {
    onProgress: ({ kind }) => void (kind === "wait" && stop.abort()),
  });
  expect((await rejection(first)).kind).toBe("interrupt");
  expect((await third).files.get(NAME)?.source).toBe(good.url);
  expect(await filesOf(store)).toEqual([sha256(BODY)]);
});
