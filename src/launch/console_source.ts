// SPDX-License-Identifier: MIT
/**
 * Where the console of a machine that we do not run can be read: a serial port or another character
 * device, such as the pty of a QEMU; a UNIX socket; a fifo; a log that grows; standard input.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { connect } from "node:net";
import process from "node:process";
import type { Readable } from "node:stream";
import { setImmediate, setTimeout } from "node:timers/promises";
import { isatty } from "node:tty";
import { messageOf, systemCode, UserError } from "../errors.ts";
import { statIfThere } from "../runtime/stat.ts";
import { requireProgram } from "./process.ts";

/** The source that is standard input. */
export const STANDARD_INPUT = "-";

/** How a console is read. */
export interface ConsoleReading {
  /** Speed of a serial port, in bits a second. */
  readonly baud: number;
  /** Ends the reading. */
  readonly signal: AbortSignal;
  /** Told once, when it can be read. */
  readonly onOpen: () => void;
  /** Takes what was read. Nothing more is read before its promise is settled. */
  readonly onChunk: (chunk: Uint8Array) => Promise<void>;
}

/** The terminal of whoever opens it. */
const OWN_TERMINAL = "/dev/tty";

/** A port is read so often. At 115,200 baud 250 bytes come in that time, and it keeps 4,096. */
const POLL_MS = 20;
const BUFFER_BYTES = 64 * 1024;

const { O_NOCTTY = 0, O_NONBLOCK, O_RDONLY } = constants;

/**
 * Reads a console until it ends: another side has closed it, or a serial port is gone. A log has no
 * end: whoever writes it may go on.
 *
 * @param source A path, or {@link STANDARD_INPUT}.
 * @returns Once it has ended, or the signal is aborted.
 * @throws {UserError} "usage" for what no console can be read from, "target" where it cannot be
 * read, "launch" where stty is missing.
 */
export async function readConsole(source: string, reading: ConsoleReading): Promise<void> {
  if (source === STANDARD_INPUT) {
    reading.onOpen();
    return await readStream(source, process.stdin, reading);
  }
  const stat = statIfThere(source);
  if (stat === undefined) {
    throw new UserError("target", `Cannot watch ${source}: it is not there`, { where: source });
  }
  if (stat.isSocket()) {
    return await readStream(source, connect(source).on("connect", reading.onOpen), reading);
  }
  if (!stat.isCharacterDevice() && !stat.isFIFO() && !stat.isFile()) {
    throw new UserError("usage", `Cannot watch ${source}: no console can be read from it`, {
      where: source,
      hint: "Name a serial port, a log, a fifo, a socket, or - for standard input",
    });
  }
  const file = attempt(source, () => openSync(source, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  try {
    if (isatty(file)) await setRaw(source, file, reading.baud);
    reading.onOpen();
    await poll(source, file, stat, reading);
  } finally {
    closeSync(file);
  }
}

function attempt<T>(source: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw readError(source, error);
  }
}

function readError(source: string, cause: unknown): UserError {
  const isRefused = systemCode(cause) === "EACCES";
  return new UserError("target", `Cannot read ${source}: ${messageOf(cause)}`, {
    where: source,
    ...(isRefused && { hint: "A serial port is for root, or for a group such as dialout" }),
    cause,
  });
}

/** Sets a serial port to bytes as they come. */
async function setRaw(source: string, file: number, baud: number): Promise<void> {
  const { rdev } = fstatSync(file);
  const own = [0, 1, 2].filter((file) => isatty(file)).map((file) => fstatSync(file).rdev);
  if ([...own, statIfThere(OWN_TERMINAL)?.rdev].includes(rdev)) {
    throw new UserError("usage", `Cannot watch ${source}: it is this terminal`, { where: source });
  }
  const stty = await requireProgram("stty", { hint: "It belongs to coreutils" });
  const settings = [process.platform === "linux" ? "-F" : "-f", source];
  const { status, stderr } = spawnSync(
    stty,
    [...settings, "raw", "-echo", "clocal", String(baud)],
    { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" },
  );
  if (status === 0) return;
  throw new UserError("target", `Cannot set ${source} to ${baud} baud: ${stderr.trim()}`, {
    where: source,
    hint: "Name a speed that it has with --baud",
  });
}

/** Reads a file that never blocks. */
async function poll(
  source: string,
  file: number,
  stat: Stats,
  { signal, onChunk }: ConsoleReading,
): Promise<void> {
  const isLog = stat.isFile();
  const buffer = new Uint8Array(BUFFER_BYTES);
  let offsetBytes = 0;
  while (!signal.aborted) {
    const got = readSome(source, file, buffer, isLog ? offsetBytes : null);
    if (got === "ended") {
      // A fifo that nobody has opened to write looks like one that was closed.
      if (!isLog && (offsetBytes > 0 || !stat.isFIFO())) return;
      // A log that begins anew.
      if (isLog && fstatSync(file).size < offsetBytes) offsetBytes = 0;
    } else if (got > 0) {
      offsetBytes += got;
      await onChunk(buffer.slice(0, got));
      await setImmediate();
      continue;
    }
    await setTimeout(POLL_MS, undefined, { signal }).catch(() => {});
  }
}

/** Bytes that were read; 0 where there are none yet. */
function readSome(
  source: string,
  file: number,
  buffer: Uint8Array,
  position: number | null,
): number | "ended" {
  try {
    const got = readSync(file, buffer, 0, buffer.length, position);
    return got === 0 ? "ended" : got;
  } catch (error) {
    const code = systemCode(error);
    if (code === "EAGAIN") return 0;
    // The other side of a pty, or the adapter of a serial port, is gone.
    if (code === "EIO" || code === "ENXIO" || code === "ENODEV") return "ended";
    throw readError(source, error);
  }
}

/** Reads a stream to its end. */
async function readStream(
  source: string,
  stream: Readable,
  { signal, onChunk }: ConsoleReading,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stop = () => resolve();
  signal.addEventListener("abort", stop, { once: true });
  stream.on("data", (chunk: Uint8Array) => {
    if (signal.aborted) return;
    stream.pause();
    onChunk(chunk).then(() => stream.resume(), reject);
  });
  stream.on("end", stop);
  stream.on("error", (error) => reject(readError(source, error)));
  try {
    if (!signal.aborted) await promise;
  } finally {
    signal.removeEventListener("abort", stop);
    stream.destroy();
  }
}
