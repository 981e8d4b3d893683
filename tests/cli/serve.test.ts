// SPDX-License-Identifier: MIT
import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { storePath } from "../../src/fetch/store.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { MAIN, seedstrap, start } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const started: Bun.Subprocess[] = [];
afterEach(async () => {
  for (const child of started.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
});
afterAll(() => temp.release());

/** Serves a place, and waits until it says where. */
async function serving(args: readonly string[]) {
  const child = start([process.execPath, MAIN, "serve", "--listen", "127.0.0.1:0", ...args]);
  started.push(child);
  let said = "";
  let out = "";
  const { promise, resolve } = Promise.withResolvers<string>();
  const read = async () => {
    for await (const chunk of child.stderr) {
      said += new TextDecoder().decode(chunk);
      const url = / on (http:\S+\/);/.exec(said)?.[1];
      if (url !== undefined) resolve(url);
    }
    resolve("");
  };
  const done = Promise.all([
    read(),
    (async () => {
      for await (const chunk of child.stdout) out += new TextDecoder().decode(chunk);
    })(),
  ]);
  const url = await promise;
  if (url === "") throw new Error(`it does not serve: ${said}`);
  const stop = async () => {
    child.kill("SIGTERM");
    await done;
    return { code: await child.exited, said, out };
  };
  return { url, stop };
}

test("a build gets its distfiles from what serves a directory, a store or a checkout", async () => {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(dir, miniTree());
  const { distfiles } = miniTree();
  const store = join(dir, "store");
  const fetched = ["fetch", "--tree", tree, "-m", mirror, "--store", store];
  expect(await seedstrap(fetched)).toMatchObject({ code: 0 });
  const own = await serving([mirror]);
  // The store has what was downloaded.
  const from = ["fetch", "--tree", tree, "--store", store];
  expect(await seedstrap([...from, "-m", own.url])).toMatchObject({ code: 0 });
  const ended = await own.stop();
  expect(ended.code).toBe(0);
  expect(ended.said).toMatch(/127\.0\.0\.1 "GET \/alpha-1\.0\.tar\.gz" 200 3000 \d+ ms\n/);
  expect(ended.said).toContain("ended, after 6 requests");

  for (const place of [store, tree]) {
    const { url, stop } = await serving([place, "--store", store]);
    const into = join(temp.make(), "store");
    const ran = await seedstrap(["fetch", "--tree", tree, "-m", url, "--store", into]);
    expect({ place, ...ran }).toMatchObject({ code: 0 });
    const page = await (await fetch(url)).text();
    for (const [name, body] of Object.entries(distfiles)) {
      expect(page).toContain(`href="./${name}"`);
      const answer = await fetch(url + name);
      expect(sha256(new Uint8Array(await answer.arrayBuffer()))).toBe(sha256(body));
      if (place === tree) expect(answer.headers.get("etag")).toBe(`"sha256-${sha256(body)}"`);
    }
    if (place === tree) {
      const sums = await (await fetch(`${url}SHA256SUMS`)).text();
      expect(sums.trimEnd().split("\n")).toHaveLength(6);
    } else {
      const path = storePath("", sha256(distfiles["beta-2.0.tar.gz"]!));
      expect((await fetch(new URL(path, url))).status).toBe(200);
    }
    expect(await stop()).toMatchObject({ code: 0 });
  }
}, 60_000);

test("SHA256SUMS of a directory tell the ETag of what was not changed since", async () => {
  const dir = temp.make();
  writeFileSync(join(dir, "a"), "a");
  writeFileSync(join(dir, "SHA256SUMS"), `${sha256("a")}  a\n`);
  const { url, stop } = await serving([dir]);
  const tag = async () => (await fetch(`${url}a`)).headers.get("etag");
  expect(await tag()).toBe(`"sha256-${sha256("a")}"`);
  await Bun.sleep(20);
  writeFileSync(join(dir, "a"), "b");
  expect(await tag()).not.toContain("sha256");
  await Bun.sleep(20);
  writeFileSync(join(dir, "sums"), `${sha256("b")}  a\n`);
  renameSync(join(dir, "sums"), join(dir, "SHA256SUMS"));
  expect(await tag()).toBe(`"sha256-${sha256("b")}"`);
  expect(await stop()).toMatchObject({ code: 0 });
});

test("--json has a line when it listens and for each request; --log a line, escaped", async () => {
  const dir = temp.make();
  mkdirSync(join(dir, "m"));
  writeFileSync(join(dir, "m/a"), "a");
  const log = join(dir, "access.log");
  const { url, stop } = await serving([join(dir, "m"), "--json", "--log", log]);
  await fetch(`${url}a`);
  await fetch(`${url}%1b%5B2J`);
  const { code, out } = await stop();
  expect(code).toBe(0);
  const lines = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  expect(lines.map(({ kind }) => kind)).toEqual(["start", "request", "request", undefined]);
  expect(lines[1]).toMatchObject({ method: "GET", target: "/a", status: 200, sentBytes: 1 });
  expect(lines.at(-1)).toEqual({ schema: 1, requests: 2 });
  expect(readFileSync(log, "utf8")).toMatch(/"GET \/a" 200 1 \d+ ms\n.*"GET \/%1b%5B2J" 404 0 /);
});

test.each([
  [["--listen", "x:y:z"], 2, 'Cannot use "x:y:z" for --listen'],
  [["--listen", "127.0.0.1:99999"], 2, "--listen"],
  [["--listen", "192.0.2.1:0"], 9, "Cannot listen on 192.0.2.1:0: EADDRNOTAVAIL"],
  [[join("none", "such")], 7, "there is no such directory"],
])("serve %j is refused", async (args, code, said) => {
  const dir = temp.make();
  const place = args.length === 2 ? [dir] : [];
  const ran = await seedstrap(["serve", ...place, ...args]);
  expect(ran).toMatchObject({ code });
  expect(ran.stderr).toContain(said);
});
