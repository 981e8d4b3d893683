// SPDX-License-Identifier: MIT
/**
 * Readers of images and bundles.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256Of } from "../../src/bytes.ts";
import { describeContent } from "../../src/device/content.ts";
import { bootImage } from "../../src/format/boot.ts";
import {
  BUNDLE_DIR,
  type BundleMember,
  bundleSegments,
  INDEX_PATH,
  layOut,
  makeIndex,
  SUMS_PATH,
} from "../../src/format/bundle.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { LINUX_PARTITION, mbr, readMbr } from "../../src/format/mbr.ts";
import { containerImage, layerSegments } from "../../src/format/oci.ts";
import { payload } from "../../src/format/payload.ts";
import { memorySource } from "../../src/format/reader.ts";
import { MIB, textSegment } from "../../src/format/segment.ts";
import { srcfs } from "../../src/format/srcfs.ts";
import { readLayout } from "../../src/image/bundle.ts";
import { verifyBundle } from "../../src/image/bundle_verify.ts";
import { diffViews } from "../../src/image/diff.ts";
import { type ImageView, plainPath } from "../../src/image/types.ts";
import { digestEntry, openView } from "../../src/image/view.ts";
import { checkImage } from "../../src/job/verify.ts";
import { startOf } from "../../src/plan/options.ts";
import { statementText } from "../../src/record/statement.ts";
import { openImage } from "../../src/source/file.ts";
import { extract } from "../../src/write/extract.ts";
import fc from "fast-check";
import { sampleBody } from "../../tests/fetch/servers.ts";
import { record } from "../../tests/record/records.ts";
import { oneDisk } from "../../tests/support/one_disk.ts";
import { writeFiles } from "../../tests/support/files.ts";
import {
  assertBounded,
  bytesOfSegments,
  concat,
  watchedSource,
} from "../../tests/support/sources.ts";
import { STAGE1_TEXT } from "../../tests/support/tree.ts";
import { repairTar } from "./archives.ts";
import { demand, isSame, type Prepared, type Reader, soundsOf } from "./reader.ts";

/** Content of sound images. */
const FILES: Readonly<Record<string, Uint8Array>> = {
  "a.txt": new TextEncoder().encode("one\ntwo\nthree\n"),
  "dir/b": sampleBody(511),
  "dir/c d": sampleBody(5000, 2),
  "empty": new Uint8Array(),
  "ü": sampleBody(513, 3),
};
/** Paths that lead out of a directory. */
const OUTSIDE = { ...FILES, "../up": FILES["ü"]!, "dir/../../up": FILES["ü"]!, "/up": FILES["ü"]! };
const WORDS = ["src ", "src 0 ./a\n", "LBPAYLD1", "../x", "/etc/x", "a/../../x", "55aa", "\n"];

function bootBytes(files = FILES): Uint8Array {
  const entries = Object.entries(files).map(([path, bytes]) => ({
    path: `./${path}`,
    body: { kind: "bytes", bytes } as const,
  }));
  const image = bytesOfSegments(bootImage({
    stage1: assembleHex0(new TextEncoder().encode(STAGE1_TEXT), "stage1"),
    stage2: textSegment("90 F4\n".repeat(100)),
    srcfs: srcfs([{ path: "." }, { path: "./dir" }, ...entries], ["hex0 /a /b"]),
  }));
  return image.subarray(0, 12_000);
}

function payloadBytes(layout: 64 | 32): Uint8Array {
  const files = Object.entries(FILES).map(([path, bytes]) => ({
    name: path.replaceAll("/", "-"),
    body: { kind: "bytes", bytes } as const,
  }));
  return bytesOfSegments(payload(files, layout)).subarray(0, 8000);
}

function bundleBytes(): Uint8Array {
  const members: BundleMember[] = [
    { kind: "directory", path: "dir" },
    { kind: "directory", path: BUNDLE_DIR },
    ...Object.entries(FILES).map(([path, bytes]) => ({
      kind: "file" as const,
      path,
      size: bytes.length,
      sha256: sha256Of(bytes),
      isExecutable: bytes.length % 2 === 1,
    })),
  ];
  const distfile = { name: "b", sha256: sha256Of(FILES["dir/b"]!), urls: ["http://a.example/b"] };
  const distfiles = [{ ...distfile, steps: ["s-1"], isBundled: true }];
  const layout = layOut(makeIndex("1.0", distfiles, members));
  return bytesOfSegments(
    bundleSegments(layout, (path) => [{ kind: "bytes", bytes: FILES[path]! }]),
  );
}

/** The image of a container. Most damage is in its layer, which no digest keeps from being read. */
function containerBytes(): Uint8Array {
  const layer = layerSegments([
    { path: "dir", mode: 0o755 },
    { path: "link", mode: 0o777, target: "../../etc/passwd" },
    { path: "n".repeat(300), mode: 0o4755 },
    ...Object.entries(FILES).map(([path, bytes]) => ({
      path,
      mode: 0o644,
      body: { kind: "bytes", bytes } as const,
    })),
  ]);
  const digest = sha256Of(bytesOfSegments(layer));
  const settings = { architecture: "386", entrypoint: ["/seed"], environment: ["PATH=/bin"] };
  return bytesOfSegments(containerImage(layer, digest, settings).segments);
}

/** File systems that mke2fs has made: of each type, with blocks of both sizes. */
function extBytes(dir: string): Uint8Array[] {
  const tree = join(dir, "tree");
  writeFiles(tree, {
    ...FILES,
    "deep/1/2/3/file": "deep",
    "large": sampleBody(70_000, 4),
    ...Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`many/${"n".repeat(60)}${i}`, ""])),
  });
  spawnSync("ln", ["-s", "../../../etc/passwd", join(tree, "link")]);
  spawnSync("ln", ["-s", "s".repeat(80), join(tree, "slow")]);
  spawnSync("ln", [join(tree, "large"), join(tree, "hard")]);
  const id = "00000000-0000-4000-8000-000000000000";
  return [["ext2", "1024"], ["ext3", "1024"], ["ext4", "1024"], ["ext4", "4096"]].map(
    ([type = "", block = ""], i) => {
      const path = join(dir, `${i}.img`);
      const size = type === "ext3" ? "2M" : "400K";
      const args = ["-q", "-F", "-t", type, "-b", block, "-N", "128", "-U", id];
      const journal = type === "ext3" ? [] : ["-O", "^has_journal"];
      const options = ["-E", `hash_seed=${id}`, ...journal, "-d", tree, path, size];
      const ran = spawnSync("mke2fs", [...args, ...options], {
        env: { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` },
      });
      if (ran.status !== 0) throw new Error(`mke2fs: ${ran.error?.message ?? ran.stderr}`);
      return readFileSync(path);
    },
  );
}

function diskBytes(fileSystem: Uint8Array): Uint8Array {
  const table = mbr({
    isBootable: false,
    type: LINUX_PARTITION,
    startSector: 8,
    sectorCount: fileSystem.length / 512,
  }, 7);
  return concat([table, new Uint8Array(7 * 512), fileSystem]);
}

/** Content of every file by path, as the reader has it. */
function contentOf(view: ImageView): Map<string, string> {
  const content = new Map<string, string>();
  for (const entry of view.entries()) {
    if (entry.kind !== "file" && entry.kind !== "empty") continue;
    content.set(plainPath(entry.path), digestEntry(view, entry));
  }
  return content;
}

/** Reads everything of an image that can be read. */
async function readAll(bytes: Uint8Array, sound: Uint8Array, compares: boolean): Promise<void> {
  const source = watchedSource(bytes);
  describeContent(source, []);
  const view = openView(source);
  let count = 0;
  let first: string | undefined;
  for (const entry of view.entries()) {
    count++;
    first ??= entry.kind === "command" ? undefined : plainPath(entry.path);
    let size = 0;
    for (const part of view.read(entry)) size += part.length;
    if (entry.kind === "file") demand(size === entry.size, "a file has its size");
  }
  demand(count <= bytes.length, "no more entries than bytes");
  if (first !== undefined && first !== "") view.find(first);
  view.verify();
  // Those of ext have a limit of their own.
  assertBounded(source, view.kind === "disk" ? 40 : 12 + count);
  if (!compares) return;
  const before = openView(memorySource(sound));
  const differences = await diffViews(before, view);
  if (differences.length > 0) return;
  const [old, now] = [contentOf(before), contentOf(view)];
  // The root is not compared.
  old.delete("");
  now.delete("");
  const isEqual = [...old, ...now].every(([path]) => old.get(path) === now.get(path));
  demand(isEqual, "what differs in content is not equal");
}

function imagesIn(prepare: (dir: string) => Uint8Array[]): Reader["prepare"] {
  return (dir) => ({
    sounds: soundsOf(prepare(dir), { words: WORDS }),
    read: (bytes, sound, random) => readAll(bytes, sound.bytes, random.below(3) === 0),
  });
}

const boot: Reader = {
  name: "boot",
  prepare: imagesIn(() => [bootBytes(), oneDisk(bootBytes(), payloadBytes(64))]),
};
const payloads: Reader = {
  name: "payload",
  prepare: imagesIn(() => [payloadBytes(64), payloadBytes(32)]),
};
const container: Reader = {
  name: "container",
  async prepare(dir) {
    const prepared = await imagesIn(() => [containerBytes()])(dir);
    return { ...prepared, repair: repairTar };
  },
};
const ext: Reader = {
  name: "ext",
  prepare: imagesIn((dir) => {
    const all = extBytes(dir);
    return [...all, diskBytes(all[0]!)];
  }),
};

const table: Reader = {
  name: "mbr",
  prepare: () => ({
    sounds: soundsOf([diskBytes(new Uint8Array(4096)), bootBytes().subarray(0, 1024)]),
    read(bytes) {
      const source = memorySource(bytes);
      describeContent(source, []);
      for (const { number, startSector, sectorCount } of readMbr(source).partitions) {
        demand(number >= 1 && number <= 4 && startSector > 0 && sectorCount > 0, "a partition");
      }
    },
  }),
};

/** An image file beside the record of its build. */
const recorded: Reader = {
  name: "recorded",
  prepare(dir) {
    const sounds = soundsOf(
      [bootBytes(), payloadBytes(64), payloadBytes(32), oneDisk(bootBytes(), payloadBytes(64))],
      { words: WORDS },
    );
    const sample = fc.sample(record, { seed: 1, numRuns: 100 }).find(({ options }) =>
      startOf(options) === "builder-hex0"
    );
    const path = join(dir, "init.img");
    return {
      sounds,
      async read(bytes, sound) {
        const view = openView(memorySource(sound.bytes));
        const files = [...view.entries()].flatMap((entry) =>
          entry.kind === "file"
            ? [{
              path: entry.path,
              origin: "tree" as const,
              size: entry.size,
              sha256: digestEntry(view, entry),
            }]
            : []
        );
        const image = {
          name: "init.img",
          role: view.kind === "boot" ? "boot" as const : "payload" as const,
          dataBytes: sound.bytes.length,
          sizeBytes: sound.bytes.length,
          sha256: sha256Of(sound.bytes),
          files,
        };
        const text = statementText({ ...sample!, images: [image] });
        writeFileSync(join(dir, "seedstrap.json"), text);
        writeFileSync(path, bytes);
        const source = openImage(path);
        try {
          await checkImage(openView(source), source);
        } finally {
          source.close();
        }
        demand(isSame(bytes, sound.bytes), "what was changed is not as it was built");
      },
    };
  },
};

/** Everything of an image goes into a directory, and nothing outside of it. */
const extraction: Reader = {
  name: "extract",
  prepare(dir) {
    const all = extBytes(dir);
    const home = join(dir, "home");
    const out = join(home, "out");
    return {
      sounds: [
        ...soundsOf([bootBytes(), bootBytes(OUTSIDE)], { words: WORDS }),
        ...soundsOf([payloadBytes(64), payloadBytes(32)], { words: WORDS }),
        ...soundsOf(all, { words: WORDS }),
        ...soundsOf([bundleBytes()], { words: WORDS }),
      ],
      async read(bytes) {
        rmSync(home, { recursive: true, force: true });
        mkdirSync(out, { recursive: true });
        writeFileSync(join(home, "canary"), "as it was");
        try {
          const view = openView(memorySource(bytes));
          await extract(view, out, { isDurable: false });
        } finally {
          demand(readdirSync(home).sort().join() === "canary,out", "nothing is made outside");
          demand(readFileSync(join(home, "canary"), "utf8") === "as it was", "nothing is written");
          for (const path of readdirSync(out, { recursive: true, encoding: "utf8" })) {
            const stat = lstatSync(join(out, path));
            const isPlain = stat.isFile() || stat.isDirectory() || stat.isSymbolicLink();
            demand(isPlain, `only files, directories and links: ${path}`);
            demand(stat.isSymbolicLink() || (stat.mode & 0o7000) === 0, `no setuid: ${path}`);
          }
        }
      },
    };
  },
};

/** Gives SHA256SUMS the digest of the index, and of the files of it the digests that they have. */
function repairBundle(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes);
  const header = text.indexOf(`${INDEX_PATH}\0`);
  const size = header < 0 ? NaN : parseInt(text.toString("latin1", header + 124, header + 135), 8);
  const line = text.indexOf(`  ${INDEX_PATH}\n`);
  if (!(size < bytes.length) || line < 64) return bytes;
  text.write(sha256Of(text.subarray(header + 512, header + 512 + size)), line - 64);
  return text;
}

const bundle: Reader = {
  name: "bundle",
  prepare(): Prepared {
    const whole = bundleBytes();
    return {
      sounds: soundsOf([whole], {
        words: [...WORDS, SUMS_PATH, INDEX_PATH, '"kind"', '"directory"'],
      }),
      repair: repairBundle,
      async read(bytes, sound) {
        const source = watchedSource(bytes);
        const { faults } = await verifyBundle(source);
        for (const { offset, size } of faults) {
          demand(Number.isSafeInteger(offset + size) && offset >= 0 && size >= 0, "a run of bytes");
        }
        const isEqual = isSame(bytes, sound.bytes);
        // One whose index and sums were made again may be sound, with other texts in the index.
        const index = (of: Uint8Array) => of.subarray(0, bytes.length - 8 * 1024);
        const isOther = !isSame(index(bytes), index(sound.bytes));
        demand(isEqual || faults.length > 0 || isOther, "what was changed is not verified");
        for (const { member, dataOffset, size } of readLayout(memorySource(bytes)).members) {
          demand(!member.path.split("/").includes("..") && !member.path.startsWith("/"), "a path");
          demand(dataOffset + size <= bytes.length, "content is in the bundle");
          if (faults.length > 0 || member.kind !== "file") continue;
          const content = sha256Of(bytes.subarray(dataOffset, dataOffset + size));
          demand(content === member.sha256, `content as the index says: ${member.path}`);
        }
        demand(source.maxRead <= Math.max(MIB, bytes.length), "memory is bounded");
      },
    };
  },
};

export const imageReaders: readonly Reader[] = [
  table,
  boot,
  payloads,
  container,
  ext,
  bundle,
  recorded,
  extraction,
];
