// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import type { Mirror } from "../../src/fetch/mirror.ts";
import { fetchAbsent, locateAll, locateRight } from "../../src/job/distfiles.ts";
import { Bench, sampleBody, sha256 } from "../fetch/servers.ts";
import { rejection } from "../fetch/harness.ts";
import { storePath } from "../../src/fetch/store.ts";
import { writeFiles } from "../support/files.ts";

const bench = new Bench();
afterEach(() => bench.release());

const NAME = "hello-1.0.tar";
const RIGHT = sampleBody(3000);
const WRONG = sampleBody(3000, 2);
const wanted = [{ name: NAME, sha256: sha256(RIGHT), urls: [] as string[] }];

/** Makes a checkout, a store and two mirror directories with the given content of the distfile. */
async function places(bodies: Partial<Record<"checkout" | "store" | "one" | "two", Uint8Array>>) {
  const dir = await bench.dir();
  const root = join(dir, "checkout");
  const at = { checkout: join(root, "distfiles"), store: join(dir, "store") };
  const mirrors = [join(dir, "one"), join(dir, "two")];
  const dirs = { ...at, one: mirrors[0]!, two: mirrors[1]! };
  for (const [name, path] of Object.entries(dirs)) {
    mkdirSync(path, { recursive: true });
    const body = bodies[name as keyof typeof bodies];
    if (body !== undefined) writeFileSync(join(path, NAME), body);
  }
  const asMirrors = mirrors.map((path): Mirror => ({ kind: "directory", path }));
  return { dirs, places: { root, store: at.store, mirrors: asMirrors } };
}

test("locateAll() prefers the checkout to the store, and the store to mirrors", async () => {
  const all = { checkout: RIGHT, store: RIGHT, one: RIGHT, two: RIGHT };
  const order = ["checkout", "store", "mirror", "mirror"] as const;
  for (const [index, name] of (["checkout", "store", "one", "two"] as const).entries()) {
    const from = Object.fromEntries(Object.entries(all).slice(index));
    const { dirs, places: looked } = await places(from);
    expect((await locateAll(wanted, looked)).get(NAME)).toEqual({
      path: join(dirs[name], NAME),
      sizeBytes: RIGHT.length,
      from: order[index]!,
    });
  }
});

test("locateRight() tries the next place if a file is wrong, and reports it", async () => {
  const { dirs, places: looked } = await places({ checkout: WRONG, store: WRONG, two: RIGHT });
  const notices: string[] = [];
  const events = { onNotice: (text: string) => notices.push(text) };
  const { located, wrong } = await locateRight(wanted, looked, events, undefined);
  expect(located.get(NAME)).toMatchObject({ path: join(dirs.two, NAME), from: "mirror" });
  expect(notices).toEqual(
    [dirs.checkout, dirs.store].map((dir) =>
      `${join(dir, NAME)} is not used: its SHA-256 is ${sha256(WRONG)}, expected ${sha256(RIGHT)}`
    ),
  );
  expect(wrong.get(NAME)?.map(({ path }) => path)).toEqual([dirs.checkout, dirs.store]);
  // Under its name each may be the right file of another checkout.
  expect(existsSync(join(dirs.store, NAME))).toBe(true);
  expect(existsSync(join(dirs.checkout, NAME))).toBe(true);
});

test("locateRight() removes a file of the store that has not its digest", async () => {
  const { dirs, places: looked } = await places({ two: RIGHT });
  const path = storePath(dirs.store, sha256(RIGHT));
  writeFiles(dirs.store, { [relative(dirs.store, path)]: WRONG });
  const notices: string[] = [];
  const events = { onNotice: (text: string) => notices.push(text) };
  const { located, wrong } = await locateRight(wanted, looked, events, undefined);
  expect(located.get(NAME)).toMatchObject({ path: join(dirs.two, NAME), from: "mirror" });
  expect(notices).toEqual([
    `${path} is not used: its SHA-256 is ${sha256(WRONG)}, expected ${sha256(RIGHT)}`,
  ]);
  expect(wrong.get(NAME)?.map(({ path }) => path)).toEqual([dirs.store]);
  expect(existsSync(path)).toBe(false);
});

test("locateRight() says it once of a directory with many wrong files", async () => {
  const { dirs, places: looked } = await places({ one: WRONG });
  const many = Array.from({ length: 30 }, (_, at) => `${at}.tar`);
  for (const name of many) writeFileSync(join(dirs.one, name), WRONG);
  const all = many.map((name) => ({ ...wanted[0]!, name }));
  const notices: string[] = [];
  const events = { onNotice: (text: string) => notices.push(text) };
  const { located, wrong } = await locateRight(all, looked, events, undefined);
  expect(notices).toEqual([
    `30 distfiles in ${dirs.one} are not used, as they have another SHA-256: 0.tar and 29 more`,
  ]);
  const request = { jobs: 1, isOffline: true, wrong };
  const failed = (wanted: typeof all) =>
    rejection(fetchAbsent(wanted, located, looked, request, {}, undefined));
  const error = await failed(all);
  expect(error).toMatchObject({ kind: "verify", exitCode: 5 });
  expect(error.message).toBe(
    "Cannot continue with --offline: 30 distfiles have a wrong SHA-256\n" +
      `  wrong SHA-256 in ${dirs.one}: 0.tar and 29 more`,
  );
  const mixed = await failed([...all.slice(0, 1), { ...wanted[0]!, name: "other.tar" }]);
  expect(mixed.kind).toBe("fetch");
  expect(mixed.message).toBe(
    "Cannot continue with --offline: 1 distfile is missing, 1 distfile has a wrong SHA-256\n" +
      `  other.tar, SHA-256 ${sha256(RIGHT)}\n` +
      `  searched ${Object.values(dirs).join(", ")}\n` +
      `  wrong SHA-256 in ${dirs.one}: 0.tar`,
  );
});

test("fetchAbsent() says where a wrong file is, and ends with 5 if every source is wrong", async () => {
  const { dirs, places: looked } = await places({ one: WRONG });
  const { located, wrong } = await locateRight(wanted, looked, {}, undefined);
  const request = { jobs: 1, isOffline: false, wrong };
  const failed = (...mirrors: Mirror[]) => {
    const all = { ...looked, mirrors: [...looked.mirrors, ...mirrors] };
    return rejection(fetchAbsent(wanted, located, all, request, {}, undefined));
  };
  const error = await failed();
  expect(error).toMatchObject({ kind: "verify", exitCode: 5 });
  expect(error.message).toBe(
    "Cannot fetch 1 of 1 distfile: what every source has is wrong\n" +
      `  ${NAME} (SHA-256 ${sha256(RIGHT)})\n` +
      `    wrong SHA-256 in ${dirs.one}\n` +
      `  not in ${dirs.two} either`,
  );
  const { url } = await bench.status(404);
  const missing = await failed({ kind: "http", url });
  expect(missing.kind).toBe("fetch");
  expect(missing.message).toContain(
    `    wrong SHA-256 in ${dirs.one}\n    ${url}/${NAME}: HTTP 404`,
  );
});

test("fetchAbsent() asks a mirror only for distfiles that are not located", async () => {
  const server = await bench.files(RIGHT);
  const { dirs, places: looked } = await places({ one: RIGHT });
  const mirrors: Mirror[] = [{ kind: "http", url: server.url }, ...looked.mirrors];
  const other = { ...wanted[0]!, name: "other.tar" };
  const request = { jobs: 1, isOffline: false };
  const located = await locateAll([...wanted, other], { ...looked, mirrors });
  const whole = await fetchAbsent(
    [...wanted, other],
    located,
    { ...looked, mirrors },
    request,
    {},
    undefined,
  );
  expect(server.seen).toEqual(["GET /other.tar"]);
  expect(whole.get("other.tar")).toEqual({
    path: storePath(dirs.store, sha256(RIGHT)),
    sizeBytes: RIGHT.length,
    from: "store",
  });
  expect(whole.get(NAME)?.from).toBe("mirror");
  expect(located.has("other.tar")).toBe(false);
});

test("fetchAbsent() names the directories that it has searched", async () => {
  const { dirs, places: looked } = await places({});
  for (const isOffline of [false, true]) {
    const request = { jobs: 1, isOffline };
    const error = await rejection(
      fetchAbsent(wanted, new Map(), looked, request, {}, undefined),
    );
    expect(error.kind).toBe("fetch");
    expect(error.message).toContain(`${NAME}`);
    expect(error.message).toContain(`${dirs.one}, ${dirs.two}`);
  }
});
