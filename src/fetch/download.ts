// SPDX-License-Identifier: MIT
/**
 * Downloads one URL into the store: to a `.part` first, which gets the path of the distfile once it
 * is verified.
 *
 * @module
 */
import { STATUS_CODES } from "node:http";
import { plainText, UrlFailure } from "./failure.ts";
import { type HttpAnswer, type HttpOptions, openUrl } from "./http.ts";
import { announceOrigin, forgetOrigin, originOf, settleOrigin } from "./origin.ts";
import { isNoRoom, local, PartFile } from "./part.ts";
import type { RateLimit } from "./rate.ts";
import { makeStoreDirectory, storePath } from "./store.ts";

/** The default limit for the size of a body, 4 GiB: far more than any distfile has. */
export const MAX_DISTFILE_BYTES = 4 * 1024 ** 3;

/** A file, and one URL that may have it. */
export interface DownloadRequest {
  /** A checked distfile name. */
  readonly name: string;
  /** The expected digest, in lower-case hex. */
  readonly sha256: string;
  readonly url: string;
  /** The URL as it may be recorded. */
  readonly shownUrl: string;
}

/** How to download. */
export interface DownloadOptions extends HttpOptions {
  /** An existing directory. */
  readonly store: string;
  /** Largest size of a body and of a part file. */
  readonly maxBytes: number;
  /** Every byte is taken from it. */
  readonly rate?: RateLimit | undefined;
  /**
   * Asked now and then: whether the rest had better come from elsewhere.
   *
   * @param bytes That have come in `ms`, and `leftBytes` are to come.
   */
  readonly isOutdone?: (bytes: number, ms: number, leftBytes: number) => boolean;
  /** Called when a body starts and after each chunk, with the bytes so far and the total size. */
  readonly onBytes?: (bytes: number, total: number | undefined) => void;
}

/** A verified file in the store. */
export interface Downloaded {
  readonly path: string;
  readonly sizeBytes: number;
  /** The URL the body came from, after redirects; undefined if the part was already whole. */
  readonly finalUrl: string | undefined;
}

/** The rest of a body was requested, but the answer does not continue the part. */
class CannotResume extends Error {}

/**
 * Downloads a file, resuming a part file if there is one.
 *
 * The file gets its name only if all of its bytes, old and new, have the expected digest. After a
 * broken connection or a stall the part stays for the next URL; a wrong body is removed.
 *
 * @throws {UrlFailure} If this URL does not deliver the file.
 * @throws {UserError} "target", if the store fails.
 * @throws The reason of `options.signal`, if it is aborted.
 */
export async function download(
  request: DownloadRequest,
  options: DownloadOptions,
): Promise<Downloaded> {
  const path = storePath(options.store, request.sha256);
  await local(path, () => Promise.resolve(makeStoreDirectory(path)));
  const part = await PartFile.open(`${path}.part`, options.maxBytes, options.signal);
  try {
    let finalUrl: string | undefined;
    if (part.sizeBytes === 0 || part.digest() !== request.sha256) {
      finalUrl = await fill(part, request, options);
    }
    const sizeBytes = part.sizeBytes;
    options.signal?.throwIfAborted();
    await local(path, () => settle(request, finalUrl, options));
    await part.commit(path);
    return { path, sizeBytes, finalUrl };
  } finally {
    // There is nothing in an empty one to go on from.
    await (part.sizeBytes === 0 ? part.discard() : part.close());
  }
}

/** Keeps the origin of a part that is whole; one that an earlier run has left has its own. */
async function settle(
  { sha256, url, shownUrl }: DownloadRequest,
  finalUrl: string | undefined,
  { store }: DownloadOptions,
): Promise<void> {
  if (await settleOrigin(store, sha256) || finalUrl === undefined) return;
  // Somebody has removed it.
  await announceOrigin(store, sha256, originOf(url, finalUrl, shownUrl));
  await settleOrigin(store, sha256);
}

async function fill(
  part: PartFile,
  request: DownloadRequest,
  options: DownloadOptions,
): Promise<string> {
  if (part.sizeBytes > 0) {
    try {
      return await receive(part, part.sizeBytes, request, options);
    } catch (error) {
      // The part may be of another body, so the whole body has to be requested before it counts
      // as a failure of this URL.
      if (!(error instanceof CannotResume)) throw error;
    }
  }
  return await receive(part, 0, request, options);
}

async function receive(
  part: PartFile,
  startByte: number,
  request: DownloadRequest,
  options: DownloadOptions,
): Promise<string> {
  const { url, shownUrl, sha256 } = request;
  const answer = await openUrl(url, startByte, options);
  try {
    const total = await begin(part, startByte, answer);
    if (total !== undefined && total > options.maxBytes) {
      throw new UrlFailure(`${total} bytes announced, above the limit of ${options.maxBytes}`);
    }
    const noRoom = total === undefined ? undefined : part.fault(total - part.sizeBytes);
    if (noRoom !== undefined) {
      throw new UrlFailure(`${total} bytes announced, ${part.freeBytes()} are free in the store`, {
        noRoom,
      });
    }
    await local(
      part.path,
      () => announceOrigin(options.store, sha256, originOf(url, answer.url, shownUrl)),
    );
    const continued = part.sizeBytes > 0;
    options.onBytes?.(part.sizeBytes, total);
    try {
      await copy(part, total, answer, request, options);
    } catch (error) {
      if (!isNoRoom(error)) throw error;
      // What is free is needed for other files, and the next URL may have a shorter body.
      await discard(part, request, options);
      const reach = { transient: true, noRoom: error };
      throw new UrlFailure(`the store is full after ${part.sizeBytes} bytes`, reach, error);
    }
    const got = part.digest();
    if (got === sha256) return answer.url;
    if (continued) {
      await part.restart();
      throw new CannotResume();
    }
    const sizeBytes = part.sizeBytes;
    await discard(part, request, options);
    throw new UrlFailure(`wrong SHA-256: got ${got}, ${sizeBytes} bytes${bodyRemark(answer)}`, {
      isWrong: true,
    });
  } finally {
    answer.close();
  }
}

async function discard(
  part: PartFile,
  { sha256 }: DownloadRequest,
  { store }: DownloadOptions,
): Promise<void> {
  await local(part.path, () => forgetOrigin(store, sha256));
  await part.discard();
}

/** Prepares the part for the body of an answer; returns the size of the whole file, if known. */
async function begin(
  part: PartFile,
  startByte: number,
  { status, headers }: HttpAnswer,
): Promise<number | undefined> {
  if (startByte > 0 && status === 416) throw new CannotResume();
  if (startByte > 0 && status === 206) {
    const range = parseContentRange(headers["content-range"]);
    if (range?.startByte !== startByte) throw new CannotResume();
    return range.totalBytes ?? range.lastByte + 1;
  }
  if (status !== 200) {
    const transient = status >= 500 || status === 408 || status === 429;
    const text = STATUS_CODES[status];
    const restMs = status === 429 || status === 503
      ? parseRetryAfter(headers["retry-after"], headers.date)
      : undefined;
    throw new UrlFailure(
      `HTTP ${status}${text === undefined ? "" : ` ${text}`}${restRemark(restMs)}`,
      { transient, restMs },
    );
  }
  await part.restart();
  return parseSize(headers["content-length"]);
}

/** A body of unknown size is weighed against the free space each time it has grown by so much. */
const LOOK_BYTES = 1024 * 1024;
/** The rate of a body is looked at so often. */
const RATE_EVERY_MS = 2000;

async function copy(
  part: PartFile,
  total: number | undefined,
  answer: HttpAnswer,
  request: DownloadRequest,
  options: DownloadOptions,
): Promise<void> {
  let lookAt = LOOK_BYTES;
  let rated = { ms: performance.now(), sizeBytes: part.sizeBytes };
  const of = total === undefined ? "" : ` of ${total}`;
  try {
    for await (const chunk of answer.chunks) {
      const sizeBytes = part.sizeBytes + chunk.length;
      const tooLong = sizeBytes > options.maxBytes
        ? `body is longer than the limit of ${options.maxBytes} bytes`
        : total !== undefined && sizeBytes > total
        ? `body is longer than the ${total} bytes announced`
        : undefined;
      if (tooLong !== undefined) {
        await discard(part, request, options);
        throw new UrlFailure(tooLong);
      }
      // A body without end would fill the store: one that says no size gets as much as it leaves.
      if (total === undefined && sizeBytes >= lookAt) {
        lookAt = sizeBytes + LOOK_BYTES;
        if (sizeBytes > part.freeBytes()) {
          await discard(part, request, options);
          throw new UrlFailure(
            `body of unknown size: given up after ${sizeBytes} bytes, as less is free in the store`,
          );
        }
      }
      await part.append(chunk);
      await options.rate?.take(chunk.length, options.signal);
      const now = performance.now();
      if (total === undefined || options.rate || now - rated.ms < RATE_EVERY_MS) {
        options.onBytes?.(part.sizeBytes, total);
        continue;
      }
      const bytes = part.sizeBytes - rated.sizeBytes;
      if (options.isOutdone?.(bytes, now - rated.ms, total - part.sizeBytes)) {
        const rate = Math.round(bytes / (now - rated.ms));
        throw new UrlFailure(`slower than others: ${rate} KB a second`, { transient: true });
      }
      rated = { ms: now, sizeBytes: part.sizeBytes };
      options.onBytes?.(part.sizeBytes, total);
    }
  } catch (error) {
    if (!(error instanceof UrlFailure) || !error.transient) throw error;
    throw new UrlFailure(`${error.message}, after ${part.sizeBytes}${of} bytes`, error, error);
  }
  if (total !== undefined && part.sizeBytes < total) {
    throw new UrlFailure(`body ended after ${part.sizeBytes}${of} bytes`, { transient: true });
  }
}

/** Returns signs of an error page or a re-encoded body instead of the file. */
function bodyRemark({ headers }: HttpAnswer): string {
  const encoding = headers["content-encoding"];
  const type = headers["content-type"] ?? "";
  return (/^text\/html\b/i.test(type) ? " of text/html" : "") +
    (encoding === undefined ? "" : `, Content-Encoding: ${plainText(encoding)}`);
}

/**
 * Parses `bytes 5-9/10` or `bytes 5-9/*`.
 *
 * @returns undefined for anything else, and for inconsistent numbers.
 * @see RFC 9110, section 14.4
 */
export function parseContentRange(
  value: string | undefined,
): { startByte: number; lastByte: number; totalBytes: number | undefined } | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/i.exec(value ?? "");
  const [startByte, lastByte] = [parseSize(match?.[1]), parseSize(match?.[2])];
  if (startByte === undefined || lastByte === undefined || lastByte < startByte) return undefined;
  if (match?.[3] === "*") return { startByte, lastByte, totalBytes: undefined };
  const totalBytes = parseSize(match?.[3]);
  if (totalBytes === undefined || totalBytes <= lastByte) return undefined;
  return { startByte, lastByte, totalBytes };
}

/**
 * Parses `Retry-After`: seconds, or a date.
 *
 * @param date The `Date` of the answer: the clock of the server, which may not be ours.
 * @returns Milliseconds, not negative; undefined for anything else.
 * @see RFC 9110, section 10.2.3
 */
export function parseRetryAfter(
  value: string | undefined,
  date: string | undefined,
): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,12}$/.test(value)) return Number(value) * 1000;
  const until = parseDate(value);
  if (until === undefined) return undefined;
  return Math.max(0, until - (parseDate(date) ?? Date.now()));
}

/** Milliseconds since 1970 of a date as HTTP has it, such as `Sun, 06 Nov 1994 08:49:37 GMT`. */
function parseDate(text: string | undefined): number | undefined {
  if (!/^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/.test(text ?? "")) {
    return undefined;
  }
  const ms = Date.parse(text!);
  return Number.isNaN(ms) ? undefined : ms;
}

function restRemark(restMs: number | undefined): string {
  return restMs === undefined ? "" : `, Retry-After ${Math.ceil(restMs / 1000)} s`;
}

function parseSize(digits: string | undefined): number | undefined {
  if (digits === undefined || !/^\d+$/.test(digits)) return undefined;
  const size = Number(digits);
  return Number.isSafeInteger(size) ? size : undefined;
}
