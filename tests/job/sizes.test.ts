// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildMedia, mirrorWarnings, planBuild } from "../../src/job/build.ts";
import { limitState } from "../../src/plan/limits.ts";
import { reachFaults } from "../../src/plan/reach.ts";
import { readRecord } from "../../src/record/read.ts";
import { rejection } from "../fetch/harness.ts";
import { Bench, deadUrl, sha256 } from "../fetch/servers.ts";
import { describeDir, type FileTree, TempDirs } from "../support/files.ts";
import { buildOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const bench = new Bench();
afterEach(() => {
  temp.release();
  return bench.release();
});

/**
 * A checkout without distfiles, and a server that has them.
 *
 * @param told Size that the server tells by HEAD, if not the true one.
 */
async function scene(told?: number, files: FileTree = {}) {
  const dir = temp.make();
  const { tree } = writeMiniTree(dir, miniTree({ files }));
  const { distfiles } = miniTree();
  const server = await bench.http((request, response) => {
    const body = distfiles[request.url!.slice(1)]!;
    const isHead = request.method === "HEAD";
    const size = isHead ? told ?? body.length : body.length;
    response.writeHead(200, { "Content-Length": size }).end(isHead ? undefined : body);
  });
  const mirrors = [{ kind: "http", url: server.url }] as const;
  const options = buildOptions({ mirrors, payload: "never" });
  const store = join(dir, "store");
  const target = join(dir, "target");
  return { dir, server, request: { tree, options, store, target, force: false, jobs: 2 } };
}
/** The distfiles that a plan of it needs. */
const NEEDED = ["alpha-1.0", "beta-2.0", "delta-5.0", "gamma-3.0", "linux-4.0"];

test("a plan knows the sizes that a mirror tells, and downloads and writes nothing", async () => {
  const { dir, server, request } = await scene();
  const before = describeDir(dir);
  const { plan } = await planBuild(request);
  expect(server.seen.toSorted()).toEqual(NEEDED.map((name) => `HEAD /${name}.tar.gz`));
  expect(plan.distfiles.map(({ size }) => size)).toEqual([3000, 3001, 3002, 3003, 3004, null]);
  expect(plan.limits.map(limitState)).toEqual(plan.limits.map(() => "ok"));
  expect(describeDir(dir)).toEqual(before);
});

test("--offline asks no mirror, and the sizes are unknown", async () => {
  const { server, request } = await scene();
  const { plan } = await planBuild({ ...request, isOffline: true });
  expect(server.seen).toEqual([]);
  expect(plan.limits.map(limitState)).toContain("unknown");
});

test("what every mirror lacks for certain, and has no URL, cannot be obtained", async () => {
  const early = `g git://127.0.0.1:9/early.git~1 _ ${sha256("early")} early.tar\n`;
  const late = `g git://127.0.0.1:9/late.git~1 _ ${sha256("late")} late.tar\n`;
  const files = { "steps/beta-2.0/sources": early, "steps/omega-6.0/sources": late };
  const { request, server } = await scene(undefined, files);
  const [dead, empty, busy] = [
    await deadUrl(bench),
    await bench.status(404),
    await bench.status(503),
  ];
  const planOf = async (...urls: string[]) => {
    const mirrors = urls.map((url) => ({ kind: "http", url } as const));
    const asked = { ...request, options: { ...request.options, mirrors } };
    const job = await planBuild(asked);
    const faults = reachFaults(job.plan).map(({ names }) => names);
    return { asked, faults, warnings: mirrorWarnings(job) };
  };
  const has0 = "has 0 of 6 files that are asked for";
  const lacking = await planOf(dead, empty.url);
  expect(lacking.faults).toEqual([["early.tar", "late.tar"]]);
  expect(lacking.warnings).toEqual([
    `mirror ${dead}: connection refused`,
    `mirror ${empty.url}: ${has0} (HTTP 404)`,
  ]);
  expect(await planOf(dead, busy.url)).toMatchObject({
    faults: [],
    warnings: [lacking.warnings[0], `mirror ${busy.url}: ${has0} (HTTP 503)`],
  });
  const notices: string[] = [];
  const error = await rejection(
    buildMedia(lacking.asked, { onNotice: (text) => notices.push(text) }),
  );
  expect(error.kind).toBe("limit");
  expect(error.message).toContain("without a URL, and neither here nor in a mirror: early.tar");
  expect(error.hint).toContain("live-bootstrap/wiki/Mirrors");
  expect(notices).toEqual(lacking.warnings);
  expect([...server.seen, ...empty.seen].filter((line) => !line.startsWith("HEAD"))).toEqual([]);
  const offline = await planBuild({ ...lacking.asked, isOffline: true });
  expect([reachFaults(offline.plan), mirrorWarnings(offline)]).toEqual([[], []]);
});

test("a build is refused by the sizes that a mirror tells, before it downloads", async () => {
  const { server, request } = await scene(1_000_000);
  const error = await rejection(buildMedia(request));
  expect(error.kind).toBe("limit");
  expect(error.message).toContain("MiB, the maximum is");
  expect(server.seen.filter((line) => !line.startsWith("HEAD"))).toEqual([]);
  expect(existsSync(request.store)).toBe(false);
});

test("what a mirror tells is in no record, and decides nothing that is written", async () => {
  const [lying, honest] = [await scene(5), await scene()];
  const build = async ({ request }: typeof lying) => {
    const options = { ...request.options, payload: "auto" } as const;
    await buildMedia({ ...request, options });
    const { options: _, distfiles, ...others } = readRecord(request.target);
    const sizes = distfiles.map(({ size }) => size);
    return { ...others, sizes, config: "" };
  };
  const record = await build(lying);
  expect(record.sizes).toEqual([3000, 3001, 3002, 3003, 3004, null]);
  const other = await build(honest);
  expect(record.limits).toEqual(other.limits);
  expect(record.payload).toEqual(other.payload);
  expect(JSON.stringify(record)).not.toMatch(/unknownSizes|downloads/);
});
