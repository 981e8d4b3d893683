// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  announceOrigin,
  forgetOrigin,
  originOf,
  ORIGINS_DIR,
  recallOrigin,
  settleOrigin,
} from "../../src/fetch/origin.ts";
import { bench, BODY, filesOf, get, NAME, rejection } from "./harness.ts";
import { sha256 } from "./servers.ts";

afterEach(() => bench.release());

const DIGEST = sha256(BODY);

test("the store has the origin of a file that it has downloaded, and of no other", async () => {
  const good = await bench.files(BODY);
  const store = await bench.dir();
  expect(recallOrigin(store, DIGEST)).toBeUndefined();
  await get(store, [`${good.url}/${NAME}`]);
  expect(recallOrigin(store, DIGEST)).toEqual({ url: `${good.url}/${NAME}` });
  await get(store, [`http://127.0.0.1:9/${NAME}`]); // it is in the store, so no URL is asked
  expect(recallOrigin(store, DIGEST)).toEqual({ url: `${good.url}/${NAME}` });
  expect(await readdir(join(store, ORIGINS_DIR))).toEqual([DIGEST]);
  expect(recallOrigin(store, "0".repeat(64))).toBeUndefined();
});

test("the origin of a redirected download has no keys and passwords", async () => {
  const good = await bench.files(BODY);
  const to = `${good.url}/${NAME}?key=secret&time=1#part`;
  const first = await bench.http((_, response) => response.writeHead(302, { location: to }).end());
  const store = await bench.dir();
  const asked = new URL(`${first.url}/a/${NAME}?v=1`);
  asked.username = "me";
  asked.password = "secret";
  await get(store, [asked.href]);
  expect(recallOrigin(store, DIGEST)).toEqual({
    url: `${first.url}/a/${NAME}?v=1`,
    redirectedTo: `${good.url}/${NAME}`,
  });
  expect(originOf("http://a.example/x y", "http://a.example/x%20y")).toEqual({
    url: "http://a.example/x y",
  });
});

test("a body that is wrong leaves no origin", async () => {
  const bad = await bench.files(new TextEncoder().encode("wrong"));
  const store = await bench.dir();
  const report = await get(store, [`${bad.url}/${NAME}`]);
  expect(report.failures).toHaveLength(1);
  expect(await filesOf(store)).toEqual([]);
});

test("an origin that cannot be written is an error of the store, and no file is stored", async () => {
  const good = await bench.files(BODY);
  const store = await bench.dir();
  await writeFile(join(store, ORIGINS_DIR), "in the way");
  const error = await rejection(get(store, [`${good.url}/${NAME}`]));
  expect(error.kind).toBe("target");
  expect(await filesOf(store)).toEqual([ORIGINS_DIR]);
});

test("recallOrigin() ignores an invalid origin", async () => {
  const store = await bench.dir();
  const path = join(store, ORIGINS_DIR, DIGEST);
  await announceOrigin(store, DIGEST, { url: "https://a.example/b" });
  expect(await settleOrigin(store, DIGEST)).toBe(true);
  expect(await settleOrigin(store, DIGEST)).toBe(false);
  expect(recallOrigin(store, DIGEST)).toEqual({ url: "https://a.example/b" });
  const texts = [
    "",
    "{",
    "null",
    "[]",
    "{}",
    '{"url":1}',
    '{"url":"file:///etc/passwd"}',
    '{"url":"https://me:secret@a.example/"}',
    '{"url":"https://a.example/\\u001b[31m"}',
    '{"url":"https://a.example/ b"}',
    '{"url":"https://a.example/b","redirectedTo":"javascript:1"}',
    `{"url":"https://a.example/${"x".repeat(9000)}"}`,
    `{"url":"https://a.example/b"}${" ".repeat(40_000)}`,
  ];
  for (const text of texts) {
    await writeFile(path, text);
    expect([text, recallOrigin(store, DIGEST)]).toEqual([text, undefined]);
  }
  await rm(path);
  execFileSync("mkfifo", [path]);
  expect(recallOrigin(store, DIGEST)).toBeUndefined();
  await rm(path);
  await mkdir(path);
  expect(recallOrigin(store, DIGEST)).toBeUndefined();
});

test("an origin can be announced while others that were wrong are forgotten", async () => {
  const store = await bench.dir();
  const failed: unknown[] = [];
  await Promise.all(Array.from({ length: 8 }, async (_, worker) => {
    for (let round = 0; round < 100; round++) {
      const digest = sha256(Buffer.from(`${worker}-${round}`));
      await announceOrigin(store, digest, { url: "http://m.example/x" })
        .then(() => forgetOrigin(store, digest))
        .catch((error: unknown) => failed.push(error));
    }
  }));
  expect(failed).toEqual([]);
});
