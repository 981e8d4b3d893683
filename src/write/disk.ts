// SPDX-License-Identifier: MIT
/**
 * Writes a disk with an ext3 file system, without root, mount or loop device: the files are written
 * to a temporary directory, and mke2fs copies them into the file system.
 *
 * The same entries give the same disk on every host: mke2fs gets its settings and its time from
 * here and none from the host, UUIDs are made from the content, and `settleExt3()` does the rest.
 *
 * @module
 */

import { createHash } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import { setImmediate } from "node:timers/promises";
import { uuidOf } from "../bytes.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { blocksDigest, type ByteRange } from "../format/blocks.ts";
import { LINUX_PARTITION, mbr } from "../format/mbr.ts";
import type { ByteSource } from "../format/reader.ts";
import { KIB, MIB, SECTOR_BYTES } from "../format/segment.ts";
import { findSystemProgram, installHint, runProcess, shellQuote } from "../launch/process.ts";
import { writing } from "../refused.ts";
import { removeFile } from "../runtime/remove.ts";
import { type DirectoryEntry, writeDirectory } from "./directory.ts";
import { settleExt3 } from "./ext3.ts";
import { DEVICE_LETTERS } from "./mknod.ts";

/** A disk to write. */
export interface DiskJob {
  /** The file, which must not exist. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Offset of the partition, which extends to the end of the disk. */
  readonly partitionBytes: number;
  /** The content of the file system. */
  readonly entries: readonly DirectoryEntry[];
  /** Returns the path of a temporary file by its name; it is removed afterwards. */
  readonly scratch: (name: string) => string;
  /** Called with the number of bytes that were written since the last call. */
  readonly progress?: Progress;
  readonly signal?: AbortSignal | undefined;
}

export interface WrittenDisk {
  /** Digest as in `format/blocks.ts`. */
  readonly blocksSha256: string;
  /** SHA-256 of each file by path. */
  readonly digests: ReadonlyMap<string, string>;
  /** Version and date of the mke2fs that made it; absent if its output has another format. */
  readonly mke2fs?: string;
}

/** Time of all inodes, in seconds since 1970: 2000-01-01, as mke2fs takes 0 for "now". */
const TIME = 946_684_800;

/** Name of the temporary directory for the files. */
const STAGING = "files";

/** mke2fs.conf, in place of that of the host. */
const CONFIG = `[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
blocksize = 4096
inode_size = 256
inode_ratio = 16384
[fs_types]
ext3 = {
features = has_journal
}
`;

/**
 * Looks for mke2fs, before a long build starts.
 *
 * @returns Path of mke2fs.
 * @throws {UserError} "launch"
 */
export function findMke2fs(): Promise<string> {
  const install = installHint("e2fsprogs", "e2fsprogs");
  return findSystemProgram("mke2fs", `It makes file systems. ${install}`);
}

/**
 * Writes a disk and makes it durable. The caller removes the file on failure.
 *
 * @throws {UserError} "verify" and "target" as `writeDirectory()`, "launch" where mke2fs is missing
 * or fails, "interrupt" when the signal is raised.
 */
export async function writeDisk(job: DiskJob): Promise<WrittenDisk> {
  const { path, sizeBytes, partitionBytes, progress = UNWATCHED, signal } = job;
  const program = await findMke2fs();
  const staging = job.scratch(STAGING);
  const config = job.scratch("mke2fs.conf");
  try {
    const isDevice = ({ special }: DirectoryEntry) => special?.kind === "device";
    // All mode bits are kept: only the owner can enter the work directory of the target.
    const digests = await writeDirectory(staging, job.entries.filter((e) => !isDevice(e)), {
      keepsModes: true,
      onBytes: (bytes) => progress.add(bytes),
      ...(signal && { signal }),
    });
    const seed = contentSeed(job, digests);
    const file = writing(path, () => openSync(path, "wx+", 0o666));
    try {
      writing(path, () => {
        ftruncateSync(file, sizeBytes);
        writeFileSync(config, CONFIG);
      });
      progress.begin("making the file system");
      await makeFileSystem({ program, config, job, uuid: uuidOf(seed) });
      await makeDevices(job, job.entries.filter(isDevice));
      const source = {
        name: path,
        sizeBytes,
        read: (offset: number, into: Uint8Array) => readSync(file, into, 0, into.length, offset),
      };
      const used = writing(path, () => {
        writeSync(file, partitionTable(job, seed), 0, SECTOR_BYTES, 0);
        return settleExt3(file, source, partitionBytes, TIME);
      });
      progress.begin("reading the disk back", used.reduce((sum, { size }) => sum + size, MIB));
      const blocksSha256 = await digestOf(source, used, progress, signal);
      writing(path, () => fsyncSync(file));
      const mke2fs = await versionOf(program, job);
      return { blocksSha256, digests, ...(mke2fs !== undefined && { mke2fs }) };
    } finally {
      closeSync(file);
    }
  } finally {
    removeFile(config);
    rmSync(staging, { recursive: true, force: true });
  }
}

/** `1.47.0 (5-Feb-2023)` */
async function versionOf(program: string, job: DiskJob): Promise<string | undefined> {
  const env = { PATH: dirname(program), LC_ALL: "C" };
  return /^mke2fs (\d.*)$/m.exec(await runE2fs([program, "-V"], job, env))?.[1];
}

interface FileSystem {
  readonly program: string;
  readonly config: string;
  readonly job: DiskJob;
  readonly uuid: string;
}

async function makeFileSystem({ program, config, job, uuid }: FileSystem): Promise<void> {
  const { path, sizeBytes, partitionBytes } = job;
  const options = [`offset=${partitionBytes}`, `hash_seed=${uuid}`, "root_owner=0:0"];
  const argv = [
    program,
    "-q",
    "-F",
    ...["-t", "ext3", "-T", "ext3"],
    ...["-U", uuid],
    ...["-E", options.join(",")],
    ...["-d", job.scratch(STAGING)],
    path,
    `${(sizeBytes - partitionBytes) / KIB}k`,
  ];
  await runE2fs(argv, job, {
    // The locale sorts names. Two variables for the time: mke2fs before 1.47.1 has only its own.
    PATH: dirname(program),
    LC_ALL: "C",
    MKE2FS_CONFIG: config,
    SOURCE_DATE_EPOCH: String(TIME),
    E2FSPROGS_FAKE_TIME: String(TIME),
  });
}

/** Makes device files in the file system itself, as only root could make them in a directory. */
async function makeDevices(job: DiskJob, devices: readonly DirectoryEntry[]): Promise<void> {
  if (devices.length === 0) return;
  const program = await findSystemProgram("debugfs", installHint("e2fsprogs", "e2fsprogs"));
  const script = job.scratch("debugfs");
  try {
    writing(script, () => writeFileSync(script, devices.map(deviceCommands).join("")));
    const disk = `${job.path}?offset=${job.partitionBytes}`;
    const env = { PATH: dirname(program), LC_ALL: "C", E2FSPROGS_FAKE_TIME: String(TIME) };
    const said = await runE2fs([program, "-w", "-f", script, disk], job, env);
    // debugfs goes on after an error, and exits with 0.
    const fault = said.split("\n").find((line) => /^[\w ]+: |rror/.test(line));
    if (fault !== undefined) {
      throw diskError(job, "debugfs", fault, [program, "-w", "-f", script, disk]);
    }
  } finally {
    removeFile(script);
  }
}

const DEVICE_TYPES = { char: 0o020000, block: 0o060000, fifo: 0o010000 } as const;

function deviceCommands({ path, special, mode = 0o600 }: DirectoryEntry): string {
  if (special?.kind !== "device") throw new Error(`${path} is no device`);
  const { type, major, minor } = special;
  const slash = path.lastIndexOf("/");
  // Within double quotes debugfs has only one escape: a doubled quote.
  const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const numbers = type === "fifo" ? "" : ` ${major} ${minor}`;
  const name = quote(path.slice(slash + 1));
  const bits = (DEVICE_TYPES[type] + mode % 0o10000).toString(8);
  return `cd ${quote(path.slice(1, slash) || "/")}\n` +
    `mknod ${name} ${DEVICE_LETTERS[type]}${numbers}\n` +
    // By its whole path: debugfs takes a name such as <2> for an inode number.
    `set_inode_field ${quote(path.slice(1))} mode 0${bits}\n`;
}

/** Runs a program of e2fsprogs, and returns its standard error. */
async function runE2fs(
  argv: readonly string[],
  job: DiskJob,
  env: Readonly<Record<string, string>>,
): Promise<string> {
  const { signal } = job;
  let said = "";
  const { code } = await runProcess({
    argv,
    env,
    stdin: "ignore",
    onStdout: () => {},
    onStderr: (chunk) => said = (said + new TextDecoder().decode(chunk)).slice(-10_000),
    ...(signal && { signal }),
  });
  throwIfInterrupted(signal);
  if (code !== 0) throw diskError(job, basename(argv[0]!), said, argv);
  return said;
}

function diskError(
  { path }: DiskJob,
  program: string,
  said: string,
  argv: readonly string[],
): UserError {
  const isFull = /No space left on device/.test(said);
  const problem = `Cannot make a file system: ${program} says ${said.trim()}`;
  return new UserError(isFull ? "target" : "launch", problem, {
    where: path,
    hint: isFull
      ? "Free some space there, or name another --target"
      : `The command was: ${shellQuote(argv)}`,
  });
}

/** Returns the seed of the UUIDs and the signature: the same for the same content. */
function contentSeed(job: DiskJob, digests: ReadonlyMap<string, string>): Uint8Array {
  const hash = createHash("sha256").update(`${job.sizeBytes} ${job.partitionBytes}\n`);
  for (const { path, isExecutable, mode, special } of job.entries) {
    const kind = special === undefined ? "" : JSON.stringify(special);
    hash.update(`${path}\0${isExecutable}\0${mode ?? ""}\0${kind}\0${digests.get(path) ?? ""}\n`);
  }
  return hash.digest();
}

function partitionTable({ sizeBytes, partitionBytes }: DiskJob, seed: Uint8Array): Uint8Array {
  return mbr({
    isBootable: false,
    type: LINUX_PARTITION,
    startSector: partitionBytes / SECTOR_BYTES,
    sectorCount: (sizeBytes - partitionBytes) / SECTOR_BYTES,
  }, new DataView(seed.buffer, seed.byteOffset).getUint32(16));
}

function digestOf(
  source: ByteSource,
  used: readonly ByteRange[],
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<string> {
  return blocksDigest(source, [{ offset: 0, size: MIB }, ...used], async (bytes) => {
    progress.add(bytes);
    await setImmediate();
    throwIfInterrupted(signal);
  });
}
