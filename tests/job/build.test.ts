// SPDX-License-Identifier: MIT
import { piecesOfFile } from "../support/pieces.ts";
import { after } from "../support/progress.ts";
import { afterEach, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { openImage } from "../../src/source/file.ts";
import { storePath } from "../../src/fetch/store.ts";
import { readImage, verifyImage } from "../../src/image/linear.ts";
import { buildMedia, type BuildRequest } from "../../src/job/build.ts";
import { readRecord } from "../../src/record/read.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import { rejection } from "../fetch/harness.ts";
import { Bench, sampleBody, sha256 } from "../fetch/servers.ts";
import { describeDir, sha256OfFile, TempDirs, writeFiles } from "../support/files.ts";
import { faultOf } from "../support/sources.ts";
import { buildOptions, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const bench = new Bench();
afterEach(() => {
  temp.release();
  return bench.release();
});

/** Makes a checkout with a complete mirror beside it, and a request to build from both. */
function scene(changes: Partial<BuildOptions> = {}, mini: MiniOptions = {}) {
  const dir = temp.make();
  const { distfiles } = miniTree(mini);
  const { tree, mirror } = writeMiniTree(dir, miniTree(mini));
  const options = buildOptions({
    externalSources: true,
    mirrors: [{ kind: "directory", path: mirror }],
    ...changes,
  });
  const target = join(dir, "target");
  const store = join(dir, "store");
  const request: BuildRequest = { tree, options, store, target, force: false, jobs: 4 };
  return { dir, tree, mirror, store, target, distfiles, request };
}
/** Returns path and content of every entry of an image. */
function contents(path: string): [string, string][] {
  const source = openImage(path);
  const bytes = readFileSync(path);
  try {
    return Array.from(readImage(source), (entry) => [
      entry.path,
      entry.kind === "file"
        ? sha256(bytes.subarray(entry.dataOffset, entry.dataOffset + entry.size))
        : entry.kind,
    ]);
  } finally {
    source.close();
  }
}
const outputs = (target: string) =>
  ["init.img", "payload.img", "seedstrap.json"].map((name) => sha256OfFile(join(target, name)));
const ALPHA = "alpha-1.0.tar.gz";
const BETA = "beta-2.0.tar.gz";

test("another port for the mirror is said of a plan that is accepted only", async () => {
  const { request } = scene({ externalSources: false });
  const taken = await bench.raw(() => {});
  const mirrorPort = Number(new URL(taken.url).port);
  const notices: string[] = [];
  const events = { onNotice: (text: string) => notices.push(text) };
  const free = { ...request, options: { ...request.options, mirrorPort }, isPortChosen: false };
  const refused = { ...free, target: join(request.tree, "steps") };
  expect((await rejection(buildMedia(refused, events))).kind).toBe("usage");
  expect(notices).toEqual([]);
  const { options } = await buildMedia(free, events);
  expect(options.mirrorPort).toBeGreaterThan(mirrorPort);
  expect(notices).toEqual([
    `port ${mirrorPort} is in use on this machine: the image has ${options.mirrorPort} for its ` +
    "mirror, see --mirror-port",
  ]);
});

test("buildMedia() makes both images and a record that describes them", async () => {
  const { request, target, distfiles } = scene();
  const record = await buildMedia(request);
  expect(readdirSync(target).sort()).toEqual([
    ".seedstrap",
    "init.img",
    "payload.img",
    "sbom.cdx.json",
    "seedstrap.json",
  ]);
  const boot = contents(join(target, "init.img"));
  expect(boot[0]).toEqual([".", "empty"]);
  expect(boot).toContainEqual([`./external/distfiles/${ALPHA}`, sha256(distfiles[ALPHA]!)]);
  expect(boot).toContainEqual(["./after.kaem", sha256("exec after\n")]);
  expect(boot.slice(-7).map(([path]) => path)).toEqual([
    "/bootstrap-seeds",
    "/bootstrap-seeds/POSIX",
    "/bootstrap-seeds/POSIX/x86",
    "hex0 /x86/hex0_x86.hex0 /bootstrap-seeds/POSIX/x86/hex0-seed",
    "hex0 /x86/kaem-minimal.hex0 /bootstrap-seeds/POSIX/x86/kaem-optional-seed",
    "hex0 /x86/kaem-minimal.hex0 /init",
    "/bootstrap-seeds/POSIX/x86/kaem-optional-seed /kaem.x86",
  ]);
  const carried = Object.entries(distfiles).filter(([name]) => name !== ALPHA)
    .map(([name, body]): [string, string] => [name, sha256(body)]).sort();
  const sums = sha256(carried.map(([name, digest]) => `${digest}  ${name}\n`).join(""));
  expect(contents(join(target, "payload.img"))).toEqual([["SHA256SUMS", sums], ...carried]);
  expect(readRecord(target)).toEqual(JSON.parse(JSON.stringify(record)));
  for (const image of record.images) {
    const bytes = readFileSync(join(target, image.name));
    expect(bytes).toHaveLength(image.sizeBytes);
    expect(piecesOfFile(join(target, image.name), image.dataBytes)).toBe(image.piecesSha256!);
    expect(image.sha256).toBeUndefined();
    const source = openImage(join(target, image.name));
    expect(verifyImage(source).files).toBe(image.files.filter(({ size }) => size > 0).length);
    source.close();
    const inside = new Map(contents(join(target, image.name)));
    for (const { path, sha256, size } of image.files) {
      expect(inside.get(path)).toBe(size === 0 ? "empty" : sha256);
    }
  }
});

test("buildMedia() leaves the checkout and the mirror unchanged", async () => {
  const { request, tree, mirror } = scene();
  writeFiles(tree, { "steps/bootstrap.cfg": "ARCH=old\n" });
  const before = [describeDir(tree), describeDir(mirror)];
  await buildMedia(request);
  expect([describeDir(tree), describeDir(mirror)]).toEqual(before);
});

test("buildMedia() replaces a target that it made, with the same images", async () => {
  const { request, target } = scene();
  await buildMedia(request);
  const first = outputs(target);
  rmSync(join(target, "seedstrap.json"));
  writeFileSync(join(target, "serial.log"), "from a run");
  await buildMedia(request);
  expect(outputs(target)).toEqual(first);
  await buildMedia({ ...request, options: { ...request.options, payload: "never" } });
  expect(readdirSync(target).sort()).toEqual([
    ".seedstrap",
    "init.img",
    "sbom.cdx.json",
    "seedstrap.json",
    "serial.log",
  ]);
});

test("buildMedia() takes distfiles from the checkout first", async () => {
  const { request, tree, target, distfiles, mirror } = scene();
  writeFiles(join(tree, "distfiles"), distfiles);
  rmSync(mirror, { recursive: true });
  await buildMedia(request);
  expect(existsSync(join(target, "payload.img"))).toBe(true);
});

test("buildMedia() does not use a wrong file of the checkout, and leaves it there", async () => {
  const { request, tree, target } = scene();
  const right = await buildMedia(request).then(() => outputs(target));
  // One is for the boot image, the other for the payload.
  for (const name of [ALPHA, BETA]) {
    const path = join(tree, "distfiles", name);
    for (const body of [sampleBody(name === ALPHA ? 3000 : 3001, 99), new Uint8Array()]) {
      writeFiles(join(tree, "distfiles"), { [name]: body });
      const notices: string[] = [];
      await buildMedia(request, { onNotice: (text) => notices.push(text) });
      expect(outputs(target)).toEqual(right);
      expect(notices).toHaveLength(1);
      expect(notices[0]).toStartWith(`${path} is not used: its SHA-256 is ${sha256(body)}`);
      expect(sha256OfFile(path)).toBe(sha256(body));
    }
    rmSync(path);
  }
});

test("the path of a mirror directory is used unchanged, also in the second round", async () => {
  const { dir, tree, mirror, target, request } = scene();
  const path = join(dir, "100%20#1?");
  renameSync(mirror, path);
  writeFiles(tree, { [`distfiles/${ALPHA}`]: "wrong" });
  const options = { ...request.options, mirrors: [{ kind: "directory", path }] as const };
  await buildMedia({ ...request, options });
  expect(readRecord(target).images).toHaveLength(2);
});

test("buildMedia() replaces a wrong file of the store", async () => {
  const server = await bench.files(sampleBody(3001, 2));
  const { request, store, mirror, target, distfiles } = scene({}, { url: server.url });
  const right = await buildMedia(request).then(() => outputs(target).slice(0, 2));
  rmSync(join(mirror, BETA));
  for (const body of [sampleBody(3001, 99), new Uint8Array()]) {
    const stored = storePath(store, sha256(distfiles[BETA]!));
    writeFiles(store, { [relative(store, stored)]: body });
    await buildMedia(request);
    expect(outputs(target).slice(0, 2)).toEqual(right);
    expect(sha256OfFile(stored)).toBe(sha256(distfiles[BETA]!));
  }
});

test("buildMedia() downloads distfiles that no directory has, and records their URL", async () => {
  const server = await bench.files(sampleBody(3001, 2));
  const { request, mirror, target, store } = scene({}, { url: server.url });
  rmSync(join(mirror, BETA));
  const record = await buildMedia(request);
  const of = (name: string) => record.distfiles.find((distfile) => distfile.name === name)!;
  expect(of(BETA).origin).toEqual({ kind: "url", url: `${server.url}/${BETA}` });
  expect(of(BETA).size).toBe(3001);
  expect(of(ALPHA).origin).toEqual({ kind: "mirror" });
  expect(readdirSync(store).sort()).toEqual([".origins", "sha256"]);
  expect(existsSync(storePath(store, sha256(sampleBody(3001, 2))))).toBe(true);
  expect(new Map(contents(join(target, "payload.img"))).get(BETA)).toBe(
    sha256(sampleBody(3001, 2)),
  );
});

test("buildMedia() records where each distfile was, without a path of this machine", async () => {
  const { dir, request, tree, target, store, distfiles } = scene({ mirrors: [] });
  const names = Object.keys(distfiles);
  writeFiles(join(tree, "distfiles"), { [ALPHA]: distfiles[ALPHA]! });
  for (const name of names) if (name !== ALPHA) writeFiles(store, { [name]: distfiles[name]! });
  const record = await buildMedia(request);
  const kinds = new Map(record.distfiles.map(({ name, origin }) => [name, origin]));
  expect(kinds.get(ALPHA)).toEqual({ kind: "checkout" });
  for (const name of names) if (name !== ALPHA) expect(kinds.get(name)).toEqual({ kind: "store" });
  for (const name of ["seedstrap.json", "sbom.cdx.json"]) {
    expect(readFileSync(join(target, name), "utf8")).not.toContain(dir);
  }
});

test("buildMedia() leaves the target unchanged if a distfile cannot be fetched", async () => {
  const nothing = await bench.status(404);
  const { request, mirror, target } = scene({}, { url: nothing.url });
  const fresh = { ...request, target: `${target}-2` };
  await buildMedia(request);
  const before = outputs(target);
  writeFileSync(join(mirror, BETA), "wrong");
  for (const wanted of [request, fresh]) {
    const error = await rejection(buildMedia(wanted));
    expect(error).toMatchObject({ kind: "fetch", exitCode: 4 });
    expect(error.message).toContain(BETA);
    expect(error.message).toContain("404");
  }
  expect(outputs(target)).toEqual(before);
  expect(readdirSync(join(target, ".seedstrap"))).toEqual(["made"]);
  expect(existsSync(`${target}-2/init.img`)).toBe(false);
});

test("buildMedia() refuses a broken limit without --force before anything is fetched", async () => {
  const nothing = await bench.status(404);
  const { request, mirror, target } = scene({ qemuRamMib: 100 }, { url: nothing.url });
  const notices: string[] = [];
  const events = { onNotice: (text: string) => notices.push(text) };
  const held = join(mirror, BETA);
  const body = readFileSync(held);
  rmSync(held);
  expect(await rejection(buildMedia(request, events))).toMatchObject({ kind: "limit" });
  expect(nothing.seen).toEqual([]);
  expect(existsSync(target)).toBe(false);
  writeFileSync(held, body);
  await buildMedia({ ...request, force: true }, events);
  expect(notices[0]).toStartWith("--force: memory that builder-hex0 needs: 100 MiB");
  expect(existsSync(join(target, "init.img"))).toBe(true);
});

test("buildMedia() checks the limits again once sizes are known", async () => {
  const server = await bench.files(sampleBody(900_001, 2));
  const mini = { url: server.url, distfileBytes: 900_000, kexecKib: 5000 };
  const { request, mirror, target } = scene({}, mini);
  rmSync(join(mirror, BETA));
  expect(await rejection(buildMedia(request))).toMatchObject({ kind: "limit" });
  expect(existsSync(join(target, "init.img"))).toBe(false);
  rmSync(join(mirror, "gamma-3.0.tar.gz"));
  expect(await rejection(buildMedia(request))).toMatchObject({ kind: "limit" });
});

test("buildMedia() refuses a target that it did not make, before anything is fetched", async () => {
  const nothing = await bench.status(404);
  const { request, mirror, target } = scene({}, { url: nothing.url });
  rmSync(join(mirror, BETA));
  mkdirSync(target);
  writeFileSync(join(target, "init.img"), "mine");
  expect(await rejection(buildMedia(request))).toMatchObject({ kind: "target", exitCode: 7 });
  expect(nothing.seen).toEqual([]);
  expect(readFileSync(join(target, "init.img"), "utf8")).toBe("mine");
});

test("buildMedia() stops when its signal is aborted, and leaves the target unchanged", async () => {
  const { request, target } = scene({}, { ramdiskKib: 20_000, distfileBytes: 2_000_000 });
  const big = { ...request, force: true };
  await buildMedia(big);
  const before = outputs(target);
  const stop = new AbortController();
  const building = buildMedia(big, after(5e6, () => stop.abort()), stop.signal);
  expect(await rejection(building)).toMatchObject({ kind: "interrupt" });
  expect(outputs(target)).toEqual(before);
  expect(readdirSync(join(target, ".seedstrap"))).toEqual(["made"]);
});

test("buildMedia() pads for real machines, and extends for QEMU", async () => {
  const bare = scene({ mode: "bare-metal" });
  expect((await buildMedia(bare.request)).images[0]).toMatchObject({
    sizeBytes: 2 * 1024 * 1024,
    dataBytes: 2 * 1024 * 1024,
  });
  const qemu = scene({ targetSizeMib: 77 });
  expect((await buildMedia(qemu.request)).images[0]!.sizeBytes).toBe(77 * 1024 * 1024);
});

test("readRecord() reports what is missing or cannot be parsed", () => {
  const dir = temp.make();
  expect(faultOf(() => readRecord(dir))).toStartWith(`Cannot find a built target in ${dir}`);
  for (const text of ["", "{", "null", "[]", "{}", '{"format":"seedstrap-target/1"}']) {
    writeFileSync(join(dir, "seedstrap.json"), text);
    expect(faultOf(() => readRecord(dir))).toStartWith("Cannot ");
  }
});
