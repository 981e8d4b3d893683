// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { existsSync, symlinkSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { MAX_NAME_BYTES } from "../../src/fetch/distfile_name.ts";
import { fetchAll } from "../../src/fetch/fetch.ts";
import { recallOrigin } from "../../src/fetch/origin.ts";
import { tidyStore } from "../../src/fetch/turn.ts";
import { describeDir, writeFiles } from "../support/files.ts";
import {
  answerOf,
  answers,
  bench,
  BODY,
  closed,
  filesOf,
  get,
  NAME,
  OTHER,
  stored,
} from "./harness.ts";
import { makeStoreDirectory } from "../../src/fetch/store.ts";
import { deadUrl, sha256 } from "./servers.ts";

afterEach(() => bench.release());

test("fetchAll() asks for an identity encoding, with its own user agent", async () => {
  const server = await bench.says("HTTP/1.1 404 Not Found\n\n");
  await get(await bench.dir(), [server.url]);
  expect(server.seen[0]).toMatch(/^accept-encoding: identity\r$/im);
  expect(server.seen[0]).toMatch(/^user-agent: seedstrap\/test\r$/im);
  expect(server.seen[0]).not.toMatch(/^range:/im);
});

test("fetchAll() uses the next URL when one answers 404", async () => {
  expect(await answerOf((await bench.status(404)).url)).toBe("HTTP 404 Not Found");
});

test("fetchAll() uses the next URL when one answers 500", async () => {
  expect(await answerOf((await bench.status(500)).url)).toBe("HTTP 500 Internal Server Error");
});

test("fetchAll() uses the next URL when a body has a wrong SHA-256", async () => {
  expect(await answerOf((await bench.files(OTHER)).url)).toBe(
    `wrong SHA-256: got ${sha256(OTHER)}, 300000 bytes`,
  );
});

test("fetchAll() says when a wrong body is a web page", async () => {
  const page = await bench.status(200, { "Content-Type": "text/html; charset=utf-8" }, "<p>hi");
  expect(await answerOf(page.url)).toEndWith(", 5 bytes of text/html");
});

test("fetchAll() uses the next URL when a body is cut short, and keeps the part", async () => {
  const server = await bench.says(
    `HTTP/1.1 200 OK\nContent-Length: ${BODY.length}\n\n`,
    BODY.subarray(0, 1000),
  );
  expect(await answerOf(server.url)).toBe(
    "connection closed by the server, after 1000 of 300000 bytes",
  );
});

test("fetchAll() uses the next URL when a chunked body is cut short", async () => {
  const server = await bench.says("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n");
  expect(await answerOf(server.url)).toBe("connection closed by the server, after 3 bytes");
});

test("fetchAll() uses the next URL when the connection is reset before an answer", async () => {
  const server = await bench.raw((socket) => socket.resetAndDestroy());
  expect(await answerOf(server.url)).toBe("connection closed by the server");
});

test("fetchAll() uses the next URL when a body stalls", async () => {
  const server = await bench.raw((socket) =>
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\nabc")
  );
  expect(await answerOf(server.url)).toBe("timed out: no byte for 0.3 s, after 3 of 300000 bytes");
});

test("fetchAll() uses the next URL when no headers come", async () => {
  const server = await bench.raw(() => {});
  expect(await answerOf(server.url)).toBe("timed out: no byte for 0.3 s");
});

test("fetchAll() uses the next URL when a body only trickles", async () => {
  const server = await bench.raw((socket) => {
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
    const timer = setInterval(() => socket.write("x"), 50);
    socket.on("close", () => clearInterval(timer));
  });
  expect(await answerOf(server.url)).toMatch(
    /^too slow: \d+ bytes in 0\.\d s, after \d+ of 300000/,
  );
});

test("fetchAll() uses the next URL when a connection is refused", async () => {
  expect(await answerOf(await deadUrl(bench))).toBe("connection refused");
});

test("fetchAll() uses the next URL when an answer is not HTTP", async () => {
  expect(await answerOf((await bench.says("SSH-2.0-OpenSSH\n\n")).url)).toBe("not an HTTP answer");
});

test("fetchAll() refuses a URL that is neither http nor https", async () => {
  const url = pathToFileURL(join(await bench.dir(), "f")).href;
  expect(await answerOf(url)).toBe("refused: URL file: is neither http: nor https:");
});

test("fetchAll() follows a redirect and reports where it led", async () => {
  const good = await bench.files(BODY);
  const server = await bench.status(302, { Location: `${good.url}/elsewhere` });
  const report = await get(await bench.dir(), [`${server.url}/a`]);
  expect(report.files.get(NAME)?.source).toBe(`${server.url}/a`);
  expect(report.files.get(NAME)?.redirectedTo).toBe(`${good.url}/elsewhere`);
});

test("fetchAll() follows a redirect that is relative", async () => {
  const server = await bench.http((request, response) => {
    if (request.url === "/here/a") response.writeHead(301, { Location: "../there" }).end();
    else if (request.url === "/there") response.end(BODY);
    else response.writeHead(404).end();
  });
  const report = await get(await bench.dir(), [`${server.url}/here/a`]);
  expect(report.files.get(NAME)?.redirectedTo).toBe(`${server.url}/there`);
});

test("fetchAll() refuses a redirect to file:", async () => {
  const store = await bench.dir();
  await writeFile(join(store, "secret"), BODY);
  const server = await bench.status(302, { Location: pathToFileURL(join(store, "secret")).href });
  expect(await answerOf(server.url)).toBe("refused: redirect to file: is neither http: nor https:");
});

test("fetchAll() gives up on redirects in a circle", async () => {
  const server = await bench.status(302, { Location: "/again" });
  expect(await answerOf(server.url)).toBe("more than 10 redirects");
  expect(server.seen).toHaveLength(11);
});

test("fetchAll() stores a body unchanged, whatever Content-Encoding says", async () => {
  const packed = gzipSync(BODY);
  const headers = { "Content-Encoding": "gzip", "Content-Type": "application/x-tar" };
  const server = await bench.http((_, response) => response.writeHead(200, headers).end(packed));
  const store = await bench.dir();
  const report = await get(store, [server.url], {}, packed);
  expect(report.failures).toEqual([]);
  expect(sha256(await readFile(stored(store, packed)))).toBe(sha256(packed));
});

test("fetchAll() uses the next URL when a body was re-encoded, and says so", async () => {
  const packed = gzipSync(BODY);
  const server = await bench.http((_, response) =>
    response.writeHead(200, { "Content-Encoding": "gzip" }).end(packed)
  );
  expect(await answerOf(server.url)).toEndWith(", Content-Encoding: gzip");
});

test("fetchAll() hangs up on a server whose error page has no end", async () => {
  const server = await bench.http((_, response) => {
    response.writeHead(404).write("no, ");
    const timer = setInterval(() => response.write("and no, "), 5);
    response.on("close", () => clearInterval(timer));
  });
  expect(answers(await get(await bench.dir(), [server.url]))).toEqual(["HTTP 404 Not Found"]);
  expect(await closed(server)).toBe(true);
});

test("fetchAll() hangs up on a server whose redirect has no end", async () => {
  const good = await bench.files(BODY);
  const server = await bench.http((_, response) => {
    response.writeHead(302, { Location: `${good.url}/a` }).write("there, ");
    const timer = setInterval(() => response.write("and there, "), 5);
    response.on("close", () => clearInterval(timer));
  });
  expect((await get(await bench.dir(), [server.url])).failures).toEqual([]);
  expect(await closed(server)).toBe(true);
});

test("fetchAll() uses the proxy of the environment, except for hosts in no_proxy", async () => {
  const proxy = await bench.files(BODY);
  const direct = await bench.files(BODY);
  const names = ["http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"];
  const before = names.map((name) => [name, process.env[name]] as const);
  try {
    for (const name of names) delete process.env[name];
    process.env["http_proxy"] = proxy.url;
    await get(await bench.dir(), ["http://nowhere.invalid/a"]);
    expect(proxy.seen).toEqual(["GET http://nowhere.invalid/a"]);
    process.env["no_proxy"] = "127.0.0.1";
    await get(await bench.dir(), [`${direct.url}/b`]);
    expect(direct.seen).toEqual(["GET /b"]);
    expect(proxy.seen).toHaveLength(1);
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
});

test("fetchAll() aborts a body above the limit and keeps nothing of it", async () => {
  const server = await bench.raw((socket) => {
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    const more = () => {
      while (!socket.destroyed && socket.write(OTHER));
    };
    socket.on("drain", more);
    more();
  });
  const store = await bench.dir();
  const report = await get(store, [server.url], { maxBytes: 1_000_000 });
  expect(answers(report)).toEqual(["body is longer than the limit of 1000000 bytes"]);
  expect(await filesOf(store)).toEqual([]);
});

test("fetchAll() refuses a body whose announced size is above the limit", async () => {
  const server = await bench.says("HTTP/1.1 200 OK\nContent-Length: 99999999999\n\n");
  expect(await answerOf(server.url, { maxBytes: 400_000 })).toBe(
    "99999999999 bytes announced, above the limit of 400000",
  );
});

test("a fetch changes nothing through links in a store", async () => {
  const good = await bench.files(BODY);
  const url = `${good.url}/${NAME}`;
  const outside = await bench.dir();
  const digest = sha256(BODY);
  writeFiles(outside, {
    [`${digest}.part`]: "mine",
    [`${"f".repeat(64)}.part`]: "mine",
    "99999999-5": "mine",
    "99999999-5.part/99999999-5": "mine",
    [digest]: `${JSON.stringify({ url: "http://a.example/" })}\n`,
  });
  const before = describeDir(outside);
  for (const name of [".locks", ".origins", "sha256"]) {
    const store = await bench.dir();
    symlinkSync(outside, join(store, name));
    await expect(get(store, [url])).rejects.toThrow(
      `Cannot use ${join(store, name)} as a work directory: it is a symbolic link`,
    );
    await tidyStore(store);
    expect(recallOrigin(store, digest)).toBeUndefined();
    expect(describeDir(outside)).toEqual(before);
    expect(existsSync(stored(store))).toBe(false);
  }
  // Links with the names of files are replaced.
  const store = await bench.dir();
  makeStoreDirectory(stored(store));
  symlinkSync(join(outside, `${digest}.part`), `${stored(store)}.part`);
  writeFiles(store, { ".origins/": "" });
  symlinkSync(join(outside, `${digest}.part`), join(store, `.origins/${digest}.part`));
  expect((await get(store, [url])).failures).toEqual([]);
  expect(recallOrigin(store, digest)).toEqual({ url });
  expect(describeDir(outside)).toEqual(before);
});

test("a distfile with the longest name is fetched, and has its origin", async () => {
  const name = "n".repeat(MAX_NAME_BYTES);
  const server = await bench.files(BODY);
  const store = await bench.dir();
  const wanted = { name, sha256: sha256(BODY), urls: [`${server.url}/${NAME}`] };
  const report = await fetchAll([wanted], { store, mirrors: [], userAgent: "seedstrap/test" });
  expect(report.failures).toEqual([]);
  expect(recallOrigin(store, wanted.sha256)).toEqual({ url: wanted.urls[0]! });
  expect(await filesOf(store)).toEqual([wanted.sha256]);
});
