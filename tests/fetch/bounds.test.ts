// SPDX-License-Identifier: MIT
/** Servers that send without end, or want a rest. */
import { afterEach, expect, test } from "bun:test";
import { readFileSync, statfsSync } from "node:fs";
import type { Socket } from "node:net";
import { parseRetryAfter } from "../../src/fetch/download.ts";
import { mountObstacle, must, sh } from "../support/loop.ts";
import * as harness from "./harness.ts";
import { answerOf, answers, bench, BODY, filesOf, NAME, rejection } from "./harness.ts";
import { sha256 } from "./servers.ts";

const mounted: string[] = [];
afterEach(() => {
  for (const dir of mounted.splice(0)) must("umount", dir);
  return bench.release();
});

/** No server here stalls, however busy the machine is. */
const get: typeof harness.get = (store, urls, options) =>
  harness.get(store, urls, { stallMs: 20_000, ...options });

const STORE_BYTES = 24 * 1024 * 1024;

/** A store on a small file system of its own. */
async function smallStore(): Promise<string> {
  const store = await bench.dir();
  must("mount", "-t", "tmpfs", "-o", `size=${STORE_BYTES}`, "tmpfs", store);
  mounted.push(store);
  return store;
}

const noMount = mountObstacle();
if (noMount) console.log(`skipped: a store that is full: ${noMount}`);

/** Sends a text again and again until the other side has enough. */
function flood(socket: Socket, text: string): void {
  const block = text.repeat(Math.ceil(65536 / text.length));
  const more = () => {
    while (!socket.destroyed && socket.write(block));
  };
  socket.on("drain", more);
  more();
}

test("fetchAll() uses the next URL when interim answers have no end", async () => {
  const server = await bench.raw((socket) => flood(socket, "HTTP/1.1 100 Continue\r\n\r\n"));
  expect(await answerOf(server.url, { stallMs: 20_000 })).toBe("more than 20 interim answers");
});

test("fetchAll() takes an answer after a few interim ones", async () => {
  const server = await bench.raw((socket) => {
    socket.write("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5));
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${BODY.length}\r\n\r\n`);
    socket.write(BODY);
  });
  expect((await get(await bench.dir(), [server.url])).failures).toEqual([]);
});

test("fetchAll() uses the next URL when the rest of a body is longer than announced", async () => {
  const store = await bench.dir();
  const cut = await bench.says(
    `HTTP/1.1 200 OK\nContent-Length: ${BODY.length}\n\n`,
    BODY.subarray(0, 1000),
  );
  const long = await bench.raw((socket) => {
    socket.write(
      "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n" +
        `Content-Range: bytes 1000-${BODY.length - 1}/${BODY.length}\r\n\r\n`,
    );
    flood(socket, `10000\r\n${"x".repeat(0x10000)}\r\n`);
  });
  const good = await bench.files(BODY);
  const told: string[] = [];
  const report = await get(store, [cut.url, long.url, `${good.url}/a`], {
    onProgress: (event) => {
      if (event.kind === "failed-attempt") told.push(event.answer);
    },
  });
  expect(report.failures).toEqual([]);
  expect(told[1]).toBe("body is longer than the 300000 bytes announced");
  expect(await filesOf(store)).toEqual([sha256(BODY)]);
});

test.skipIf(noMount !== undefined)(
  "a body without end is given up while there is room, and the next URL is asked",
  async () => {
    const store = await smallStore();
    const endless = await bench.raw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      flood(socket, "x".repeat(65536));
    });
    const good = await bench.files(BODY);
    let least = Infinity;
    const told: string[] = [];
    const report = await get(store, [endless.url, `${good.url}/${NAME}`], {
      onProgress: (event) => {
        const { bavail, bsize } = statfsSync(store);
        least = Math.min(least, bavail * bsize);
        if (event.kind === "failed-attempt") told.push(event.answer);
      },
    });
    expect(report.failures).toEqual([]);
    expect(readFileSync(report.files.get(NAME)!.path)).toEqual(Buffer.from(BODY));
    expect(told).toEqual([
      expect.stringMatching(/^body of unknown size: given up after \d+ bytes, as less is free/),
    ]);
    expect(least).toBeGreaterThan(STORE_BYTES / 4);
    expect((await filesOf(store)).sort()).toEqual([sha256(BODY)]);
  },
);

test.skipIf(noMount !== undefined)(
  "a body that is announced with more than is free is not begun, and the next URL is asked",
  async () => {
    const store = await smallStore();
    const big = await bench.raw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${STORE_BYTES * 2}\r\n\r\n`);
      flood(socket, "x".repeat(65536));
    });
    const good = await bench.files(BODY);
    const report = await get(store, [big.url, `${good.url}/${NAME}`]);
    expect(report.files.get(NAME)?.source).toBe(`${good.url}/${NAME}`);
    const alone = await rejection(get(await smallStore(), [big.url]));
    expect(alone.kind).toBe("target");
    expect(alone.message).toContain(`ENOSPC: ${STORE_BYTES * 2} bytes are to come, `);
    expect(alone.hint).toContain("Free some space there, or name another store");
  },
);

test.skipIf(noMount !== undefined)(
  "a store that others fill while a body comes is told as full, and keeps no part",
  async () => {
    const store = await smallStore();
    const server = await bench.raw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${STORE_BYTES / 2}\r\n\r\n`);
      flood(socket, "x".repeat(65536));
    });
    let filled = false;
    const error = await rejection(get(store, [server.url], {
      onProgress: (event) => {
        if (event.kind !== "bytes" || filled) return;
        filled = true;
        sh(["dd", "if=/dev/zero", `of=${store}/other`, "bs=1M"]);
      },
    }));
    expect(error.kind).toBe("target");
    expect(error.message).toMatch(/^Cannot write to \S+\.part: ENOSPC/);
    expect((await filesOf(store)).sort()).toEqual(["other"]);
  },
);

test("parseRetryAfter() takes seconds and a date, by the clock of the server", () => {
  const date = "Sun, 06 Nov 1994 08:49:37 GMT";
  expect(parseRetryAfter("0", undefined)).toBe(0);
  expect(parseRetryAfter("120", date)).toBe(120_000);
  expect(parseRetryAfter("Sun, 06 Nov 1994 08:50:07 GMT", date)).toBe(30_000);
  expect(parseRetryAfter(date, "Sun, 06 Nov 1994 08:50:07 GMT")).toBe(0);
  expect(parseRetryAfter(date, undefined)).toBe(0);
  const soon = parseRetryAfter(new Date(Date.now() + 100_000).toUTCString(), "no date")!;
  expect(soon).toBeGreaterThan(0);
  expect(soon).toBeLessThanOrEqual(100_000);
  for (const bad of [undefined, "", "-1", "1.5", "1e9", "tomorrow", "1994-11-06", "9".repeat(20)]) {
    expect(parseRetryAfter(bad, date)).toBeUndefined();
  }
});

/** A server that wants a rest once, and has the body only after it. */
function restingServer(status: number, restMs: number, header: () => Record<string, string>) {
  let until: number | undefined;
  let early = 0;
  const server = bench.http((_, response) => {
    if (until === undefined) {
      until = performance.now() + restMs;
      response.writeHead(status, header()).end();
    } else if (performance.now() < until) {
      early++;
      response.writeHead(status).end();
    } else response.writeHead(200, { "Content-Length": BODY.length }).end(BODY);
  });
  return { server, early: () => early };
}

test.each([
  [429, () => ({ "Retry-After": "1" })],
  [503, () => ({ "Retry-After": new Date(Date.now() + 2000).toUTCString() })],
])(
  "fetchAll() does not ask a server that answers %d before Retry-After",
  async (status, header) => {
    // A timer may fire a little early.
    const { server, early } = restingServer(status, 900, header);
    const report = await get(await bench.dir(), [`${(await server).url}/a`]);
    expect(report.failures).toEqual([]);
    expect(early()).toBe(0);
  },
);

test("fetchAll() asks another server meanwhile", async () => {
  const resting = await bench.status(429, { "Retry-After": "100" });
  const good = await bench.files(BODY);
  const report = await get(await bench.dir(), [resting.url, `${good.url}/a`]);
  expect(report.files.get(NAME)?.source).toBe(`${good.url}/a`);
  expect(resting.seen).toHaveLength(1);
});

test("fetchAll() does not ask a server again that wants a longer rest than two minutes", async () => {
  const resting = await bench.status(503, { "Retry-After": "121" });
  const store = await bench.dir();
  const report = await get(store, [`${resting.url}/a`, `${resting.url}/b`]);
  expect(answers(report)).toEqual([
    "HTTP 503 Service Unavailable, Retry-After 121 s",
    expect.stringMatching(/^not asked: the server said Retry-After 12[01] s$/),
  ]);
  expect(resting.seen).toHaveLength(1);
  expect(await filesOf(store)).toEqual([]);
});
