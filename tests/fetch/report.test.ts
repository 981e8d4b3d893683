// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { fetchAll } from "../../src/fetch/fetch.ts";
import { fetchError } from "../../src/fetch/report.ts";
import { Bench, deadUrl, sampleBody, sha256 } from "./servers.ts";

const bench = new Bench();
afterEach(() => bench.release());

test("fetchError() names every missing file, each URL, and its answer", async () => {
  const body = sampleBody(1000);
  const [good, missing, wrong, busy, dead] = [
    await bench.files(sampleBody(1000, 3)),
    await bench.status(404),
    await bench.files(sampleBody(1000, 2)),
    await bench.status(503),
    await deadUrl(bench),
  ];
  const store = await bench.dir();
  const report = await fetchAll([
    { name: "a.tar", sha256: sha256(body), urls: [missing.url, wrong.url, busy.url, dead] },
    { name: "b.tar", sha256: sha256(sampleBody(1000, 3)), urls: [good.url] },
    { name: "c.tar", sha256: sha256(body), urls: [] },
  ], { store, mirrors: [], userAgent: "seedstrap/test", retryDelayMs: 1 });
  const error = fetchError(report, ["/srv/a", "/srv/b"]);
  expect(error.kind).toBe("fetch");
  expect(error.message).toBe(`Cannot fetch 2 of 3 distfiles
  a.tar (SHA-256 ${sha256(body)})
    ${missing.url}: HTTP 404 Not Found
    ${wrong.url}: wrong SHA-256: got ${sha256(sampleBody(1000, 2))}, 1000 bytes
    ${busy.url}: HTTP 503 Service Unavailable (tried 3 times)
    ${dead}: connection refused
  c.tar (SHA-256 ${sha256(body)})
    it has no URL, and no mirror is a server
  not in /srv/a, /srv/b either`);
  expect(error.hint).toBe(
    `Run again to continue, give another mirror (-m), or put the files into ${store}`,
  );
});

test("fetchError() shows no password and no control character", async () => {
  const secret = await bench.status(404);
  const report = await fetchAll([{
    name: "a.tar",
    sha256: sha256(""),
    urls: [secret.url.replace("//", "//me:secret@"), "\u001b[2Jnot a URL"],
  }], { store: await bench.dir(), mirrors: [], userAgent: "seedstrap/test" });
  const { message } = fetchError(report);
  expect(message).toContain(`    ${secret.url}/: HTTP 404 Not Found`);
  expect(message).toContain("    [2Jnot a URL: not a URL");
  expect(message).not.toContain("secret@");
  expect(message).not.toContain("\u001b");
});

test("fetchError() of many failures names dead hosts once, and few files", async () => {
  const [missing, dead] = [await bench.status(404), await deadUrl(bench)];
  const wanted = Array.from({ length: 50 }, (_, index) => ({
    name: `${index}.tar`,
    sha256: sha256(String(index)),
    urls: [`${dead}/${index}`, ...(index === 49 ? [missing.url] : [])],
  }));
  const options = { store: await bench.dir(), mirrors: [], userAgent: "seedstrap/test" };
  const { kind, message } = fetchError(await fetchAll(wanted, options));
  expect(kind).toBe("fetch");
  const lines = message.split("\n");
  expect(lines.slice(0, 4)).toEqual([
    "Cannot fetch 50 of 50 distfiles",
    `  ${dead}: connection refused for 50 of 50 files`,
    `  49.tar (SHA-256 ${sha256("49")})`,
    `    ${missing.url}: HTTP 404 Not Found`,
  ]);
  expect(lines.at(-1)).toBe("  and 30 more files; seedstrap sources has the URLs of all");
  expect(lines).toHaveLength(24);
  expect(lines.filter((line) => line.includes("SHA-256"))).toHaveLength(3);
});

test("fetchError() of many failures names an answer that a host gives for all of them once", async () => {
  const missing = await bench.status(404);
  const wrong = await bench.files(sampleBody(10));
  const wanted = Array.from({ length: 71 }, (_, index) => ({
    name: `${index}.tar`,
    sha256: sha256(String(index)),
    urls: index < 30 ? [`${wrong.url}/${index}`] : [],
  }));
  const mirrors = [{ kind: "http", url: missing.url } as const];
  const options = { store: await bench.dir(), mirrors, userAgent: "seedstrap/test" };
  const { message } = fetchError(await fetchAll(wanted, options));
  const lines = message.split("\n");
  expect(lines.slice(0, 7)).toEqual([
    "Cannot fetch 71 of 71 distfiles",
    `  ${missing.url}: HTTP 404 Not Found for 71 of 71 files`,
    `  ${wrong.url}: wrong SHA-256 for 30 of 71 files`,
    ...[0, 1, 2].map((index) => `  ${index}.tar (SHA-256 ${sha256(String(index))})`),
    "  3.tar",
  ]);
  expect(lines.at(-1)).toBe("  and 51 more files; seedstrap sources has the URLs of all");
  expect(lines).toHaveLength(24);
});

test("fetchError() is a verify error only where every source of every file is wrong", async () => {
  const [wrong, missing] = [await bench.files(sampleBody(10)), await bench.status(404)];
  const kindOf = async (...urls: string[][]) => {
    const wanted = urls.map((urls, index) => ({ name: `${index}`, sha256: sha256(""), urls }));
    const options = { store: await bench.dir(), mirrors: [], userAgent: "seedstrap/test" };
    return fetchError(await fetchAll(wanted, options)).kind;
  };
  expect(await kindOf([wrong.url, `${wrong.url}/b`], [wrong.url])).toBe("verify");
  expect(await kindOf([wrong.url, missing.url])).toBe("fetch");
  expect(await kindOf([wrong.url], [missing.url])).toBe("fetch");
  expect(await kindOf([])).toBe("fetch");
});
