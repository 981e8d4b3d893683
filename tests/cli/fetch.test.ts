// SPDX-License-Identifier: MIT
import { afterAll, afterEach, expect, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { storePath } from "../../src/fetch/store.ts";
import { Bench, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { seedstrap } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const bench = new Bench();
afterEach(() => bench.release());
afterAll(() => temp.release());

/** A tree, a server that has its distfiles, and an empty store. */
async function scene(lacks: readonly string[] = []) {
  const dir = temp.make();
  const mini = miniTree();
  const { tree } = writeMiniTree(dir, mini);
  const server = await bench.http(({ url }, response) => {
    const name = url!.slice(1);
    const body = lacks.includes(name) ? undefined : mini.distfiles[name];
    response.statusCode = body === undefined ? 404 : 200;
    response.end(body);
  });
  const store = join(dir, "store");
  const args = ["--tree", tree, "-m", server.url, "--store", store];
  return { dir, tree, server, store, args, distfiles: mini.distfiles };
}

test("fetch gets every distfile into the store, once, and into a directory by its name", async () => {
  const { dir, server, args, store, distfiles } = await scene();
  const to = join(dir, "distfiles");
  const first = await seedstrap(["fetch", ...args, "--to", to]);
  expect(first).toMatchObject({ code: 0 });
  expect(first.stdout).toContain("6 distfiles, 17.6 KiB: here, and verified; in ");
  expect(first.stderr).toContain(`alpha-1.0.tar.gz: 2.93 KiB from ${server.url}`);
  expect(server.seen).toHaveLength(6);
  expect(readdirSync(to).sort()).toEqual(Object.keys(distfiles).sort());
  for (const [name, body] of Object.entries(distfiles)) {
    expect(sha256(readFileSync(join(to, name)))).toBe(sha256(body));
    // A copy, so that nobody who edits one changes the store.
    expect(statSync(storePath(store, sha256(body))).nlink).toBe(1);
  }
  const again = await seedstrap(["fetch", ...args, "--to", to]);
  expect(again).toMatchObject({ code: 0 });
  expect(again.stdout).toContain("0 files new");
  expect(server.seen).toHaveLength(6);
  expect(await seedstrap(["fetch", ...args, "--offline"])).toMatchObject({ code: 0 });
});

test("fetch takes the distfiles of steps, or those before the network", async () => {
  const { server, args } = await scene();
  expect(await seedstrap(["fetch", ...args, "--step", "beta-2.0"])).toMatchObject({ code: 0 });
  expect(server.seen).toEqual(["GET /beta-2.0.tar.gz"]);
  const before = await seedstrap(["fetch", ...args, "--pre-network", "--json"]);
  const lines = before.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  expect(lines.at(-1).files.map(({ name }: { name: string }) => name)).toEqual(
    ["alpha", "beta", "gamma", "linux", "delta"].map((name, index) =>
      `${name}-${index + 1}.0.tar.gz`
    ),
  );
  expect(lines.filter(({ kind }) => kind === "done")).toHaveLength(4);
  expect(lines[0]).toMatchObject({ kind: "begin", files: 4 });
  for (const step of ["nothing", "../steps/beta-2.0", ".."]) {
    const { code, stderr } = await seedstrap(["fetch", ...args, "--step", step]);
    expect({ step, code }).toEqual({ step, code: 2 });
    expect(stderr).toContain(`Cannot find step ${JSON.stringify(step)}`);
  }
});

test("what can be had is had, and the report names what cannot", async () => {
  const { dir, server, args, store } = await scene(["gamma-3.0.tar.gz"]);
  const to = join(dir, "to");
  const { code, stdout, stderr } = await seedstrap(["fetch", ...args, "--to", to]);
  expect(code).toBe(4);
  expect(stdout).toContain("5 distfiles");
  expect(stderr).toContain("Cannot fetch 1 of 6 distfiles");
  expect(stderr).toContain(`${server.url}/gamma-3.0.tar.gz: HTTP 404 Not Found`);
  expect(readdirSync(to)).toHaveLength(5);
  const offline = await seedstrap([
    "fetch",
    "--offline",
    "--json",
    "--tree",
    args[1]!,
    "--store",
    store,
  ]);
  expect(offline.code).toBe(4);
  const result = JSON.parse(offline.stdout);
  expect(result.error).toMatchObject({ kind: "fetch" });
  expect(result.files).toHaveLength(5);
});

test("a file of the user is replaced only where that is asked for", async () => {
  const { dir, args } = await scene();
  const to = join(dir, "to");
  mkdirSync(to);
  writeFileSync(join(to, "beta-2.0.tar.gz"), "mine");
  const refused = await seedstrap(["fetch", ...args, "--to", to]);
  expect(refused.code).toBe(7);
  expect(refused.stderr).toContain(`${join(to, "beta-2.0.tar.gz")} is not the distfile`);
  expect(readFileSync(join(to, "beta-2.0.tar.gz"), "utf8")).toBe("mine");
  expect(readdirSync(to)).toHaveLength(6);
  const forced = await seedstrap(["fetch", ...args, "--to", to, "--force"]);
  expect(forced).toMatchObject({ code: 0 });
  expect(forced.stderr).toContain("is not the distfile, and was replaced");
  expect(readFileSync(join(to, "beta-2.0.tar.gz")).length).toBe(3001);
});

test("--limit-rate holds for all downloads together", async () => {
  const { args } = await scene();
  const began = performance.now();
  const { code } = await seedstrap(["fetch", ...args, "--limit-rate", "10K", "--jobs", "6"]);
  expect(code).toBe(0);
  // 18 KB at 10 KiB a second, of which a quarter of a second may come at once.
  expect(performance.now() - began).toBeGreaterThan(1000);
  const { code: odd, stderr } = await seedstrap(["fetch", ...args, "--limit-rate", "1"]);
  expect(odd).toBe(2);
  expect(stderr).toContain("at least 1K");
});

test("the store is listed, verified, and cleaned up", async () => {
  const { tree, args, store, distfiles, dir } = await scene();
  expect(await seedstrap(["fetch", ...args])).toMatchObject({ code: 0 });
  const listed = await seedstrap(["store", "ls", "--store", store]);
  expect(listed.stdout).toMatch(/beta-2\.0\.tar\.gz +2\.93 KiB +[0-9a-f]{64} +http:/);
  expect(listed.stdout).toContain(`${store}: 6 files, 17.6 KiB`);
  const json = JSON.parse((await seedstrap(["store", "ls", "--store", store, "--json"])).stdout);
  expect(json.files).toHaveLength(6);
  const path = storePath(store, sha256(distfiles["beta-2.0.tar.gz"]!));
  appendFileSync(path, "x");
  const wrong = await seedstrap(["store", "verify", "--store", store]);
  expect(wrong).toMatchObject({ code: 5 });
  expect(wrong.stderr).toContain(`${path}: its SHA-256 is `);
  expect(existsSync(path)).toBe(true);
  expect(await seedstrap(["store", "verify", "--store", store, "--remove"])).toMatchObject({
    code: 5,
  });
  expect(existsSync(path)).toBe(false);
  expect(await seedstrap(["store", "verify", "--store", store])).toMatchObject({ code: 0 });

  const gc = ["store", "gc", "--store", store];
  expect(await seedstrap(gc)).toMatchObject({ code: 2 });
  // Another checkout needs one of them, and an old file and an unfinished download are nobody's.
  const other = writeMiniTree(join(dir, "other"), miniTree({ distfileBytes: 4000 }));
  const old = storePath(store, sha256("old"));
  mkdirSync(join(old, ".."), { recursive: true });
  writeFileSync(old, "old");
  utimesSync(old, 1e9, 1e9);
  writeFileSync(`${storePath(store, sha256(distfiles["alpha-1.0.tar.gz"]!))}.part`, "half");
  const dry = await seedstrap([...gc, "--tree", tree, other.tree, "--dry-run"]);
  expect(dry.stdout).toContain("1 file, 1 leftover: 7 B would be freed");
  expect(existsSync(old)).toBe(true);
  const aged = await seedstrap([...gc, "--older-than", "1d", "--json"]);
  expect(JSON.parse(aged.stdout)).toMatchObject({ bytes: 7, busy: 0, removed: true });
  expect(existsSync(old)).toBe(false);
  expect(await seedstrap([...gc, "--tree", tree])).toMatchObject({ code: 0 });
  expect(JSON.parse((await seedstrap(["store", "ls", "--store", store, "--json"])).stdout).files)
    .toHaveLength(5);
  expect(await seedstrap([...gc, "--tree", other.tree])).toMatchObject({ code: 0 });
  expect(existsSync(join(store, "sha256"))).toBe(false);
});

test("a store of the layout before is taken over, and nothing of it is lost", async () => {
  const { args, store, distfiles, server, tree } = await scene();
  expect(await seedstrap(["fetch", ...args])).toMatchObject({ code: 0 });
  for (const [name, body] of Object.entries(distfiles)) {
    renameSync(storePath(store, sha256(body)), join(store, name));
  }
  // The file of another checkout, by the same name.
  writeFileSync(join(store, "beta-2.0.tar.gz"), "of another year");
  const { stderr, code } = await seedstrap(["fetch", ...args]);
  expect(code).toBe(0);
  expect(stderr).toContain(`${join(store, "beta-2.0.tar.gz")} is not used: its SHA-256 is `);
  expect(server.seen).toHaveLength(7);
  expect(readFileSync(join(store, "beta-2.0.tar.gz"), "utf8")).toBe("of another year");
  for (const body of Object.values(distfiles)) {
    expect(existsSync(storePath(store, sha256(body)))).toBe(true);
  }
  expect(await seedstrap(["store", "gc", "--store", store, "--tree", tree])).toMatchObject({
    code: 0,
  });
  expect(readdirSync(store).sort()).toEqual([".origins", "beta-2.0.tar.gz", "sha256"]);
});
