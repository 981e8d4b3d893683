// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { chooseTarget } from "../../src/device/candidates.ts";
import { writeToDevice } from "../../src/device/write.ts";
import { openView } from "../../src/image/view.ts";
import { buildMedia } from "../../src/job/build.ts";
import { createBundle } from "../../src/job/bundle.ts";
import { reproduceBuild } from "../../src/job/reproduce.ts";
import { checkImage, isAsBuilt } from "../../src/job/verify.ts";
import { type ImageToWrite, imageToWrite } from "../../src/job/write.ts";
import { UNWATCHED } from "../../src/progress.ts";
import { readRecord } from "../../src/record/read.ts";
import { statementText } from "../../src/record/statement.ts";
import type { RecordedImage } from "../../src/record/types.ts";
import { openImage } from "../../src/source/file.ts";
import { rejection } from "../fetch/harness.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { buildOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const NAMES = ["init.img", "payload.img"];

/** Builds a target with two images. */
async function scene(changes: Partial<Parameters<typeof buildOptions>[0]> = {}) {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(dir, miniTree({ importsPayload: true }));
  const mirrors = [{ kind: "directory", path: mirror } as const];
  const options = buildOptions({ mode: "qemu", externalSources: true, mirrors, ...changes });
  const target = join(dir, "target");
  const build = { tree, options, store: join(dir, "store"), target, force: false, jobs: 4 };
  await buildMedia(build);
  return { dir, tree, target, build, mirrors };
}

async function check(target: string, name: string) {
  const source = openImage(join(target, name));
  try {
    return await checkImage(openView(source), source);
  } finally {
    source.close();
  }
}

function poke(path: string, offset: number, bytes: string): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, offset);
  closeSync(file);
}

/** Replaces the digests of the images in a record. */
function rewrite(target: string, change: (image: RecordedImage) => RecordedImage): void {
  const record = readRecord(target);
  const images = record.images.map(change);
  writeFileSync(join(target, "seedstrap.json"), statementText({ ...record, images }));
}

/** What records had before there were digests of pieces. */
function withoutPieces(target: string): void {
  rewrite(target, ({ piecesSha256: _, ...image }) => {
    const bytes = readFileSync(join(target, image.name)).subarray(0, image.dataBytes);
    return { ...image, sha256: sha256(bytes) };
  });
}

const asBuilt = (target: string) =>
  Promise.all(
    readRecord(target).images.map((image) => isAsBuilt(join(target, image.name), image, UNWATCHED)),
  );

test("a byte between the files of an image that has changed is found, and so is one in a file", async () => {
  const { target } = await scene();
  for (const name of NAMES) await check(target, name);
  expect(await asBuilt(target)).toEqual([true, true]);
  // The boot sector has bytes that nothing in its structure is bound to.
  poke(join(target, "init.img"), 300, "x");
  expect((await rejection(check(target, "init.img"))).message).toEndWith(
    "the bytes between its files are not as they were built",
  );
  const payload = join(target, "payload.img");
  const source = openImage(payload);
  const [entry] = openView(source).entries();
  source.close();
  if (entry?.kind !== "file") throw new Error("no file in the payload");
  poke(payload, entry.dataOffset! + 1, "\x00");
  const { message, where } = await rejection(check(target, "payload.img"));
  expect(message).toContain(`SHA-256 of ${entry.path} is`);
  expect(where).toBe(`${payload}, offset ${entry.dataOffset}`);
  expect(await asBuilt(target)).toEqual([false, false]);
});

test("an image that no digest tells of is refused where it has changed meanwhile", async () => {
  const { dir, target } = await scene();
  const path = join(dir, "copy.img");
  copyFileSync(join(target, "payload.img"), path);
  const drive = join(dir, "drive");
  writeFileSync(drive, new Uint8Array(statSync(path).size));
  const write = (image: ImageToWrite) => writeToDevice(image, chooseTarget(drive, true), true);
  const whole = imageToWrite(path);
  await write(whole);
  expect(readFileSync(drive)).toEqual(readFileSync(path));
  poke(path, 5000, "x");
  const { kind, message } = await rejection(write(whole));
  expect(kind).toBe("verify");
  expect(message).toContain("it has changed since the write began");
  expect(message).toContain("does not boot");
});

test("a record from before there were pieces is verified, written, bundled and reproduced", async () => {
  const { dir, tree, target, build, mirrors } = await scene();
  withoutPieces(target);
  for (const name of NAMES) await check(target, name);
  expect(await asBuilt(target)).toEqual([true, true]);
  expect(imageToWrite(join(target, "init.img")).segments.length).toBeLessThan(5);
  const { store } = build;
  const output = join(dir, "lb.tar");
  const request = {
    tree,
    store,
    mirrors,
    jobs: 4,
    preNetwork: false,
    hasBinary: false,
    isOffline: true,
  };
  await createBundle({ ...request, output, images: target, partBytes: undefined });
  const again = { record: target, tree, mirrors, store, keep: false, force: false, jobs: 4 };
  expect(await reproduceBuild(again)).toMatchObject({ same: true, compared: 2 });

  poke(join(target, "init.img"), 300, "x");
  expect((await rejection(check(target, "init.img"))).message).toContain("SHA-256 is");
  expect(await asBuilt(target)).toEqual([false, true]);
  rewrite(target, (image) => ({ ...image, sha256: "0".repeat(64) }));
  expect(await reproduceBuild(again)).toMatchObject({ same: false, compared: 2 });
});

test("a SHA-256 of the whole image that was asked for is verified, too", async () => {
  const { target } = await scene({ sha256: true });
  const [boot, payload] = readRecord(target).images;
  const bytes = readFileSync(join(target, "init.img"));
  expect(boot!.sha256).toBe(sha256(bytes.subarray(0, boot!.dataBytes)));
  expect(payload!.sha256).toBe(sha256(readFileSync(join(target, "payload.img"))));
  for (const name of NAMES) await check(target, name);
  rewrite(target, (image) => ({ ...image, sha256: "0".repeat(64) }));
  for (const name of NAMES) {
    const { message } = await rejection(check(target, name));
    expect(message).toEndWith(`it was built with ${"0".repeat(64)}`);
  }
});
