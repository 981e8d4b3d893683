// SPDX-License-Identifier: MIT
/**
 * What goes wrong with servers, a row each, by the command line. The bad server is a mirror, which
 * is asked first, and has one distfile; the URLs of the checkout are those of a good one. In each
 * row everything is had in the end, the user is told what was wrong, and at no moment has a file of
 * the store its final name without its bytes.
 */

import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { TempDirs } from "../support/files.ts";
import { mountObstacle, must } from "../support/loop.ts";
import { MAIN, type Ran, run, seedstrap, start, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { Bench, sampleBody, sha256 } from "./servers.ts";

const temp = new TempDirs();
const bench = new Bench();
const mounted: string[] = [];
const secure: { close(): void }[] = [];
afterEach(async () => {
  for (const dir of mounted.splice(0)) must("umount", dir);
  for (const server of secure.splice(0)) server.close();
  await bench.release();
});
afterAll(() => temp.release());

/** The distfile that the bad server has. */
const BAD = "gamma-3.0.tar.gz";
const BYTES = 200_000;
/** A connection is ended so long after its bytes: a client may drop what it has not read by then. */
const GONE_MS = 500;

/** A checkout whose own URLs are those of a good server, and an empty store. */
async function scene(distfileBytes = BYTES) {
  const dir = temp.make();
  const { distfiles } = miniTree({ distfileBytes });
  const good = await bench.http(({ url, headers }, response) => {
    const body = distfiles[url!.slice(1)];
    if (body === undefined) return void response.writeHead(404).end();
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, {
      "Content-Length": body.length - from,
      ...(from > 0 && { "Content-Range": `bytes ${from}-${body.length - 1}/${body.length}` }),
    }).end(body.subarray(from));
  });
  const mini = miniTree({ distfileBytes, url: good.url });
  const { tree } = writeMiniTree(dir, mini);
  return { dir, tree, good, store: join(dir, "store"), distfiles, body: distfiles[BAD]! };
}

/** Files of a store that have their final name. */
function finalFiles(store: string): string[] {
  if (!existsSync(join(store, "sha256"))) return [];
  return readdirSync(join(store, "sha256"), { recursive: true, encoding: "utf8" })
    .filter((path) => /\/[0-9a-f]{64}$/.test(path));
}

/** Waits for a run, and hashes every file of the store as soon as it has its final name. */
async function watched(store: string, ran: Promise<Ran>): Promise<Ran> {
  const seen = new Set<string>();
  let isOver = false;
  const look = () => {
    for (const path of finalFiles(store)) {
      if (seen.has(path)) continue;
      seen.add(path);
      expect(sha256(readFileSync(join(store, "sha256", path)))).toBe(path.slice(-64));
    }
  };
  const ended = ran.finally(() => isOver = true);
  while (!isOver) {
    look();
    await Bun.sleep(1);
  }
  look();
  return await ended;
}

type Answer = (request: IncomingMessage, response: ServerResponse, body: Uint8Array) => void;

/** A bad server: `answer` is for the one distfile, and it has no other. */
function badServer(body: Uint8Array, answer: Answer) {
  return bench.http((request, response) => {
    if (!request.url!.endsWith(`/${BAD}`)) return void response.writeHead(404).end();
    answer(request, response, body);
  });
}

const whole: Answer = (_, response, body) => response.end(body);
/** Sends some bytes, and closes the connection. */
const cut = (response: ServerResponse, bytes: Uint8Array) => {
  response.write(bytes);
  setTimeout(() => response.destroy(), GONE_MS);
};

/** What is wrong, what the bad server does, and what the user reads. */
const ROWS: readonly (readonly [name: string, answer: Answer, said: RegExp])[] = [
  ["404", (_, response) => response.writeHead(404).end(), /HTTP 404 Not Found/],
  ["500", (_, response) => response.writeHead(500).end(), /HTTP 500 Internal Server Error/],
  [
    "a reset in the middle of a body",
    (_, response, body) => {
      response.writeHead(200, { "Content-Length": body.length });
      response.write(body.subarray(0, 1000));
      setTimeout(() => (response.socket as Socket).resetAndDestroy(), GONE_MS);
    },
    /connection closed by the server, after 1000 of \d+ bytes/,
  ],
  [
    "a body that is shorter than announced",
    (_, response, body) => {
      response.writeHead(200, { "Content-Length": body.length });
      cut(response, body.subarray(0, 50_000));
    },
    /after 50000 of \d+ bytes/,
  ],
  [
    "a body that is longer than announced",
    (_, response, body) => {
      response.socket!.end(
        Buffer.concat([
          Buffer.from(
            `HTTP/1.1 200 OK\r\nContent-Length: ${body.length + 1}\r\nConnection: close\r\n\r\n`,
          ),
          body,
          Buffer.from("x"),
        ]),
      );
    },
    /wrong SHA-256: got [0-9a-f]{64}, \d+ bytes/,
  ],
  [
    "other bytes",
    (_, response, body) => response.end(sampleBody(body.length, 99)),
    /wrong SHA-256/,
  ],
  [
    "the right bytes, encoded with gzip",
    (_, response, body) =>
      response.writeHead(200, { "Content-Encoding": "gzip" }).end(gzipSync(body)),
    /wrong SHA-256: .*Content-Encoding: gzip/,
  ],
  [
    "redirects in a circle",
    (request, response) => response.writeHead(302, { Location: request.url! }).end(),
    /more than \d+ redirects/,
  ],
  [
    "a redirect to a file of this machine",
    (_, response) => response.writeHead(302, { Location: "file:///etc/passwd" }).end(),
    /refused: redirect to file:/,
  ],
  [
    "a drip of 10 bytes a second",
    (_, response, body) => {
      response.writeHead(200, { "Content-Length": body.length });
      let at = 0;
      const timer = setInterval(() => response.write(body.subarray(at, ++at)), 100);
      response.on("close", () => clearInterval(timer));
    },
    /slower than others: 0 KB a second, after \d+ of \d+ bytes/,
  ],
];

describe("what a server does wrong costs no file", () => {
  for (const [name, answer, said] of ROWS) {
    test(name, async () => {
      const { tree, store, body, good } = await scene();
      const bad = await badServer(body, answer);
      const args = ["fetch", "--tree", tree, "-m", bad.url, "--store", store];
      const { code, stdout, stderr } = await watched(store, seedstrap(args));
      expect({ code, stderr }).toMatchObject({ code: 0 });
      expect(stdout).toContain("6 distfiles, ");
      expect(stderr).toMatch(said);
      expect(good.seen.some((line) => line.includes(BAD))).toBe(true);
      expect(finalFiles(store)).toHaveLength(6);
    }, 30_000);
  }
});

/** A tree whose distfiles only the mirror has. */
async function onlyMirror(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const dir = temp.make();
  const { distfiles } = miniTree({ distfileBytes: BYTES });
  const { tree } = writeMiniTree(dir, miniTree({ distfileBytes: BYTES }));
  const server = await bench.http(answer);
  const store = join(dir, "store");
  const args = ["fetch", "--tree", tree, "-m", server.url, "--store", store];
  return { dir, tree, server, store, args, distfiles };
}

test("500, then fine", async () => {
  const { distfiles } = miniTree({ distfileBytes: BYTES });
  let failed = 0;
  const { args, store } = await onlyMirror(({ url }, response) => {
    if (url!.endsWith(BAD) && failed++ === 0) response.writeHead(500).end();
    else response.end(distfiles[url!.slice(1)]);
  });
  const { code, stderr } = await watched(store, seedstrap(args));
  expect({ code, stderr }).toMatchObject({ code: 0 });
  expect(stderr).toContain("HTTP 500 Internal Server Error");
  expect(failed).toBe(2);
});

test("429 with Retry-After: the server is asked again when it said, and no earlier", async () => {
  const { distfiles } = miniTree({ distfileBytes: BYTES });
  const times: number[] = [];
  // How long it waits is at least what the server said, however busy this machine is.
  const { args, store } = await onlyMirror(({ url }, response) => {
    if (url!.endsWith(BAD)) times.push(performance.now());
    if (times.length === 1 && url!.endsWith(BAD)) {
      response.writeHead(429, { "Retry-After": "2" }).end();
    } else response.end(distfiles[url!.slice(1)]);
  });
  const { code, stderr } = await watched(store, seedstrap(args));
  expect({ code, stderr }).toMatchObject({ code: 0 });
  expect(stderr).toContain("HTTP 429 Too Many Requests, Retry-After 2 s");
  expect(times).toHaveLength(2);
  expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(2000);
});

test("a server that is gone after half of the files: the others are named, and go on later", async () => {
  const { distfiles } = miniTree({ distfileBytes: BYTES });
  let answered = 0;
  const { args, store, server } = await onlyMirror(({ url }, response) => {
    if (++answered > 3) return void response.destroy();
    response.end(distfiles[url!.slice(1)]);
  });
  const { code, stderr } = await watched(store, seedstrap([...args, "--jobs", "1"]));
  expect(code).toBe(4);
  expect(stderr).toContain("Cannot fetch 3 of 6 distfiles");
  expect(stderr).toContain(`${server.url}/omega-6.0.tar.gz: connection closed by the server`);
  expect(finalFiles(store)).toHaveLength(3);
  answered = -100;
  expect(await seedstrap(args)).toMatchObject({ code: 0 });
  expect(server.seen.filter((line) => line.includes("alpha"))).toHaveLength(1);
});

for (
  const [name, answer] of [
    ["ignored", whole],
    [
      "answered wrongly",
      (request, response, body) => {
        if (request.headers.range === undefined) return void response.end(body);
        response.writeHead(206, { "Content-Range": `bytes 0-9/${body.length}` });
        response.end(body.subarray(0, 10));
      },
    ],
  ] as readonly (readonly [string, Answer])[]
) {
  test(`a Range that is ${name} after a body was cut: the file is right all the same`, async () => {
    const { distfiles } = miniTree({ distfileBytes: BYTES });
    let isFirst = true;
    const { args, store, server } = await onlyMirror((request, response) => {
      const body = distfiles[request.url!.slice(1)]!;
      if (!request.url!.endsWith(BAD)) return void response.end(body);
      if (!isFirst) return answer(request, response, body);
      isFirst = false;
      response.writeHead(200, { "Content-Length": body.length });
      cut(response, body.subarray(0, 50_000));
    });
    const { code, stderr } = await watched(store, seedstrap(args));
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(server.seen).toContain(`GET /${BAD} bytes=50000-`);
  });
}

test("kill -9 in the middle, and again: what was there is not asked for again", async () => {
  const { distfiles } = miniTree({ distfileBytes: BYTES });
  const { promise, resolve } = Promise.withResolvers<void>();
  let isHeld = true;
  const { args, store, server } = await onlyMirror((request, response) => {
    const body = distfiles[request.url!.slice(1)]!;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, {
      "Content-Length": body.length - from,
      ...(from > 0 && { "Content-Range": `bytes ${from}-${body.length - 1}/${body.length}` }),
    });
    if (!isHeld || !request.url!.endsWith(BAD)) return void response.end(body.subarray(from));
    response.write(body.subarray(0, 50_000));
    setTimeout(resolve, 500);
  });
  const child = start([process.execPath, MAIN, ...args]);
  await promise;
  child.kill("SIGKILL");
  await child.exited;
  isHeld = false;
  const before = finalFiles(store).length;
  for (const path of finalFiles(store)) {
    expect(sha256(readFileSync(join(store, "sha256", path)))).toBe(path.slice(-64));
  }
  expect(before).toBe(5);
  expect(await watched(store, seedstrap(args))).toMatchObject({ code: 0 });
  expect(server.seen.at(-1)).toBe(`GET /${BAD} bytes=50000-`);
  expect(server.seen).toHaveLength(7);
});

test("two fetches at once ask for each file once", async () => {
  const { distfiles } = miniTree({ distfileBytes: BYTES });
  const { args, store, server } = await onlyMirror(({ url }, response) => {
    setTimeout(() => response.end(distfiles[url!.slice(1)]), 100);
  });
  const [one, other] = await Promise.all([seedstrap(args), watched(store, seedstrap(args))]);
  expect([one.code, other.code]).toEqual([0, 0]);
  expect(server.seen).toHaveLength(6);
});

const noMount = mountObstacle();
if (noMount) console.log(`skipped: a full disk: ${noMount}`);
test.skipIf(noMount !== undefined)("a full disk is told, and what fits is kept", async () => {
  const { distfiles } = miniTree({ distfileBytes: 2_000_000 });
  const dir = temp.make();
  const { tree } = writeMiniTree(dir, miniTree({ distfileBytes: 2_000_000 }));
  const server = await bench.http(({ url }, response) => {
    const body = distfiles[url!.slice(1)]!;
    response.writeHead(200, { "Content-Length": body.length }).end(body);
  });
  const store = join(dir, "store");
  mkdirSync(store);
  must("mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", store);
  mounted.push(store);
  const args = ["fetch", "--tree", tree, "-m", server.url, "--store", store, "--jobs", "1"];
  const { code, stderr } = await watched(store, seedstrap(args));
  expect(code).toBe(7);
  expect(stderr).toContain("ENOSPC");
  expect(stderr).toContain("name another store with --store");
  expect(finalFiles(store)).toHaveLength(3);
});

testWith("openssl")("a certificate that signs itself is refused, and says what to do", async () => {
  const dir = temp.make();
  const [key, cert] = [join(dir, "key"), join(dir, "cert")];
  const request = [
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-days",
    "2",
    "-subj",
    "/CN=me",
  ];
  const made = await run(["openssl", ...request, "-keyout", key, "-out", cert]);
  expect(made).toMatchObject({ code: 0 });
  const { tree, store, body } = await scene();
  const server = createServer(
    { key: readFileSync(key), cert: readFileSync(cert) },
    (_, response) => response.end(body),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  secure.push(server);
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const args = ["fetch", "--tree", tree, "-m", url, "--store", store];
  const { code, stderr } = await watched(store, seedstrap(args));
  expect({ code, stderr }).toMatchObject({ code: 0 });
  expect(stderr).toMatch(/the server's certificate .*--ca-cert/);
  expect(finalFiles(store)).toHaveLength(6);
}, 30_000);
