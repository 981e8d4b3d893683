// SPDX-License-Identifier: MIT
import { after } from "../support/progress.ts";
import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { buildMedia } from "../../src/job/build.ts";
import { reproduceBuild, type ReproduceRequest } from "../../src/job/reproduce.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import { parseRecord } from "../../src/record/read.ts";
import { RECORD_NAME } from "../../src/record/types.ts";
import { statementText } from "../../src/record/statement.ts";
import { rejection } from "../fetch/harness.ts";
import { Bench, sampleBody, sha256 } from "../fetch/servers.ts";
import { describeDir, TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { buildOptions, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";
import { kernelLike } from "../support/kernel.ts";

const temp = new TempDirs();
const bench = new Bench();
afterEach(() => {
  temp.release();
  return bench.release();
});

const BETA = "beta-2.0.tar.gz";
const SEED = { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "seed" };

/** Builds a target, and makes a request to reproduce it from the same checkout and mirror. */
async function scene(changes: Partial<BuildOptions> = {}, mini: MiniOptions = {}, repo?: string) {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(
    dir,
    miniTree({ importsPayload: true, files: SEED, ...mini }),
  );
  const options = buildOptions({
    mode: "bare-metal",
    externalSources: true,
    mirrors: [{ kind: "directory", path: mirror }],
    ...changes,
  });
  const target = join(dir, "target");
  const store = join(dir, "store");
  const jobs = 4;
  await buildMedia({ tree, options, store, target, force: false, jobs, repo });
  const request: ReproduceRequest = {
    record: join(target, RECORD_NAME),
    tree,
    mirrors: [{ kind: "directory", path: mirror }],
    store,
    repo,
    keep: false,
    force: false,
    jobs,
  };
  return { dir, tree, mirror, target, store, request };
}

test("reproduceBuild() finds no difference, and leaves everything unchanged", async () => {
  const { request, dir } = await scene();
  const before = describeDir(dir);
  const result = await reproduceBuild(request);
  expect(result).toEqual({ same: true, compared: 2, subjects: [], materials: [] });
  expect(describeDir(dir).filter((line) => !line.startsWith("target "))).toEqual(
    before.filter((line) => !line.startsWith("target ")),
  );
});

test("reproduceBuild() works with copies of all inputs at other paths, in every mode", async () => {
  for (const mode of ["qemu", "bare-metal", "chroot", "bwrap"] as const) {
    const { request, dir, tree, mirror } = await scene({ mode });
    const other = temp.make();
    cpSync(tree, join(other, "copy"), { recursive: true });
    cpSync(request.record, join(other, "record.json"));
    const result = await reproduceBuild({
      ...request,
      record: join(other, "record.json"),
      tree: join(other, "copy"),
      store: join(other, "none"),
      mirrors: [{ kind: "directory", path: mirror }],
    });
    expect(result).toMatchObject({ same: true, subjects: [], materials: [] });
    expect(readdirSync(other).sort()).toEqual(["copy", "record.json"]);
    rmSync(dir, { recursive: true });
  }
});

test("reproduceBuild() names a file of the checkout that was changed", async () => {
  for (const mode of ["bare-metal", "chroot"] as const) {
    const { request, tree } = await scene({ mode });
    writeFiles(tree, { "steps/helpers.sh": "false\n" });
    const notices: string[] = [];
    const result = await reproduceBuild(request, { onNotice: (text) => notices.push(text) });
    expect(notices).toEqual(["the checkout is not the one that was built from"]);
    expect(result.same).toBe(false);
    expect(result.materials.map(({ name }) => name)).toEqual(["checkout"]);
    const [subject] = result.subjects;
    expect(result.subjects).toHaveLength(1);
    const changed = { stated: sha256("true\n"), found: sha256("false\n") };
    if (mode === "bare-metal") {
      expect(subject).toMatchObject({ name: "init.img" });
      expect(subject!.files).toEqual([{ name: "./steps/helpers.sh", ...changed }]);
    } else {
      expect(subject).toMatchObject({ name: "steps/helpers.sh", files: [] });
      expect(subject!.found).toContain(changed.found);
    }
  }
});

test("reproduceBuild() names files that are new or gone", async () => {
  const { request, tree } = await scene();
  writeFiles(tree, { "steps/new": "new" });
  rmSync(join(tree, "seed/seed.kaem"));
  const [subject] = (await reproduceBuild(request)).subjects;
  expect(subject!.files).toEqual([
    { name: "./seed.kaem", stated: sha256("exec true\n") },
    { name: "./steps/new", found: sha256("new") },
  ]);
});

test("reproduceBuild() reports a change that is not visible in an image", async () => {
  const { request, tree } = await scene();
  chmodSync(join(tree, "steps/helpers.sh"), 0o755); // a boot image has no modes
  writeFiles(tree, { ".git/HEAD": "0123456789abcdef0123456789abcdef01234567\n" });
  const result = await reproduceBuild(request);
  expect(result).toMatchObject({ same: true, subjects: [] });
  expect(result.materials.map(({ name }) => name)).toEqual(["checkout", ".git/HEAD"]);
});

test("reproduceBuild() names a distfile that has changed", async () => {
  const { request, tree, mirror } = await scene();
  const body = sampleBody(2999, 77);
  const sources = readFileSync(join(tree, "steps/beta-2.0/sources"), "utf8");
  writeFiles(tree, {
    "steps/beta-2.0/sources": sources.replace(/[0-9a-f]{64}/, sha256(body)),
  });
  writeFiles(mirror, { [BETA]: body });
  const result = await reproduceBuild(request);
  expect(result.same).toBe(false);
  expect(result.materials).toContainEqual({
    name: `distfiles/${BETA}`,
    stated: `sha256 ${sha256(sampleBody(3001, 2))}`,
    found: `sha256 ${sha256(body)}`,
  });
  const files = result.subjects.flatMap(({ files }) => files.map(({ name }) => name));
  expect(files).toEqual([`./external/distfiles/${BETA}`, "./steps/beta-2.0/sources"]);
});

test("reproduceBuild() reports the effect of changed options in a record", async () => {
  const { request } = await scene();
  const stated = readFileSync(request.record, "utf8");
  writeFileSync(request.record, stated.replace('"cores": 2', '"cores": 3'));
  const result = await reproduceBuild(request);
  expect(result).toMatchObject({ same: false, materials: [] });
  expect(result.subjects[0]!.files.map(({ name }) => name)).toEqual(["./steps/bootstrap.cfg"]);
});

test("reproduceBuild() names another builder", async () => {
  const { request } = await scene();
  const stated = parseRecord(readFileSync(request.record, "utf8"), "x");
  const builderSha256 = "0".repeat(64);
  writeFileSync(request.record, statementText({ ...stated, seedstrap: "0.0.9", builderSha256 }));
  const { same, materials } = await reproduceBuild(request);
  expect(same).toBe(true);
  expect(materials.map(({ name, stated }) => [name, stated])).toEqual([
    ["seedstrap's version", "0.0.9"],
    ["seedstrap's binary", builderSha256],
  ]);
});

test("a later build and a reproduced one still record the URL of a distfile", async () => {
  const server = await bench.files(sampleBody(3001, 2));
  const { request, mirror, tree, target, store } = await scene({}, { url: server.url });
  rmSync(join(mirror, BETA));
  const options = parseRecord(readFileSync(request.record, "utf8"), "x").options;
  const again = async () => {
    await buildMedia({ tree, options, store, target, force: false, jobs: 1 });
    return readFileSync(request.record, "utf8");
  };
  const first = await again();
  await server.close();
  expect(await again()).toBe(first);
  const statement = JSON.parse(first);
  expect(statement.predicate.buildDefinition.resolvedDependencies).toContainEqual({
    name: `distfiles/${BETA}`,
    uri: `${server.url}/${BETA}`,
    digest: { sha256: sha256(sampleBody(3001, 2)) },
  });
  const sbom = readFileSync(join(target, "sbom.cdx.json"), "utf8");
  expect(sbom).toContain(encodeURIComponent(`${server.url}/${BETA}`).replaceAll("%3A", ":"));
  expect(await reproduceBuild(request)).toMatchObject({ same: true, materials: [] });
});

test("reproduceBuild() asks HTTP mirrors of a record, but reads no mirror directories", async () => {
  const server = await bench.http((_, response) => response.writeHead(404).end());
  const { request, store, tree, mirror } = await scene();
  const stated = parseRecord(readFileSync(request.record, "utf8"), "x");
  const mirrors = [...stated.options.mirrors, { kind: "http" as const, url: server.url }];
  const text = statementText({ ...stated, options: { ...stated.options, mirrors } });
  writeFileSync(request.record, text);
  const error = await rejection(reproduceBuild({ ...request, mirrors: [] }));
  expect(error.kind).toBe("fetch");
  expect(error.message).not.toContain(mirror);
  expect(server.seen.some((line) => line.startsWith(`GET /${BETA}`))).toBe(true);
  expect(readdirSync(join(request.record, "..")).some((name) => name.includes("reproduce")))
    .toBe(false);
  expect(existsSync(join(store, BETA))).toBe(false);
  expect(existsSync(join(tree, "distfiles"))).toBe(false);
});

test("reproduceBuild() builds in the given directory and keeps the result on request", async () => {
  const { request, dir, target } = await scene();
  const elsewhere = join(dir, "mirror");
  const { kept } = await reproduceBuild({ ...request, target: elsewhere, keep: true });
  expect(kept).toStartWith(`${elsewhere}/seedstrap-reproduce-`);
  // The name has no pid, or a later run would remove it as a leftover.
  expect(kept).toMatch(/-reproduce-\w{6}$/);
  expect(readdirSync(elsewhere).filter((name) => name.includes("reproduce"))).toHaveLength(1);
  for (const name of ["init.img", "payload.img", "sbom.cdx.json", RECORD_NAME]) {
    expect(readFileSync(join(kept!, name)).equals(readFileSync(join(target, name)))).toBe(true);
  }
  const error = await rejection(reproduceBuild({ ...request, target: join(dir, "none") }));
  expect(error).toMatchObject({ kind: "target" });
});

test("reproduceBuild() leaves nothing when it is aborted", async () => {
  const { request, target } = await scene({}, {
    ramdiskKib: 20_000,
    kexecKib: 90_000,
    distfileBytes: 2_000_000,
  });
  const stop = new AbortController();
  const events = after(5e6, () => stop.abort());
  const error = await rejection(reproduceBuild({ ...request, keep: true }, events, stop.signal));
  expect(error.kind).toBe("interrupt");
  expect(readdirSync(target).filter((name) => name.includes("reproduce"))).toEqual([]);
});

testWith("mke2fs")("a kernel and packages have to be named again, and are compared", async () => {
  const dir = temp.make();
  writeFiles(dir, {
    vmlinuz: kernelLike(),
    "repo/a.tar.bz2": "package",
    "other/a.tar.bz2": "other",
  });
  const kernel = join(dir, "vmlinuz");
  const repo = join(dir, "repo");
  const options = { mode: "qemu", kernel, hasRepo: true, targetSizeMib: 1200 } as const;
  const { request } = await scene(options, {}, repo);
  const without = { ...request, repo: undefined };
  expect((await rejection(reproduceBuild(without))).message).toBe(
    "Cannot reproduce without --kernel FILE, --repo DIR",
  );
  expect((await rejection(reproduceBuild({ ...without, kernel }))).message).toBe(
    "Cannot reproduce without --repo DIR",
  );
  expect(await reproduceBuild({ ...request, kernel })).toMatchObject({ same: true, materials: [] });
  writeFiles(dir, { "vmlinuz-2": kernelLike("another kernel") });
  const changed = { ...request, kernel: join(dir, "vmlinuz-2"), repo: join(dir, "other") };
  const result = await reproduceBuild(changed);
  expect(result.same).toBe(false);
  expect(result.subjects.map(({ name }) => name)).toEqual(["disk.img"]);
  expect(result.materials.map(({ name }) => name)).toEqual([
    "kernel",
    expect.stringMatching(/^repo:.*a\.tar\.bz2$/),
  ]);
});

test("reproduceBuild() refuses unusable requests before anything is built", async () => {
  const { request, target, dir } = await scene();
  const text = readFileSync(request.record, "utf8");
  const stated = parseRecord(text, "x");
  const cases: [string, string][] = [
    ["{}", "Cannot understand"],
    [text.replace('"bare-metal"', '"vm"'), "Cannot understand"],
    [
      statementText({ ...stated, options: { ...stated.options, hasPreseed: true } }),
      "Cannot reproduce without --early-preseed ARCHIVE",
    ],
    [
      statementText({
        ...stated,
        images: [],
        options: { ...stated.options, mode: "bwrap", internalCi: "pass2" },
      }),
      "--internal-ci pass2",
    ],
  ];
  for (const [changed, wanted] of cases) {
    writeFileSync(request.record, changed);
    const error = await rejection(reproduceBuild(request));
    expect(error.message).toContain(wanted);
  }
  writeFileSync(request.record, text);
  expect((await rejection(reproduceBuild({ ...request, repo: target }))).message).toBe(
    "Cannot reproduce with --repo DIR: it was built without",
  );
  expect((await rejection(reproduceBuild({ ...request, record: "none" }))).message).toBe(
    `Cannot find the record ${resolve("none")}`,
  );
  expect((await rejection(reproduceBuild({ ...request, record: dir }))).where).toBe(
    join(dir, "seedstrap.json"),
  );
  expect(readdirSync(target).sort()).toEqual([
    ".seedstrap",
    "init.img",
    "payload.img",
    "sbom.cdx.json",
    "seedstrap.json",
  ]);
});

test("reproduceBuild() starts no program that a record names", async () => {
  const { request, dir } = await scene({ mode: "qemu" });
  const trap = join(dir, "trap");
  writeFiles(dir, { trap: `#!/bin/sh\ntouch ${dir}/sprung\n` });
  chmodSync(trap, 0o755);
  const text = readFileSync(request.record, "utf8");
  writeFileSync(request.record, text.replace("qemu-system-x86_64", trap));
  expect(await reproduceBuild(request)).toMatchObject({ same: true });
  expect(existsSync(join(dir, "sprung"))).toBe(false);
});
