// SPDX-License-Identifier: MIT
import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { bootImage } from "../../src/format/boot.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { memorySource } from "../../src/format/reader.ts";
import { GIB, textSegment } from "../../src/format/segment.ts";
import { srcfs, type SrcfsEntry } from "../../src/format/srcfs.ts";
import { extract, type ExtractOptions } from "../../src/write/extract.ts";
import { openImage } from "../../src/source/file.ts";
import { openDirectoryView } from "../../src/image/directory.ts";
import { type ImageView, type ReadView } from "../../src/image/types.ts";
import { openView } from "../../src/image/view.ts";
import { UNWATCHED } from "../../src/progress.ts";
import { writeOutputDirectory } from "../../src/write/output.ts";
import { sha256 } from "../fetch/servers.ts";
import { describeTree, makeFileSystem, writeHardTree } from "../support/disks.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { bytesOfSegments } from "../support/sources.ts";
import { STAGE1_TEXT } from "../support/tree.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

/** A boot image of these paths; the content of a file is its path. */
function boot(paths: readonly string[], directories: readonly string[] = []): ImageView {
  const stage1 = assembleHex0(new TextEncoder().encode(STAGE1_TEXT), "stage1");
  const entries: SrcfsEntry[] = [
    ...directories.map((path) => ({ path })),
    ...paths.map((path, i) => ({ path, body: textSegment(`${i} ${path}`) })),
  ];
  const image = bootImage({ stage1, stage2: textSegment("90"), srcfs: srcfs(entries, ["x /c/d"]) });
  return openView(memorySource(bytesOfSegments(image)));
}

/** Extracts into `out` of a new directory, and returns that directory. */
async function extractTo(view: ImageView, options: ExtractOptions = {}): Promise<string> {
  const dir = temp.make();
  await writeOutputDirectory(join(dir, "out"), (part) => extract(view, part, options));
  return dir;
}

async function failureOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => "nothing was wrong",
    (error) => `${error.kind}: ${error.message}`,
  );
}

test.each(["../x", "./../x", "a/../../x", "/../x", "a/..", "a//b", "./a/./b", "..", "a/."])(
  "a boot image with the path %j is refused, and nothing is left",
  async (path) => {
    const dir = temp.make();
    const out = join(dir, "in/out");
    mkdirSync(join(dir, "in"));
    const failure = await failureOf(
      writeOutputDirectory(out, (part) => extract(boot(["fine", path]), part)),
    );
    const why = path.includes("//")
      ? "a part of its path is empty"
      : "it leads out of the directory";
    expect(failure).toBe(`format: Cannot extract ${JSON.stringify(path)}: ${why}`);
    expect(readdirSync(join(dir, "in"))).toEqual([]);
    expect(readdirSync(dir)).toEqual(["in"]);
  },
);

test("the last file of a name wins, a directory in place of a file does not", async () => {
  const dir = await extractTo(boot(["./a", "b", "/a"]));
  expect(readFileSync(join(dir, "out/a"), "utf8")).toBe("2 /a");
  expect(await failureOf(extractTo(boot(["a", "a/b"])))).toContain(
    "conflicts with an entry before it",
  );
});

test("an empty entry of a boot image is a directory if another path is below it", async () => {
  const view = boot(["./e/f"], [".", "./e", "./c", "./g"]);
  const dir = await extractTo(view);
  const isDirectory = (name: string) => lstatSync(join(dir, "out", name)).isDirectory();
  expect(["e", "c", "g"].map(isDirectory)).toEqual([true, true, false]);
  const known = await extractTo(view, { emptyFiles: new Set() });
  expect(lstatSync(join(known, "out/g")).isDirectory()).toBe(true);
});

test("only the given paths are extracted, with their parents; a missing path is an error", async () => {
  const view = boot(["./a/b", "./a/c", "./ab", "./d"]);
  const dir = await extractTo(view, { paths: ["a", "/d"] });
  expect(readdirSync(join(dir, "out"), { recursive: true }).sort()).toEqual(
    ["a", "a/b", "a/c", "d"],
  );
  expect(await failureOf(extractTo(view, { paths: ["a", "e"] }))).toStartWith(
    'usage: Cannot find "e"',
  );
});

test("a directory that is not empty is refused, an empty one is used", async () => {
  const view = boot(["./a"]);
  const dir = temp.make();
  const fill = (place: string) => writeOutputDirectory(place, (part) => extract(view, part));
  mkdirSync(join(dir, "empty"));
  symlinkSync("empty", join(dir, "link"));
  await fill(join(dir, "link"));
  expect(readdirSync(join(dir, "empty"))).toEqual(["a"]);
  expect(statSync(join(dir, "empty")).mode % 0o1000).toBe(0o755);
  expect(lstatSync(join(dir, "link")).isSymbolicLink()).toBe(true);
  expect(await failureOf(fill(join(dir, "empty")))).toContain("it is not empty");
  writeFileSync(join(dir, "file"), "");
  expect(await failureOf(fill(join(dir, "file")))).toContain("it is not a directory");
  expect(await failureOf(fill(join(dir, "none/out")))).toStartWith("target: ");
  expect(readdirSync(dir).sort()).toEqual(["empty", "file", "link"]);
});

test("an interrupt leaves nothing", async () => {
  const dir = temp.make();
  const controller = new AbortController();
  const view = boot(["a", "b"]);
  const interrupted: ImageView = {
    ...view,
    *read(entry) {
      yield* view.read(entry);
      controller.abort();
    },
  };
  const failure = await failureOf(
    writeOutputDirectory(
      join(dir, "out"),
      (part) => extract(interrupted, part, { signal: controller.signal }),
    ),
  );
  expect(failure).toBe("interrupt: Interrupted");
  expect(readdirSync(dir)).toEqual([]);
});

/** The same image in a file of this machine, of which threads read the contents. */
function inFile(view: ImageView): ImageView {
  const path = join(temp.make(), "image");
  const bytes = new Uint8Array(view.source.sizeBytes);
  view.source.read(0, bytes);
  writeFileSync(path, bytes);
  return openView(openImage(path));
}

test("what threads copy is as what is copied here, and is refused for the same reasons", async () => {
  const many = Array.from({ length: 40 }, (_, index) => `./d${index % 7}/f${index}`);
  const views: [ImageView, isRefused: boolean][] = [
    [boot([...many, "./x", "./d0/f0", "x", "./y/z"], [".", "./y", "./e"]), false],
    [boot(["a", "b/c", ...many]), false],
    [boot(["fine", ...many, "../x"]), true],
    [boot(["a", "a/b"]), true],
    [boot(["a", "b", "a/b", "a"]), true],
    [boot(["a/b", "a"]), true],
    [boot(["a", ...many, "d0"]), true],
    [boot(["a//b"]), true],
  ];
  for (const [view, isRefused] of views) {
    for (const options of [{}, { isDurable: true }, { emptyFiles: new Set(["e"]) }]) {
      const [here, there] = await Promise.all([view, inFile(view)].map(async (view) => {
        const out = join(temp.make(), "out");
        const fill = writeOutputDirectory(out, (part) => extract(view, part, options));
        const result = await fill.then((extracted) => extracted, (error) => String(error));
        return { result, tree: existsSync(out) && describeTree(out) };
      }));
      expect(there).toEqual(here!);
      expect(typeof here!.result).toBe(isRefused ? "string" : "object");
    }
  }
});

/** A directory of files with hard links, modes, times and holes. */
function filesWithLinks(): string {
  const dir = temp.make();
  writeFiles(dir, { "a/one": "1", "b/two": "2".repeat(700_000), "c": "" });
  linkSync(join(dir, "a/one"), join(dir, "a/link"));
  linkSync(join(dir, "a/one"), join(dir, "z"));
  linkSync(join(dir, "b/two"), join(dir, "b/zwei"));
  truncateSync(join(dir, "c"), 20_000_000);
  chmodSync(join(dir, "b/two"), 0o4710);
  chmodSync(join(dir, "a/one"), 0o400);
  utimesSync(join(dir, "b/two"), 1234567890, 1234567890);
  return dir;
}

test("hard links, modes, times and holes of a directory are as they were, with digests", async () => {
  const from = filesWithLinks();
  const dir = temp.make();
  const extracted = await extract(openDirectoryView(from), dir, { isDurable: true });
  expect(extracted).toMatchObject({ files: 6, directories: 2, bytes: 20_700_001, skipped: [] });
  const inode = (path: string) => statSync(join(dir, path)).ino;
  expect([inode("a/link"), inode("z")]).toEqual([inode("a/one"), inode("a/one")]);
  expect(inode("b/zwei")).toBe(inode("b/two"));
  const [one, two] = ["a/one", "b/two"].map((path) => lstatSync(join(dir, path)));
  expect([one!.mode & 0o7777, two!.mode & 0o7777]).toEqual([0o400, 0o710]);
  expect(two!.mtimeMs).toBe(1234567890_000);
  expect(statSync(join(dir, "c")).blocks).toBeLessThan(1000);
  const paths = ["a/link", "a/one", "b/two", "b/zwei", "c", "z"];
  expect([...extracted.digests.keys()].sort()).toEqual(paths);
  for (const path of paths) {
    const body = readFileSync(join(dir, path));
    expect(extracted.digests.get(path)).toEqual({ sha256: sha256(body), size: body.length });
    expect(body.equals(readFileSync(join(from, path)))).toBe(true);
  }
});

test("a file of a directory is only read if it is the one that was found", async () => {
  const swaps: ((place: string, outside: string) => void)[] = [
    (place, outside) => symlinkSync(outside, place),
    (place) => writeFileSync(place, "1"),
    (place) => mkdirSync(place),
  ];
  for (const swap of swaps) {
    const from = filesWithLinks();
    const outside = join(temp.make(), "outside");
    writeFileSync(outside, "1");
    const view = openDirectoryView(from);
    const place = join(from, "a/one");
    const swapped: ReadView = {
      ...view,
      *entries() {
        for (const entry of view.entries()) {
          if (entry.path === "/a/one") {
            renameSync(place, `${place}.old`);
            swap(place, outside);
          }
          yield entry;
        }
      },
    };
    expect(await failureOf(extract(swapped, temp.make(), { paths: ["a/one"] }))).toStartWith(
      `target: Cannot `,
    );
  }
});

test("an interrupt in the middle of a file leaves nothing", async () => {
  const from = temp.make();
  for (const name of ["a", "b"]) {
    writeFileSync(join(from, name), "");
    truncateSync(join(from, name), 64 * GIB);
  }
  const dir = temp.make();
  const controller = new AbortController();
  const { signal } = controller;
  const progress = { ...UNWATCHED, add: (bytes: number) => bytes > 1e6 && controller.abort() };
  const view = openDirectoryView(from);
  const fill = writeOutputDirectory(
    join(dir, "out"),
    (part) => extract(view, part, { signal, progress }),
  );
  expect(await failureOf(fill)).toBe("interrupt: Interrupted");
  expect(readdirSync(dir)).toEqual([]);
});

const hasTools = Bun.which("mke2fs") !== null;
if (!hasTools) console.log("skipped: extracting disks: mke2fs is not installed here");

describe.skipIf(!hasTools)("of a disk", () => {
  async function extracted(tree: string, size = "100M"): Promise<string> {
    const path = join(temp.make(), "disk.img");
    makeFileSystem(path, tree, { type: "ext4", size });
    const source = openImage(path);
    try {
      return await extractTo(openView(source), { except: (path) => path === "lost+found" });
    } finally {
      source.close();
    }
  }

  test("modes, links, times and holes are as they were", async () => {
    const tree = join(temp.make(), "tree");
    mkdirSync(tree);
    writeHardTree(tree);
    chmodSync(join(tree, "double"), 0o751);
    chmodSync(join(tree, "hollow"), 0o555);
    chmodSync(join(tree, "deep"), 0o500);
    linkSync(join(tree, "deep/1/2/3/4/5/6/7/8/9/file"), join(tree, "z"));
    const out = join(await extracted(tree), "out");
    expect(describeTree(out)).toEqual(describeTree(tree));
    const [direct, link] = ["direct", "hard link"].map((name) => statSync(join(out, name)));
    expect(direct!.ino).toBe(link!.ino);
    expect(direct!.mtimeMs).toBe(1234567890_000);
    expect(statSync(join(out, "triple")).blocks).toBeLessThan(1000);
    expect(readlinkSync(join(out, "fast"))).toBe("direct");
  });

  test("setuid, setgid and sticky are not restored", async () => {
    const tree = join(temp.make(), "tree");
    writeFiles(tree, { su: "x" });
    chmodSync(join(tree, "su"), 0o6755);
    const out = join(await extracted(tree, "8M"), "out");
    expect(lstatSync(join(out, "su")).mode % 0o10000).toBe(0o755);
  });

  testWith("mkfifo")("fifos and names in invalid UTF-8 are skipped, and reported", async () => {
    const tree = join(temp.make(), "tree");
    writeFiles(tree, { "fine": "x" });
    Bun.spawnSync(["mkfifo", join(tree, "pipe")]);
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/bad`), Buffer.of(0xff)]), "y");
    const path = join(temp.make(), "disk.img");
    makeFileSystem(path, tree, { size: "8M" });
    const source = openImage(path);
    const dir = temp.make();
    const { skipped, files } = await extract(openView(source), dir);
    source.close();
    expect(skipped).toEqual([
      { path: "/bad\udcff", why: "its name is not UTF-8" },
      { path: "/pipe", why: "it is a fifo" },
    ]);
    expect(files).toBe(1);
    expect(existsSync(join(dir, "pipe"))).toBe(false);
  });

  test("an entry is not extracted through a link that the disk has before it", async () => {
    const outside = temp.make();
    const tree = join(temp.make(), "tree");
    // Two names of the same length: one is renamed to the other on the disk.
    writeFiles(tree, { "trap2/file": "escaped" });
    symlinkSync(outside, join(tree, "trap1"));
    const path = join(temp.make(), "disk.img");
    makeFileSystem(path, tree, { type: "ext2", size: "1M" });
    const bytes = readFileSync(path);
    const at = bytes.indexOf("trap2");
    bytes.write("trap1", at);
    for (const order of [bytes, swapped(bytes, at)]) {
      const view = openView(memorySource(order));
      expect([...view.entries()].filter((entry) => entry.path === "/trap1")).toHaveLength(2);
      expect(await failureOf(extractTo(view))).toMatch(
        /^format: Cannot extract "\/?trap1": it conflicts with an entry before it/,
      );
      expect(readdirSync(outside)).toEqual([]);
    }
  });

  /** The two records of that name with their inodes exchanged. */
  function swapped(bytes: Buffer, at: number): Buffer {
    const copy = Buffer.from(bytes);
    const first = copy.indexOf("trap1");
    const other = first === at ? copy.indexOf("trap1", at + 1) : first;
    const [one, two] = [copy.readUInt32LE(at - 8), copy.readUInt32LE(other - 8)];
    copy.writeUInt32LE(two, at - 8);
    copy.writeUInt32LE(one, other - 8);
    return copy;
  }
});
