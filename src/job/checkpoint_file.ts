// SPDX-License-Identifier: MIT
/**
 * A checkpoint in one file, to go on from on another machine:
 *
 *   file = zstd(tar)
 *   tar  = "export.json" "checkpoint.json" "run.log" MEMORY { LAYER }
 *
 * export.json has the sizes and the SHA-256 of the two members after it. checkpoint.json is what a
 * target keeps of the checkpoint, see `record/checkpoints.ts`; it names MEMORY and every LAYER with
 * its size and its SHA-256. run.log is what the guest had printed.
 *
 * The images are not in it: the same inputs give the same images on every host, and a checkpoint
 * has what differs from them. The order of the members, their names and their sizes are known before
 * each of them, so nothing of the tar is believed.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { createReadStream, renameSync, rmSync, statfsSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Buffer } from "node:buffer";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import * as v from "valibot";
import { detectCompression } from "../archive/compression.ts";
import { expand } from "../archive/expand.ts";
import { ByteStream } from "../archive/stream.ts";
import { sha256Of } from "../bytes.ts";
import { systemCode, throwIfInterrupted, UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { readTarHeader, TAR_BLOCK_BYTES, tarHeader } from "../format/tar.ts";
import { objectOf, parseJson, sha256, size } from "../json.ts";
import { shellQuote } from "../launch/process.ts";
import type { Progress } from "../progress.ts";
import {
  type Checkpoint,
  checkpointsDir,
  formatCheckpoint,
  hasCheckpoints,
  isDataName,
  makeCheckpointsDir,
  MAX_CHECKPOINT_BYTES,
  parseCheckpoint,
  putCheckpoint,
  putLayers,
  removeUnneeded,
  type SavedFile,
} from "../record/checkpoints.ts";
import { readRecord } from "../record/read.ts";
import { beginLog } from "../record/run.ts";
import { writeError, writing } from "../refused.ts";
import { syncDirectory } from "../runtime/durable.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { openImage } from "../source/file.ts";
import { withOutputFile } from "../write/output.ts";
import { earlierOutput } from "./checkpoint.ts";
import { pickCheckpoint } from "./checkpoint_pick.ts";
import { useTarget } from "./run_checks.ts";
import { areBuilt } from "./guest_disks.ts";

const FORMAT = "seedstrap-checkpoint-file/1";
const MEMBERS = { head: "export.json", checkpoint: "checkpoint.json", log: "run.log" } as const;
const MAX_HEAD_BYTES = 64 * 1024;
/** A console of days: more than any bootstrap prints. */
const MAX_LOG_BYTES = 1024 ** 3;
const CHUNK_BYTES = 1024 * 1024;
/** The default of zstd. */
const ZSTD_LEVEL = 3;

/** What export.json says of a member. */
type Part = Pick<SavedFile, "sizeBytes" | "sha256">;

interface Head {
  readonly format: typeof FORMAT;
  readonly checkpoint: Part;
  readonly log: Part;
}

const part = objectOf<Part>({ sizeBytes: size, sha256 });
const headSchema = objectOf<Head>({
  format: v.literal(FORMAT, `"${FORMAT}"`),
  checkpoint: part,
  log: part,
});

/** What to watch, and how to end it. */
export interface FileWork {
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
}

/**
 * Writes a checkpoint of a target into a file.
 *
 * @param number Which; the last one if undefined.
 * @returns The checkpoint, and the size of the file.
 * @throws {UserError} "target" where there is no such checkpoint, or the file cannot be written;
 * "verify" where something is not as it was saved.
 */
export async function exportCheckpoint(
  target: string,
  number: number | undefined,
  output: string,
  { progress, signal }: FileWork,
): Promise<{ readonly checkpoint: Checkpoint; readonly sizeBytes: number }> {
  const dir = resolve(target);
  const lock = useTarget(dir);
  try {
    const checkpoint = pickCheckpoint(dir, number);
    const text = formatCheckpoint(checkpoint);
    const log = digestOf(earlierOutput(dir, checkpoint));
    const head = JSON.stringify({
      format: FORMAT,
      checkpoint: { sizeBytes: Buffer.byteLength(text), sha256: sha256Of(text) },
      log,
    });
    const files = filesOf(checkpoint);
    const total = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, log.sizeBytes);
    progress.begin(`writing ${output}`, total);
    const members = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      yield* member(MEMBERS.head, Buffer.from(`${head}\n`));
      yield* member(MEMBERS.checkpoint, Buffer.from(text));
      yield header(MEMBERS.log, log.sizeBytes);
      for (const chunk of earlierOutput(dir, checkpoint)) yield counted(chunk, progress);
      yield padding(log.sizeBytes);
      for (const file of files) {
        yield header(file.name, file.sizeBytes);
        yield* savedBytes(join(checkpointsDir(dir), file.name), file, progress, signal);
        yield padding(file.sizeBytes);
      }
      yield new Uint8Array(2 * TAR_BLOCK_BYTES);
    };
    const sizeBytes = await withOutputFile(output, async (path) => {
      const file = await open(path, "wx", 0o666);
      try {
        const zstd = createZstdCompress({
          params: {
            [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL,
            [constants.ZSTD_c_checksumFlag]: 1,
          },
        });
        await pipeline(
          Readable.from(members(), { objectMode: true, highWaterMark: 2 }),
          zstd,
          async (chunks: AsyncIterable<Uint8Array>) => {
            for await (const chunk of chunks) await writeAll(file, chunk);
          },
        );
        await file.sync();
        return (await file.stat()).size;
      } finally {
        await file.close();
      }
    });
    return { checkpoint, sizeBytes };
  } finally {
    lock.release();
  }
}

/**
 * Takes a checkpoint out of a file into a target that has none. What is wrong with it is found
 * before anything gets its name.
 *
 * @throws {UserError} "target" where the target has checkpoints, or other images; "format" for what
 * is no such file, or one that is cut; "verify" where a member is not as it was saved.
 */
export async function importCheckpoint(
  path: string,
  target: string,
  { progress, signal }: FileWork,
): Promise<Checkpoint> {
  const dir = resolve(target);
  const record = readRecord(dir);
  const lock = useTarget(dir);
  try {
    if (hasCheckpoints(dir)) {
      throw new UserError("target", `Cannot import a checkpoint into ${dir}: it has some`, {
        where: checkpointsDir(dir),
        hint: `Give them up: ${shellQuote(["seedstrap", "checkpoint", "rm", dir, "--all"])}`,
      });
    }
    const reader = new FileReader(path, signal);
    try {
      const { checkpoint, head } = await reader.begin();
      if (!areBuilt(checkpoint.disks, record.images)) {
        throw new UserError("target", `Cannot import ${path}: it is of other images than ${dir}`, {
          where: path,
          hint: "Build them with the same seedstrap from the same checkout, with the same options",
        });
      }
      return await place(dir, checkpoint, head, reader, progress);
    } finally {
      await reader.close();
    }
  } finally {
    lock.release();
  }
}

/** Writes the members of a file to a target: under temporary names first, then under their own. */
async function place(
  dir: string,
  checkpoint: Checkpoint,
  head: Head,
  reader: FileReader,
  progress: Progress,
): Promise<Checkpoint> {
  const files = filesOf(checkpoint);
  const total = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, head.log.sizeBytes);
  const at = makeCheckpointsDir(dir);
  checkRoom(at, total);
  progress.begin(`reading ${reader.path}`, total);
  const made: string[] = [];
  let logPath: string | undefined;
  try {
    const log = beginLog(dir);
    logPath = log.path;
    await reader.member(MEMBERS.log, head.log, logPath, progress);
    for (const file of files) {
      const part = join(at, `${file.name}.part`);
      made.push(part);
      await reader.member(file.name, file, part, progress);
    }
    await reader.end();
    for (const { name } of files) {
      writing(at, () => renameSync(join(at, `${name}.part`), join(at, name)));
      made.push(join(at, name));
    }
    const { name } = log;
    const placed = { ...checkpoint, log: { name, sizeBytes: head.log.sizeBytes } };
    putLayers(
      dir,
      checkpoint.disks.map(({ image, layers }) => ({
        image,
        layers: layers.map(({ name }) => name),
      })),
    );
    writing(at, () => syncDirectory(at));
    putCheckpoint(dir, placed);
    return placed;
  } catch (error) {
    const failure = systemCode(error) === undefined ? error : writeError(at, error);
    for (const path of [...made, ...logPath === undefined ? [] : [logPath]]) {
      rmSync(path, { force: true });
    }
    removeUnneeded(dir);
    throw failure;
  }
}

function checkRoom(dir: string, bytes: number): void {
  const { bavail, bsize } = writing(dir, () => statfsSync(dir));
  if (bavail * bsize >= bytes) return;
  throw new UserError(
    "target",
    `Cannot write ${bytes} bytes to ${dir}: ${bavail * bsize} are free`,
    { where: dir, hint: "Free some space there" },
  );
}

/** Reads such a file, member by member. */
class FileReader {
  readonly path: string;
  readonly #source: ReturnType<typeof openImage>;
  readonly #stream: ByteStream;
  readonly #signal: AbortSignal | undefined;

  constructor(path: string, signal: AbortSignal | undefined) {
    this.path = path;
    this.#signal = signal;
    this.#source = openImage(path);
    if (!isZstd(this.#source)) {
      this.#source.close();
      throw this.#fault("it is not compressed with zstd");
    }
    this.#stream = new ByteStream(expand(this.#source, "zstd", signal));
  }

  /** Reads the first members, which say what all others are. */
  async begin(): Promise<{ readonly checkpoint: Checkpoint; readonly head: Head }> {
    const head = parseJson(headSchema, await this.#text(MEMBERS.head, MAX_HEAD_BYTES));
    if (typeof head === "string") throw this.#fault(`${MEMBERS.head}: ${head}`);
    if (head.checkpoint.sizeBytes > MAX_CHECKPOINT_BYTES || head.log.sizeBytes > MAX_LOG_BYTES) {
      throw this.#fault(`${MEMBERS.head}: a size is too large`);
    }
    const text = await this.#text(MEMBERS.checkpoint, head.checkpoint.sizeBytes);
    if (sha256Of(text) !== head.checkpoint.sha256) throw this.#wrong(MEMBERS.checkpoint);
    const checkpoint = parseCheckpoint(text);
    if (typeof checkpoint === "string") throw this.#fault(`${MEMBERS.checkpoint}: ${checkpoint}`);
    const names = filesOf(checkpoint).map(({ name }) => name);
    const odd = names.find((name) => !isDataName(name));
    if (odd !== undefined) throw this.#fault(`it names ${JSON.stringify(odd)}`);
    return { checkpoint, head };
  }

  /** Writes the data of the next member to a new file, which is on the disk then. */
  async member(name: string, wanted: Part, path: string, progress: Progress): Promise<void> {
    await this.#header(name, wanted.sizeBytes);
    const hash = createHash("sha256");
    const file = await openNew(path);
    try {
      for (let done = 0; done < wanted.sizeBytes;) {
        throwIfInterrupted(this.#signal);
        const piece = await this.#stream.next(Math.min(CHUNK_BYTES, wanted.sizeBytes - done));
        if (piece.length === 0) throw this.#fault("it ends too early");
        hash.update(piece);
        await writeAll(file, piece);
        done += piece.length;
        progress.add(piece.length);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (hash.digest("hex") !== wanted.sha256) throw this.#wrong(name);
    await this.#padding(wanted.sizeBytes);
  }

  /** Checks that nothing but the end follows. */
  async end(): Promise<void> {
    const end = await this.#stream.take(2 * TAR_BLOCK_BYTES);
    if (end.length < 2 * TAR_BLOCK_BYTES || end.some((byte) => byte !== 0)) {
      throw this.#fault("it ends too early");
    }
    if ((await this.#stream.next(1)).length > 0) throw this.#fault("something else follows");
  }

  async close(): Promise<void> {
    await this.#stream.close();
    this.#source.close();
  }

  async #text(name: string, limitBytes: number): Promise<string> {
    const sizeBytes = await this.#header(name, undefined);
    if (sizeBytes > limitBytes) throw this.#fault(`${name} is too large`);
    const bytes = await this.#stream.take(sizeBytes);
    if (bytes.length < sizeBytes) throw this.#fault("it ends too early");
    await this.#padding(sizeBytes);
    return new TextDecoder().decode(bytes);
  }

  async #header(name: string, sizeBytes: number | undefined): Promise<number> {
    // What does not fit into a plain header comes in a member before it, as we have written it.
    const expected = sizeBytes === undefined ? undefined : header(name, sizeBytes);
    const block = await this.#stream.take(expected?.length ?? TAR_BLOCK_BYTES);
    if (expected !== undefined) {
      if (Buffer.compare(block, expected) === 0) return sizeBytes!;
      throw this.#fault(`${name} of ${sizeBytes} bytes does not follow`);
    }
    const read = block.length < TAR_BLOCK_BYTES ? "it ends too early" : readTarHeader(block);
    if (typeof read === "string") throw this.#fault(read);
    if (read.type !== "0" || new TextDecoder().decode(read.name) !== name) {
      throw this.#fault(`${name} does not follow`);
    }
    return read.size;
  }

  async #padding(sizeBytes: number): Promise<void> {
    if (!await this.#stream.skip(padding(sizeBytes).length)) throw this.#fault("it ends too early");
  }

  #fault(what: string): UserError {
    return new UserError("format", `Cannot import ${this.path}: ${what}`, {
      where: this.path,
      hint: "It is a file that seedstrap checkpoint export has written? Copy it again",
    });
  }

  #wrong(name: string): UserError {
    return new UserError("verify", `Cannot import ${this.path}: ${name} is not as it was saved`, {
      where: this.path,
      hint: "Copy it again",
    });
  }
}

/** Reports whether a file is compressed with zstd; one that is nothing known is not. */
function isZstd(source: ByteSource): boolean {
  try {
    return detectCompression(source) === "zstd";
  } catch (error) {
    if (error instanceof UserError && error.kind === "format") return false;
    throw error;
  }
}

/** The files of a checkpoint, each once. */
function filesOf({ memory, disks }: Checkpoint): SavedFile[] {
  return [...new Map(
    [memory, ...disks.flatMap(({ layers }) => layers)].map((file) => [file.name, file]),
  ).values()];
}

/** The bytes of a file of a checkpoint, which are as they were saved once all were read. */
async function* savedBytes(
  path: string,
  { name, sizeBytes, sha256 }: SavedFile,
  progress: Progress,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const wrong = () =>
    new UserError("verify", `Cannot use a checkpoint: ${name} is not as it was saved`, {
      where: path,
      hint: "Use an earlier one: --from NUMBER",
    });
  const found = lstatIfThere(path);
  if (found?.isFile() !== true || found.size !== sizeBytes) throw wrong();
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
    throwIfInterrupted(signal);
    hash.update(chunk as Uint8Array);
    yield counted(chunk as Uint8Array, progress);
  }
  if (hash.digest("hex") !== sha256) throw wrong();
}

function counted(chunk: Uint8Array, progress: Progress): Uint8Array {
  progress.add(chunk.length);
  return chunk;
}

function digestOf(chunks: Iterable<Uint8Array>): Part {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for (const chunk of chunks) {
    hash.update(chunk);
    sizeBytes += chunk.length;
  }
  return { sizeBytes, sha256: hash.digest("hex") };
}

function header(path: string, size: number): Uint8Array {
  return tarHeader({ path, kind: "file", size, isExecutable: false });
}

function padding(sizeBytes: number): Uint8Array {
  return new Uint8Array(-sizeBytes & (TAR_BLOCK_BYTES - 1));
}

function* member(path: string, bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  yield header(path, bytes.length);
  yield bytes;
  yield padding(bytes.length);
}

async function openNew(path: string): Promise<FileHandle> {
  rmSync(path, { force: true });
  return await open(path, "wx", 0o600);
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done)).bytesWritten;
  }
}
