// SPDX-License-Identifier: MIT
/**
 * Reads a target of either program into text that can be compared.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { Buffer } from "node:buffer";
import { basename, join } from "node:path";
import process from "node:process";
import { readBootHeader } from "../../src/format/boot.ts";
import { type ByteSource, readRange } from "../../src/format/reader.ts";
import { MIB, SECTOR_BYTES } from "../../src/format/segment.ts";
import { openImage } from "../../src/source/file.ts";
import { digestRange, readImage } from "../../src/image/linear.ts";

/** An entry in a target. */
export interface Entry {
  /** Kind, mode if there are modes, size and digest. */
  readonly text: string;
  /** Its content, if it is one of {@link LOOKED_AT}. */
  readonly content?: string;
}

/** The content of a target. */
export interface Media {
  /**
   * Entries by path in the root that the machine starts in. Those on other images have the name of
   * the image and a colon before their path.
   */
  readonly entries: Map<string, Entry>;
  /** Other properties of the images: sizes, partitions, commands, in order. */
  readonly frame: readonly string[];
}

/** Files whose text is compared, not only their digest. */
const LOOKED_AT: readonly string[] = ["steps/bootstrap.cfg", "steps/manifest"];

/** Files that seedstrap keeps in a target for itself, or that mke2fs makes in every file system. */
const NOT_MEDIA: readonly string[] = [
  ".seedstrap",
  "seedstrap.json",
  "sbom.cdx.json",
  "lost+found",
];

const IMAGES: readonly string[] = ["init.img", "payload.img", "external.img", "disk.img"];

/**
 * Reads the target of a run.
 *
 * @param scratch Directory for files from file systems; it must not exist.
 */
export function readMedia(target: string, scratch: string): Media {
  const images = IMAGES.filter((name) => existsSync(join(target, name)));
  if (images.length === 0) return { entries: readTree(target), frame: [] };
  const parts = images.map((name) => readOne(join(target, name), join(scratch, name)));
  return {
    entries: new Map(parts.flatMap(({ entries }) => [...entries])),
    frame: parts.flatMap(({ frame }, index) => frame.map((line) => `${images[index]}: ${line}`)),
  };
}

function readOne(path: string, scratch: string): Media {
  switch (basename(path)) {
    case "init.img":
      return reading(path, readBoot);
    case "payload.img":
      return reading(path, (source) => ({ entries: filesOf(source, "payload.img:"), frame: [] }));
    case "external.img":
      return readDisk(path, scratch, "external.img:");
    default:
      return readDisk(path, scratch, "");
  }
}

function reading(path: string, read: (source: ByteSource) => Media): Media {
  const source = openImage(path);
  try {
    return read(source);
  } finally {
    source.close();
  }
}

function readBoot(source: ByteSource): Media {
  const { srcfsOffset } = readBootHeader(source);
  const entries = filesOf(source, "");
  const frame = [`size ${source.sizeBytes}`, `boot code ${digestRange(source, 0, srcfsOffset)}`];
  // The directories for the seeds of stage0 come after the tree, with absolute paths.
  for (const { kind, path } of readImage(source)) {
    if (kind === "command") frame.push(`command ${path}`);
    else if (path.startsWith("/")) frame.push(`directory ${path}`);
  }
  return { entries, frame };
}

function filesOf(source: ByteSource, prefix: string): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  for (const entry of readImage(source)) {
    if (entry.kind === "command" || entry.path.startsWith("/")) continue;
    const path = entry.path.replace(/^\.\//, "");
    const { size, dataOffset } = entry;
    const text = entry.kind === "empty"
      ? "empty"
      : `${size} ${digestRange(source, dataOffset, size)}`;
    if (entries.has(prefix + path)) throw new Error(`${source.name} has ${path} twice`);
    const content = LOOKED_AT.includes(path)
      ? { content: Buffer.concat([...readRange(source, dataOffset, size)].map(copyOf)).toString() }
      : {};
    entries.set(prefix + path, { text, ...content });
  }
  return entries;
}

/** Copies bytes, as a source may reuse its buffer. */
function copyOf(bytes: Uint8Array): Uint8Array {
  return bytes.slice();
}

/** Reads a disk with one partition: its file system with debugfs, its table with sfdisk. */
function readDisk(path: string, scratch: string, prefix: string): Media {
  const { partitiontable: table } = JSON.parse(tool("sfdisk", "--json", path));
  const partitions: readonly Record<string, unknown>[] = table.partitions;
  const frame = [
    `size ${lstatSync(path).size}`,
    `table ${table.label}`,
    ...partitions.map(({ start, size, type, bootable }) =>
      `partition from ${start}, ${size} sectors, type ${type}${bootable ? ", bootable" : ""}`
    ),
  ];
  const offset = Number(partitions[0]!["start"]) * SECTOR_BYTES;
  if (offset % MIB !== 0) frame.push("the partition is not aligned");
  mkdirSync(scratch, { recursive: true });
  tool("debugfs", "-R", `rdump / ${scratch}`, `${path}?offset=${offset}`);
  const features = tool("debugfs", "-R", "features", `${path}?offset=${offset}`);
  frame.push(`ext3 ${features.includes("has_journal") && !features.includes("extent")}`);
  const entries = [...readTree(scratch)].map(([name, entry]) => [prefix + name, entry] as const);
  return { entries: new Map(entries), frame };
}

/** Runs a program that examines a disk, and returns its output. */
function tool(program: string, ...args: readonly string[]): string {
  const PATH = `${process.env["PATH"]}:/usr/sbin:/sbin`;
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: "utf8",
    env: { ...process.env, PATH, LC_ALL: "C" },
  });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(" ")} failed: ${error?.message ?? stderr}`);
}

function readTree(root: string): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  const walk = (prefix: string) => {
    for (const name of readdirSync(join(root, prefix))) {
      if (prefix === "" && NOT_MEDIA.includes(name)) continue;
      const path = join(prefix, name);
      const place = join(root, path);
      const stat = lstatSync(place);
      const mode = (stat.mode & 0o7777).toString(8);
      if (stat.isDirectory()) {
        entries.set(path, { text: `directory ${mode}` });
        walk(path);
      } else if (stat.isSymbolicLink()) {
        entries.set(path, { text: `link to ${readlinkSync(place)}` });
      } else if (stat.isFile()) {
        const bytes = readFileSync(place);
        const digest = createHash("sha256").update(bytes).digest("hex");
        const content = LOOKED_AT.includes(path) ? { content: bytes.toString() } : {};
        entries.set(path, { text: `file ${mode} ${stat.size} ${digest}`, ...content });
      } else entries.set(path, { text: `special ${stat.mode.toString(8)}` });
    }
  };
  walk("");
  return entries;
}
