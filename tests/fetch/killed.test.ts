// SPDX-License-Identifier: MIT
/** Fetches that are killed at any moment, and fetches beside one another. */
import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { announceOrigin, ORIGINS_DIR, recallOrigin } from "../../src/fetch/origin.ts";
import { takeTurn, tidyStore } from "../../src/fetch/turn.ts";
import type { Wanted } from "../../src/fetch/types.ts";
import { fetchAll } from "../../src/fetch/fetch.ts";
import { describeDir } from "../support/files.ts";
import { bench, BODY, filesOf, get, putPart } from "./harness.ts";
import { sampleBody, sha256, type TestServer } from "./servers.ts";

afterEach(() => bench.release());

const FETCHER = fileURLToPath(new URL("fetcher.ts", import.meta.url).href);
const BODIES = Array.from({ length: 30 }, (_, index) => sampleBody(40_000, index + 1));

/** A server of the bodies, under `/0` and so on. */
function bodyServer(onAnswered: () => void = () => {}): Promise<TestServer> {
  return bench.http((request, response) => {
    const whole = BODIES[Number(request.url!.slice(1))]!;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const headers: Record<string, string | number> = { "Content-Length": whole.length - from };
    if (from > 0) headers["Content-Range"] = `bytes ${from}-${whole.length - 1}/${whole.length}`;
    response.writeHead(from > 0 ? 206 : 200, headers);
    response.write(whole.subarray(from, from + 20_000), () => {
      setTimeout(() => response.end(whole.subarray(from + 20_000), onAnswered), 2);
    });
  });
}

const wantedOf = (url: string, count: number): Wanted[] =>
  BODIES.slice(0, count).map((body, index) => ({
    name: `f${index}.tar`,
    sha256: sha256(body),
    urls: [`${url}/${index}`],
  }));

const OPTIONS = { mirrors: [], userAgent: "seedstrap/test", retryDelayMs: 1 };

const startFetcher = (store: string, wanted: readonly Wanted[]) =>
  Bun.spawn([process.execPath, FETCHER, store, JSON.stringify(wanted)], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "inherit",
  });

/** Names and digests of a store, without times. */
const contentOf = (store: string) =>
  describeDir(store).map((line) => line.split(" ").toSpliced(3, 1).join(" "));

/** Kills a fetch some time after one of its answers is out, and runs it again. */
async function killAndGoOn(answers: number, waitMs: number): Promise<string[]> {
  const store = await bench.dir();
  let left = answers;
  let fire = () => {};
  const reached = new Promise<void>((resolve) => fire = resolve);
  const server = await bodyServer(() => {
    if (--left === 0) fire();
  });
  const wanted = wantedOf(server.url, 5);
  const child = startFetcher(store, wanted);
  await Promise.race([reached.then(() => sleep(waitMs)), child.exited]);
  child.kill("SIGKILL");
  await child.exited;
  const report = await fetchAll(wanted, { ...OPTIONS, store });
  expect(report.failures).toEqual([]);
  for (const { sha256, urls } of wanted) {
    expect(recallOrigin(store, sha256)).toEqual({ url: urls[0]! });
  }
  return contentOf(store).map((line) => line.replaceAll(server.url, ""));
}

test("a fetch that is killed at any moment ends, run again, as one that was not", async () => {
  const rounds = Number(process.env["KILL_ROUNDS"] ?? 32);
  const undisturbed = await killAndGoOn(Infinity, 0);
  // The digest of an origin differs with the port of the server.
  const names = (lines: readonly string[]) => lines.map((line) => line.split(" ")[0]);
  for (let round = 0; round < rounds; round += 4) {
    const some = Array.from({ length: 4 }, (_, at) => {
      const answers = 1 + Math.floor(Math.random() * 5);
      return killAndGoOn(answers, (round + at) % 8 * Math.random() * 2);
    });
    for (const lines of await Promise.all(some)) expect(names(lines)).toEqual(names(undisturbed));
  }
});

test("a part that is whole, left by a killed fetch, keeps its origin", async () => {
  const store = await bench.dir();
  const digest = sha256(BODY);
  await announceOrigin(store, digest, { url: "https://a.example/b" });
  putPart(store, BODY);
  await get(store, ["http://127.0.0.1:9/x"]);
  expect(recallOrigin(store, digest)).toEqual({ url: "https://a.example/b" });
  expect(readdirSync(join(store, ORIGINS_DIR))).toEqual([digest]);
  expect(await filesOf(store)).toEqual([digest]);
});

test("tidyStore() removes what killed fetches have left, and nothing of one that runs", async () => {
  const store = await bench.dir();
  putPart(store, Buffer.from("x"));
  const [kept, stray, running] = [sha256(BODY), "5".repeat(64), "9".repeat(64)];
  await announceOrigin(store, kept, { url: "https://a.example/kept" });
  await announceOrigin(store, stray, { url: "https://a.example/stray" });
  await announceOrigin(store, running, { url: "https://a.example/running" });
  const dead = Bun.spawnSync(["true"]).pid;
  for (const path of [`dead/${dead}-1`, `${dead}-2.part/${dead}-2`, `${dead}-3.part`, "odd/file"]) {
    mkdirSync(join(store, ".locks", path), { recursive: true });
  }
  for (const path of [`dead/${dead}-1`, `${dead}-2.part/${dead}-2`]) {
    const place = join(store, ".locks", path);
    Bun.spawnSync(["rmdir", place]);
    writeFileSync(place, "");
  }
  const signal = new AbortController().signal;
  const turn = await takeTurn(store, running, { signal, onWait: () => {} });
  await tidyStore(store);
  expect(readdirSync(join(store, ORIGINS_DIR)).sort()).toEqual(
    [`${running}.part`, `${kept}.part`].sort(),
  );
  expect(readdirSync(join(store, ".locks")).sort()).toEqual([running, "odd"].sort());
  turn.release();
  Bun.spawnSync(["rm", "-r", join(store, ".locks/odd")]);
  await tidyStore(store);
  expect(readdirSync(join(store, ORIGINS_DIR))).toEqual([`${kept}.part`]);
  expect(existsSync(join(store, ".locks"))).toBe(false);
});

test("tidyStore() takes a store that is not there, or that is no store", async () => {
  await tidyStore(join(await bench.dir(), "none"));
  const store = await bench.dir();
  writeFileSync(join(store, ".locks"), "");
  writeFileSync(join(store, ORIGINS_DIR), "");
  await tidyStore(store);
  expect(readdirSync(store).sort()).toEqual([".locks", ORIGINS_DIR]);
});

test("eight fetches at once into one store ask for each file once", async () => {
  const store = await bench.dir();
  const server = await bodyServer();
  const wanted = wantedOf(server.url, 30);
  const children = Array.from({ length: 8 }, () => startFetcher(store, wanted));
  expect(await Promise.all(children.map((child) => child.exited))).toEqual(Array(8).fill(0));
  expect(server.seen.toSorted()).toEqual(
    wanted.map(({ urls }) => `GET ${new URL(urls[0]!).pathname}`).toSorted(),
  );
  expect((await filesOf(store)).sort()).toEqual(wanted.map(({ sha256 }) => sha256).sort());
});
