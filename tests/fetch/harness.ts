// SPDX-License-Identifier: MIT
/**
 * Helpers of the tests of `fetchAll()`.
 *
 * @module
 */
import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { UserError } from "../../src/errors.ts";
import { fetchAll } from "../../src/fetch/fetch.ts";
import { ORIGINS_DIR } from "../../src/fetch/origin.ts";
import { parseMirror, type ServerMirror, serverMirrors } from "../../src/fetch/mirror.ts";
import { makeStoreDirectory, storePath } from "../../src/fetch/store.ts";
import type { FetchOptions, FetchReport } from "../../src/fetch/types.ts";
import { Bench, sampleBody, sha256, type TestServer } from "./servers.ts";

export const BODY = sampleBody(300_000);
export const OTHER = sampleBody(300_000, 2);
export const NAME = "hello-1.0.tar.gz";

/** Shared by the tests of a file; each file releases it at its end. */
export const bench = new Bench();

/** Returns the mirrors at some URLs. */
export function mirrorsAt(...urls: readonly string[]): ServerMirror[] {
  return serverMirrors(urls.map(parseMirror));
}

/** Fetches one file, with short delays. */
export function get(
  store: string,
  urls: readonly string[],
  options: Partial<FetchOptions> = {},
  body = BODY,
): Promise<FetchReport> {
  return fetchAll([{ name: NAME, sha256: sha256(body), urls }], {
    store,
    mirrors: [],
    userAgent: "seedstrap/test",
    stallMs: 250,
    retryDelayMs: 1,
    random: () => 0,
    ...options,
  });
}

/** Fetches from a bad URL and then a good one; returns the answer of the bad one. */
export async function answerOf(url: string, options: Partial<FetchOptions> = {}): Promise<string> {
  const good = await bench.files(BODY);
  const store = await bench.dir();
  const answers: string[] = [];
  const report = await get(store, [url, `${good.url}/${NAME}`], {
    ...options,
    onProgress: (event) => {
      if (event.kind === "failed-attempt") answers.push(event.answer);
    },
  });
  expect(report.failures).toEqual([]);
  expect(report.files.get(NAME)?.source).toBe(`${good.url}/${NAME}`);
  expect(sha256(await readFile(stored(store)))).toBe(sha256(BODY));
  expect(await filesOf(store)).toEqual([sha256(BODY)]);
  expect(answers).toHaveLength(1);
  return answers[0] ?? "";
}

/** Returns the path in a store of a body, by default of {@link BODY}. */
export function stored(store: string, body = BODY): string {
  return storePath(store, sha256(body));
}

/** Puts bytes into a store as an unfinished download of {@link BODY}. */
export function putPart(store: string, bytes: Uint8Array): void {
  makeStoreDirectory(stored(store));
  writeFileSync(`${stored(store)}.part`, bytes);
}

/** Returns the names of the files in a store, without the origins. */
export async function filesOf(store: string): Promise<string[]> {
  const entries = await readdir(store, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory() && !entry.parentPath.endsWith(ORIGINS_DIR))
    .map(({ name }) => name);
}

/** Reports whether all connections of a server end soon. */
export async function closed(server: TestServer): Promise<boolean> {
  for (let i = 0; i < 50 && server.open() > 0; i++) await sleep(10);
  return server.open() === 0;
}

/** Returns the answers for files that could not be fetched. */
export function answers(report: FetchReport): string[] {
  return report.failures.flatMap(({ attempts }) => attempts.map(({ answer }) => answer));
}

/** Returns the user error that a promise rejects with. */
export async function rejection(work: Promise<unknown>): Promise<UserError> {
  const error = await work.then(() => undefined, (error: unknown) => error);
  if (error instanceof UserError) return error;
  throw new Error(`expected a UserError, got ${error}`);
}
