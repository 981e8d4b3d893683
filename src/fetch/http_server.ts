// SPDX-License-Identifier: MIT
/**
 * A static HTTP server: what is found for a path is answered with ranges, validators and HEAD, no
 * faster than the client takes it.
 *
 * @module
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { isIPv6 } from "node:net";
import { messageOf, systemCode, UserError } from "../errors.ts";

/** What has bytes, which are read while it is open. */
export interface OpenBody {
  /**
   * Fills `into` from an offset on.
   *
   * @returns How many bytes; 0 at the end.
   * @throws Where they cannot be read, or are not right: the answer ends too early then.
   */
  read(into: Uint8Array, offsetBytes: number): Promise<number>;
  close(): Promise<void>;
}

/** What lies at a path. */
export type Found =
  | {
    readonly kind: "file";
    readonly sizeBytes: number;
    /** Lower-case hex; undefined where it is not known. */
    readonly sha256?: string | undefined;
    /** In milliseconds since 1970; undefined where that says nothing. */
    readonly modifiedMs?: number | undefined;
    /** `application/octet-stream` if absent. */
    readonly type?: string | undefined;
    readonly open: () => Promise<OpenBody>;
  }
  /** A page that was made now. */
  | { readonly kind: "page"; readonly html: string }
  /** A directory whose path has no slash at its end. */
  | { readonly kind: "moved"; readonly to: string };

/** Returns what lies at the path of a URL, which is decoded and begins with a slash. */
export type Finder = (path: string) => Promise<Found | undefined>;

/** An answer, for a log. */
export interface Served {
  readonly from: string;
  readonly method: string;
  /** As the client has sent it, without its query. */
  readonly target: string;
  readonly status: number;
  readonly sentBytes: number;
  readonly ms: number;
}

/** Where and how to listen. */
export interface ListenOptions {
  /** 127.0.0.1 if absent. */
  readonly host?: string;
  /** A free one if absent or 0. */
  readonly port?: number;
  /** What to do where the port cannot be had, as a sentence. */
  readonly hint?: (isInUse: boolean) => string;
  /** Told when an answer is over. */
  readonly onServed?: (served: Served) => void;
}

/** A running server. Close it, or the process stays alive. */
export interface FileServer {
  /** Base URL with a slash at its end. */
  readonly url: string;
  readonly port: number;
  /**
   * Stops listening, and ends all connections: those that are in the middle of an answer after so many
   * milliseconds, at once if absent.
   */
  close(graceMs?: number): Promise<void>;
}

const CHUNK_BYTES = 256 * 1024;
/** A client that takes nothing for so long is gone. */
const SLOW_MS = 60_000;
/** A request has to be there within this time, and the next one of a connection. */
const REQUEST_MS = 30_000;
/** Longest target that is looked at: far more than a name of 255 bytes, encoded. */
const MAX_TARGET_CHARS = 8192;

/**
 * Starts a server.
 *
 * @throws {UserError} "launch", if it cannot listen.
 */
export async function startServer(
  find: Finder,
  { host = "127.0.0.1", port = 0, hint, onServed }: ListenOptions,
): Promise<FileServer> {
  let active = 0;
  let isIdle = () => {};
  const server = createServer(
    { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS, keepAliveTimeout: REQUEST_MS },
    (request, response) => {
      const began = performance.now();
      const from = request.socket.remoteAddress ?? "";
      const count = { bytes: 0 };
      active++;
      answer(request, response, find, count).catch(() => {
        if (response.headersSent) response.destroy(); // a short body must not look like a whole one
        else refuse(response, 500);
      }).finally(() => {
        if (--active === 0) isIdle();
        onServed?.({
          from,
          method: request.method ?? "",
          target: (request.url ?? "").split("?", 1)[0]!.slice(0, MAX_TARGET_CHARS),
          status: response.statusCode,
          sentBytes: count.bytes,
          ms: performance.now() - began,
        });
      });
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(cannotListen(error, host, port, hint)));
    server.listen({ port, host }, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new TypeError("No port was bound");
  return {
    url: `http://${isIPv6(host) ? `[${host}]` : host}:${address.port}/`,
    port: address.port,
    close: async (graceMs = 0) => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      if (graceMs > 0 && active > 0) {
        let timer: ReturnType<typeof setTimeout> | undefined;
        await new Promise<void>((resolve) => {
          isIdle = resolve;
          timer = setTimeout(resolve, graceMs);
        });
        clearTimeout(timer);
      }
      server.closeAllConnections();
      await closed;
    },
  };
}

/** The error for an address that cannot be listened on. */
export function cannotListen(
  error: unknown,
  host: string,
  port: number,
  hint: ListenOptions["hint"],
): UserError {
  const code = systemCode(error);
  const place = `${isIPv6(host) ? `[${host}]` : host}:${port}`;
  return new UserError("launch", `Cannot listen on ${place}: ${code ?? messageOf(error)}`, {
    ...(hint !== undefined && { hint: hint(code === "EADDRINUSE") }),
    cause: error,
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  find: Finder,
  count: { bytes: number },
): Promise<void> {
  // A body that nobody wants is not waited for.
  request.resume();
  const { method } = request;
  if (method !== "GET" && method !== "HEAD") {
    response.setHeader("Allow", "GET, HEAD");
    return refuse(response, 405);
  }
  const path = pathOf(request.url ?? "");
  const found = path === undefined ? undefined : await find(path);
  if (found === undefined) return refuse(response, 404);
  if (found.kind === "moved") {
    response.setHeader("Location", found.to);
    return refuse(response, 301);
  }
  if (found.kind === "page") {
    const bytes = new TextEncoder().encode(found.html);
    response.writeHead(200, {
      "Content-Type": "text/html; charset=utf-8",
      "Content-Length": bytes.length,
      // What lists a directory has names of others in it.
      "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    });
    if (method === "GET") count.bytes = bytes.length;
    response.end(method === "GET" ? bytes : undefined);
    return;
  }
  await answerFile(request, response, found, count);
}

async function answerFile(
  { method, headers }: IncomingMessage,
  response: ServerResponse,
  found: Found & { readonly kind: "file" },
  count: { bytes: number },
): Promise<void> {
  const { sizeBytes, sha256, modifiedMs } = found;
  const tag = sha256 !== undefined
    ? `"sha256-${sha256}"`
    : modifiedMs === undefined
    ? undefined
    : `"${Math.floor(modifiedMs).toString(16)}-${sizeBytes.toString(16)}"`;
  const modified = modifiedMs === undefined ? undefined : new Date(modifiedMs).toUTCString();
  response.setHeader("Accept-Ranges", "bytes");
  response.setHeader("Content-Type", found.type ?? "application/octet-stream");
  response.setHeader("X-Content-Type-Options", "nosniff");
  if (tag !== undefined) response.setHeader("ETag", tag);
  if (modified !== undefined) response.setHeader("Last-Modified", modified);
  if (isUnchanged(headers, tag, modifiedMs)) {
    response.writeHead(304).end();
    return;
  }
  const wantsRange = method === "GET" && mayUseRange(headers["if-range"], tag, modified);
  const range = wantsRange ? parseRange(headers.range, sizeBytes) : undefined;
  if (range === "unsatisfiable") {
    response.setHeader("Content-Range", `bytes */${sizeBytes}`);
    return refuse(response, 416);
  }
  const [start, end] = range ?? [0, sizeBytes];
  const body = await found.open();
  try {
    if (range !== undefined) {
      response.setHeader("Content-Range", `bytes ${start}-${end - 1}/${sizeBytes}`);
    }
    response.setHeader("Content-Length", end - start);
    response.writeHead(range === undefined ? 200 : 206);
    if (method === "GET") await send(body, start, end, response, count);
    response.end();
  } finally {
    await body.close();
  }
}

async function send(
  body: OpenBody,
  start: number,
  end: number,
  response: ServerResponse,
  count: { bytes: number },
): Promise<void> {
  for (let offset = start; offset < end && !response.destroyed;) {
    // A new one each time, as the last one may wait to be sent.
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, end - offset));
    const read = await body.read(buffer, offset);
    if (read === 0) throw new Error("it has become shorter");
    offset += read;
    count.bytes += read;
    if (!response.write(buffer.subarray(0, read))) await writable(response);
  }
}

/** Waits until the client has received what was written, or is gone. */
function writable(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    const timer = setTimeout(() => response.destroy(), SLOW_MS);
    response.on("drain", done);
    response.on("close", done);
    if (response.destroyed) done();
  });
}

function refuse(response: ServerResponse, status: number): void {
  for (const name of ["Content-Type", "ETag", "Last-Modified"]) response.removeHeader(name);
  response.setHeader("Content-Length", 0);
  response.writeHead(status);
  response.end();
}

/** Returns the decoded path of a request target; undefined for what is none. */
function pathOf(target: string): string | undefined {
  const [path = ""] = target.split("?", 1);
  if (!path.startsWith("/") || path.length > MAX_TARGET_CHARS) return undefined;
  try {
    const decoded = decodeURIComponent(path);
    return decoded.isWellFormed() ? decoded : undefined;
  } catch {
    return undefined; // a percent sign without its two digits
  }
}

/** Reports whether the client has what it asks for; RFC 9110, section 13.1. */
function isUnchanged(
  headers: IncomingMessage["headers"],
  tag: string | undefined,
  modifiedMs: number | undefined,
): boolean {
  const tags = headers["if-none-match"];
  if (tags !== undefined) {
    if (tags.trim() === "*") return true;
    const strong = (text: string) => text.trim().replace(/^W\//, "");
    return tag !== undefined && tags.split(",").some((text) => strong(text) === tag);
  }
  const since = Date.parse(headers["if-modified-since"] ?? "");
  return modifiedMs !== undefined && !Number.isNaN(since) &&
    Math.floor(modifiedMs / 1000) * 1000 <= since;
}

/** Reports whether a range is of what the client has; RFC 9110, section 13.1.5. */
function mayUseRange(
  header: string | string[] | undefined,
  tag: string | undefined,
  modified: string | undefined,
): boolean {
  if (header === undefined) return true;
  const text = String(header).trim();
  return text.startsWith('"') ? text === tag : text === modified;
}

/**
 * Parses `bytes=5-9`, `bytes=5-` or `bytes=-5`.
 *
 * @returns The first byte and the one after the last; undefined for anything else, several ranges
 * among them, to which the answer is the whole file.
 * @see RFC 9110, section 14.2
 */
function parseRange(
  header: string | undefined,
  size: number,
): readonly [number, number] | "unsatisfiable" | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  const [, first = "", last = ""] = match ?? [];
  if (first === "" && last === "") return undefined;
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size : Math.min(size, Number(last) + 1);
  if (first !== "" && last !== "" && Number(last) < Number(first)) return undefined;
  return start < end ? [start, end] : "unsatisfiable";
}
