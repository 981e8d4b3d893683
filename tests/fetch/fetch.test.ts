// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { UserError } from "../../src/errors.ts";
import { fetchAll } from "../../src/fetch/fetch.ts";
import { local } from "../../src/fetch/part.ts";
import {
  answers,
  bench,
  BODY,
  closed,
  filesOf,
  get,
  mirrorsAt,
  NAME,
  OTHER,
  rejection,
  stored,
} from "./harness.ts";
import { deadUrl, sampleBody, sha256 } from "./servers.ts";

afterEach(() => bench.release());

test("fetchAll() fetches a file into the store and reports its URL", async () => {
  const server = await bench.files(BODY);
  const store = join(await bench.dir(), "deep", "store");
  const report = await get(store, [`${server.url}/a`]);
  const path = stored(store);
  expect(report).toEqual({
    store,
    files: new Map([[NAME, { path, sizeBytes: BODY.length, source: `${server.url}/a` }]]),
    failures: [],
  });
  expect(await filesOf(store)).toEqual([sha256(BODY)]);
});

test("fetchAll() fetches an empty file", async () => {
  const empty = new Uint8Array();
  const server = await bench.files(empty);
  const report = await get(await bench.dir(), [server.url], {}, empty);
  expect(report.files.get(NAME)?.sizeBytes).toBe(0);
});

test.each([408, 429, 503])("fetchAll() asks again after %d, after all others", async (status) => {
  let asked = 0;
  const flaky = await bench.http((_, response) => {
    asked++;
    if (asked < 3) response.writeHead(status).end();
    else response.end(BODY);
  });
  const missing = await bench.status(404);
  const order: string[] = [];
  const report = await get(await bench.dir(), [flaky.url, missing.url], {
    onProgress: (event) => {
      if (!("url" in event) || event.kind === "bytes") return;
      order.push(`${event.kind} ${event.url === flaky.url ? 1 : 2}`);
    },
  });
  expect(report.failures).toEqual([]);
  expect(order).toEqual([
    "failed-attempt 1",
    "failed-attempt 2",
    "retry 1",
    "failed-attempt 1",
    "retry 1",
    "start 1",
    "done 1",
  ]);
});

test("fetchAll() asks mirrors in a random order, and before the file's own URLs", async () => {
  const order = async (random: number) => {
    const seen: string[] = [];
    const missing = await bench.http((request, response) => {
      seen.push(request.url ?? "");
      response.writeHead(404).end();
    });
    const at = (path: string) => missing.url + path;
    await get(await bench.dir(), [at("/own1"), at("/own2")], {
      mirrors: mirrorsAt(at("/a"), at("/b/"), at("/c")),
      random: () => random,
    });
    return seen.map((path) => path.replace(`/${NAME}`, "")).join(" ");
  };
  expect(await order(0.999)).toBe("/a /b /c /own1 /own2");
  expect(await order(0)).toBe("/c /b /a /own1 /own2");
});

test("fetchAll() asks a URL once even if it is listed twice", async () => {
  const missing = await bench.status(404);
  const url = `${missing.url}/${NAME}`;
  await get(await bench.dir(), [url, url], { mirrors: mirrorsAt(missing.url, `${missing.url}/`) });
  expect(missing.seen).toEqual([`GET /${NAME}`]);
});

test("fetchAll() encodes a name for the URL of a mirror", async () => {
  const server = await bench.files(BODY);
  const name = "a b#c?d%e+ü.tar";
  const report = await fetchAll([{ name, sha256: sha256(BODY), urls: [] }], {
    store: await bench.dir(),
    mirrors: mirrorsAt(`${server.url}/m`),
    userAgent: "seedstrap/test",
  });
  expect(report.failures).toEqual([]);
  expect(server.seen).toEqual([`GET /m/${encodeURIComponent(name)}`]);
});

test("fetchAll() fetches the other files while one server is slow", async () => {
  const slow = await bench.raw(() => {});
  const good = await bench.http(({ url }, response) => response.end(bodyOf(url!.slice(1))));
  const done: string[] = [];
  const wanted = ["slow", "b", "c", "d", "e", "f"].map((name) => ({
    name,
    sha256: sha256(bodyOf(name)),
    urls: [...name === "slow" ? [slow.url] : [], `${good.url}/${name}`],
  }));
  await fetchAll(wanted, {
    store: await bench.dir(),
    mirrors: [],
    userAgent: "seedstrap/test",
    jobs: 2,
    stallMs: 400,
    onProgress: (event) => {
      if (event.kind === "done") done.push(event.name);
    },
  });
  expect(done).toEqual(["b", "c", "d", "e", "f", "slow"]);
});

/** A body of its own for each name. */
function bodyOf(name: string): Uint8Array {
  return sampleBody(1000, name.charCodeAt(0));
}

test("two names of one content are fetched once, and two contents of one name are both kept", async () => {
  const server = await bench.http(({ url }, response) => response.end(bodyOf(url!.slice(1))));
  const store = await bench.dir();
  const fetched = (name: string, path: string) =>
    fetchAll([{ name, sha256: sha256(bodyOf(path)), urls: [`${server.url}/${path}`] }], {
      ...{ store, mirrors: [], userAgent: "seedstrap/test" },
    });
  await fetched("one.tar", "a");
  expect((await fetched("other.tar", "a")).failures).toEqual([]);
  expect((await fetched("one.tar", "b")).failures).toEqual([]);
  expect(server.seen).toEqual(["GET /a", "GET /b"]);
  const digests = ["a", "b"].map((name) => sha256(bodyOf(name)));
  expect((await filesOf(store)).sort()).toEqual(digests.sort());
});

test("what a store has by its name is found, and gets a name by its digest", async () => {
  const server = await bench.files(BODY);
  const [store, elsewhere] = [await bench.dir(), await bench.dir()];
  await writeFile(join(store, NAME), BODY);
  expect((await get(store, [server.url])).files.get(NAME)?.path).toBe(stored(store));
  expect((await filesOf(store)).sort()).toEqual([sha256(BODY), NAME].sort());
  // A link is read, and stays the only one.
  await writeFile(join(elsewhere, "mine"), OTHER);
  await symlink(join(elsewhere, "mine"), join(store, "linked"));
  const wanted = { name: "linked", sha256: sha256(OTHER), urls: [] };
  const report = await fetchAll([wanted], { store, mirrors: [], userAgent: "seedstrap/test" });
  expect(report.files.get("linked")?.path).toBe(join(store, "linked"));
  expect(server.seen).toEqual([]);
});

test("fetchAll() asks a mirror last after it has failed to answer several times", async () => {
  const dead = await deadUrl(bench);
  const good = await bench.http(({ url }, response) => response.end(bodyOf(url!.slice(1))));
  const failed: string[] = [];
  const names = ["a", "b", "c", "d", "e", "f"];
  await fetchAll(names.map((name) => ({ name, sha256: sha256(bodyOf(name)), urls: [] })), {
    store: await bench.dir(),
    mirrors: mirrorsAt(dead, good.url),
    random: () => 0.999,
    jobs: 1,
    userAgent: "seedstrap/test",
    onProgress: (event) => {
      if (event.kind === "failed-attempt") failed.push(event.name);
    },
  });
  expect(failed).toEqual(["a", "b", "c"]);
});

test("fetchAll() fetches at most `jobs` files at once", async () => {
  let most = 0;
  let now = 0;
  const server = await bench.http(({ url }, response) => {
    most = Math.max(most, ++now);
    setTimeout(() => {
      now--;
      response.end(bodyOf(url!.slice(1)));
    }, 20);
  });
  const names = ["a", "b", "c", "d", "e", "f", "g"];
  const wanted = names.map((name) => ({
    name,
    sha256: sha256(bodyOf(name)),
    urls: [`${server.url}/${name}`],
  }));
  const options = { store: await bench.dir(), mirrors: [], userAgent: "seedstrap/test", jobs: 3 };
  const report = await fetchAll(wanted, options);
  expect([...report.files.keys()]).toEqual(names);
  expect(most).toBe(3);
});

test("fetchAll() asks no server for a file that is present and right", async () => {
  const server = await bench.files(BODY);
  const store = await bench.dir();
  await writeFile(join(store, NAME), BODY);
  const report = await get(store, [server.url]);
  expect(server.seen).toEqual([]);
  expect(report.files.get(NAME)).toEqual({
    path: stored(store),
    sizeBytes: BODY.length,
    source: pathToFileURL(stored(store)).href,
  });
});

test("fetchAll() replaces a file that is present and wrong", async () => {
  const server = await bench.files(BODY);
  const store = await bench.dir();
  await writeFile(join(store, NAME), OTHER);
  const report = await get(store, [server.url]);
  expect(report.files.get(NAME)?.source).toBe(server.url);
  expect(sha256(await readFile(stored(store)))).toBe(sha256(BODY));
});

test("fetchAll() does not report a wrong file that it cannot replace as fetched", async () => {
  const store = await bench.dir();
  await writeFile(join(store, NAME), OTHER);
  const report = await get(store, []);
  expect(report.files.size).toBe(0);
  expect(answers(report)).toEqual([`wrong SHA-256: got ${sha256(OTHER)}, 300000 bytes`]);
});

test("fetchAll() that is aborted leaves a part, no final name and no connection", async () => {
  const server = await bench.raw((socket) =>
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\nabc")
  );
  const store = await bench.dir();
  const stop = new AbortController();
  const before = (await readdir("/proc/self/fd")).length;
  const error = await rejection(get(store, [server.url], {
    signal: stop.signal,
    stallMs: 10_000,
    onProgress: (event) => {
      if (event.kind === "bytes") stop.abort();
    },
  }));
  expect(error.kind).toBe("interrupt");
  expect(await filesOf(store)).toEqual([`${sha256(BODY)}.part`]);
  expect(await closed(server)).toBe(true);
  const links = (await readdir("/proc/self/fd")).length;
  expect(links).toBeLessThanOrEqual(before + 1); // the listening side may linger, a file may not
});

test("fetchAll() does not start if its signal is already aborted", async () => {
  const server = await bench.files(BODY);
  const own = new UserError("interrupt", "Ctrl-C");
  const signal = AbortSignal.abort(own);
  expect(await rejection(get(await bench.dir(), [server.url], { signal }))).toBe(own);
  expect(server.seen).toEqual([]);
});

test("fetchAll() stops at once when the store cannot be written", async () => {
  const server = await bench.files(BODY);
  const store = await bench.dir();
  await mkdir(`${stored(store)}.part`, { recursive: true });
  const error = await rejection(get(store, [server.url]));
  expect(error.kind).toBe("target");
  expect(error.message).toStartWith(`Cannot write to ${stored(store)}.part: `);
  expect(server.seen).toEqual([]);
});

test("local() reports a full disk as a failure of the store, not of a URL", async () => {
  const full = Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
  const error = await rejection(local("/store/a.part", () => Promise.reject(full)));
  expect(error.kind).toBe("target");
  expect(error.message).toBe("Cannot write to /store/a.part: ENOSPC: no space left on device");
  expect(error.hint).toStartWith("Free some space");
});

test("fetchAll() refuses names that would leave the store, before it asks for any", async () => {
  const store = await bench.dir();
  const { url, seen } = await bench.files(BODY);
  for (const name of ["../evil", "/etc/evil", "..", "a/b", "a\\b", "a\nb", "a\0b", "a.part", ""]) {
    const wanted = ["good", name].map((name) => ({ name, sha256: sha256(BODY), urls: [url] }));
    const error = await rejection(
      fetchAll(wanted, { store, mirrors: [], userAgent: "seedstrap/test", jobs: 1 }),
    );
    expect(error.kind).toBe("tree");
  }
  expect(seen).toEqual([]);
});
