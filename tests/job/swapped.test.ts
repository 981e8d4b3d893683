// SPDX-License-Identifier: MIT
/** Files of a checkout that are swapped while a build is on its way. */
import { afterEach, expect, test } from "bun:test";
import {
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { type FileSegment, fileSegment } from "../../src/format/segment.ts";
import { digestOne } from "../../src/hash/pool.ts";
import { buildMedia, type BuildRequest } from "../../src/job/build.ts";
import { lstatIfThere } from "../../src/runtime/stat.ts";
import { digestTreeFile, readTreeFile, walkTree } from "../../src/tree/checkout.ts";
import { writeDirectory } from "../../src/write/directory.ts";
import { writeImage } from "../../src/write/writer.ts";
import { rejection } from "../fetch/harness.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { start, testWith } from "../support/run.ts";
import { buildOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const OWN = "echo of this step\n";
const SECRET = "a secret of root!\n";

/** A checkout with one step, a file outside of the same length, and the segment of the step. */
function scene() {
  const dir = temp.make();
  writeFiles(dir, { secret: SECRET, "tree/steps/manifest": "", "tree/steps/a/pass1.sh": OWN });
  const root = join(dir, "tree");
  const [entry] = walkTree(root, "steps/a");
  const segment = fileSegment({ ...entry!, path: entry!.source });
  return { dir, root, step: entry!.source, secret: join(dir, "secret"), segment };
}

function copy(segment: FileSegment, path: string): Promise<string> {
  return digestOne({ segment, kind: "tree", to: { kind: "file", path, mode: 0o644 } });
}

/** Each way in which a build reads a file of a checkout; none may leave anything of it. */
const readers: [string, (segment: FileSegment, out: string) => Promise<unknown>][] = [
  ["an image", (segment, out) => writeImage(out, [segment], { sizeBytes: segment.sizeBytes })],
  ["a file of a root", copy],
  ["a root", (body, out) => writeDirectory(out, [{ path: "f", body, isExecutable: false }])],
  ["a digest", (segment) => digestOne({ segment, kind: "tree" })],
];

/** What may be in place of a step by then. */
const swaps: [string, (step: string, secret: string) => void, string][] = [
  ["a link to the outside", (step, secret) => symlinkSync(secret, step), "another file is in its"],
  ["a hard link", (step, secret) => linkSync(secret, step), "another file is in its place now"],
  ["another file", (step) => writeFileSync(step, OWN.toUpperCase()), "another file is in its"],
  ["a fifo", (step) => void Bun.spawnSync(["mkfifo", step]), "it is no regular file"],
  ["a directory", (step) => mkdirSync(step), "it is no regular file"],
  ["a device", (step) => symlinkSync("/dev/zero", step), "it is no regular file"],
];

for (const [what, read] of readers) {
  testWith("mkfifo")(`${what} has only the file that the walk has found`, async () => {
    for (const [, swap, why] of swaps) {
      const { dir, step, secret, segment } = scene();
      // Kept, as its inode could be used again.
      renameSync(step, `${step}.old`);
      swap(step, secret);
      const error = await rejection(read(segment, join(dir, "out")));
      expect(error).toMatchObject({ kind: "tree", where: step });
      expect(error.message).toContain(step);
      expect(error.message).toContain(why);
      // A killed writer would leave what it has written.
      const places = [join(dir, "out"), join(dir, "out/f")];
      for (const left of places.filter((place) => lstatIfThere(place)?.isFile())) {
        expect(readFileSync(left, "utf8")).not.toContain("secret");
      }
    }
    const { dir, segment } = scene();
    await read(segment, join(dir, "out"));
  });
}

test("a link inside of the checkout is read, and not when it has another target by then", async () => {
  const { dir, root, secret } = scene();
  const link = join(root, "steps/a/link");
  symlinkSync("pass1.sh", link);
  const entry = walkTree(root, "steps/a").find(({ path }) => path === "link")!;
  const segment = fileSegment({ ...entry, path: entry.source });
  await copy(segment, join(dir, "out"));
  expect(readFileSync(join(dir, "out"), "utf8")).toBe(OWN);
  rmSync(link);
  symlinkSync(secret, link);
  const error = await rejection(copy(segment, join(dir, "out2")));
  expect(error.message).toContain("another file is in its place now");
});

/** Puts a file and a link to the outside into one place, by turns, as fast as it can. */
const RACER = `
import { linkSync, renameSync, symlinkSync } from "node:fs";
const [step, kept, secret] = process.argv.slice(2);
console.log("begun");
for (;;) {
  symlinkSync(secret, step + "~");
  renameSync(step + "~", step);
  linkSync(kept, step + "~");
  renameSync(step + "~", step);
}
`;

test("foreign content does not get into an image while a process swaps a step", async () => {
  const dir = temp.make();
  const files = { "steps/alpha-1.0/pass1.sh": OWN };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ files }));
  const [secret, kept, racer] = ["secret", "kept", "racer.ts"].map((name) => join(dir, name));
  writeFiles(dir, { secret: SECRET, kept: OWN, "racer.ts": RACER });
  const step = join(tree, "steps/alpha-1.0/pass1.sh");
  const child = start([process.execPath, racer!, step, kept!, secret!]);
  await child.stdout.getReader().read();
  const options = buildOptions({ mirrors: [{ kind: "directory", path: mirror }] });
  const store = join(dir, "store");
  try {
    for (let round = 0; round < 40; round++) {
      const target = join(dir, `target${round}`);
      const request: BuildRequest = { tree, options, store, target, force: false, jobs: 1 };
      try {
        await buildMedia(request);
        expect(readFileSync(join(target, "init.img")).includes(SECRET)).toBe(false);
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        expect(error.kind).toBe("tree");
        expect(error.where).toContain("pass1.sh");
      }
      rmSync(target, { recursive: true, force: true });
    }
    for (let round = 0; round < 2000; round++) {
      for (const read of [readTreeFile, digestTreeFile]) {
        try {
          const got = read(tree, "steps/alpha-1.0/pass1.sh");
          if (typeof got !== "string") expect(new TextDecoder().decode(got)).toBe(OWN);
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          expect(error.kind).toBe("tree");
        }
      }
    }
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
}, 60_000);
