// SPDX-License-Identifier: MIT
/**
 * Serves distfiles to a guest, over HTTP on 127.0.0.1 only.
 *
 * Flat and read-only: a path is one distfile name, anything else is 404. A symbolic link in the
 * directory is followed if it leads to a regular file: only the user can have put it there, and a
 * client can request names of this directory only.
 *
 * @module
 */
import { type FileHandle, stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createListener, type Server } from "node:net";
import { join } from "node:path";
import { distfileNameFault } from "./distfile_name.ts";
import { openFile } from "./store.ts";
import { messageOf, systemCode, UserError } from "../errors.ts";

/** A running server. Close it, or the process stays alive. */
export interface FileServer {
  /** Base URL with a slash at its end, to which a name is appended. */
  readonly url: string;
  readonly port: number;
  /** Stops listening and ends all connections. */
  close(): Promise<void>;
}

/** Where to listen. */
export interface ServeOptions {
  /** Port number; a free one if absent or 0. */
  readonly port?: number;
}

/** Only loopback: a guest reaches it through its gateway. */
const HOST = "127.0.0.1";

const CHUNK_BYTES = 256 * 1024;

/**
 * Serves the regular files of one directory, as they are at the time of each request.
 *
 * @throws {UserError} "launch", if it cannot listen on the port.
 */
export function serveDirectory(dir: string, options: ServeOptions = {}): Promise<FileServer> {
  return serveFiles((name) => join(dir, name), options);
}

/**
 * Serves files by name from any directories, such as the result of a fetch.
 *
 * @param find Returns the path for a checked distfile name, or undefined if there is none.
 * @throws {UserError} "launch", if it cannot listen on the port.
 */
export async function serveFiles(
  find: (name: string) => string | undefined,
  { port = 0 }: ServeOptions = {},
): Promise<FileServer> {
  const server = createServer((request, response) => {
    answer(request, response, find).catch(() => {
      if (response.headersSent) response.destroy(); // a short body must not look like a whole one
      else refuse(response, 500);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(cannotListen(error, port)));
    server.listen({ port, host: HOST }, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new TypeError("No port was bound");
  return {
    url: `http://${HOST}:${address.port}/`,
    port: address.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function cannotListen(error: unknown, port: number): UserError {
  return new UserError("launch", `Cannot listen on ${HOST}:${port}: ${messageOf(error)}`, {
    hint: systemCode(error) === "EADDRINUSE"
      ? "Another process uses this port, which is in the image: wait for it, or build again"
      : "Build again with another --mirror-port",
    cause: error,
  });
}

/** Ports that are free, as no other process can take them before they are released. */
export interface HeldPorts {
  /** The first of them; the others follow. */
  readonly first: number;
  release(): Promise<void>;
}

/**
 * Finds ports on 127.0.0.1 that are free and follow each other, and holds them.
 *
 * @param from The lowest port to try.
 * @param count How many are needed, at least 1.
 * @throws {UserError} "launch" where there are none within {@link PORTS_TRIED}.
 */
export async function holdPorts(from: number, count: number): Promise<HeldPorts> {
  const held: Server[] = [];
  const release = async () => {
    await Promise.all(held.splice(0).map((server) => new Promise((end) => server.close(end))));
  };
  let last: unknown;
  for (let port = from; port < from + PORTS_TRIED; port++) {
    try {
      held.push(await listenOn(port));
    } catch (error) {
      last = error;
      await release();
    }
    if (held.length === count) return { first: port - count + 1, release };
  }
  await release();
  throw cannotListen(last, from);
}

/** More than the runs of one machine. */
const PORTS_TRIED = 1000;

function listenOn(port: number): Promise<Server> {
  const server = createListener((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, host: HOST }, () => resolve(server));
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  find: (name: string) => string | undefined,
): Promise<void> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("Allow", "GET, HEAD");
    return refuse(response, 405);
  }
  const name = nameOf(request.url ?? "");
  const path = name === undefined ? undefined : find(name);
  // A device is not opened at all, as that may have an effect.
  const found = path === undefined ? undefined : await stat(path).catch(() => undefined);
  if (path === undefined || !found?.isFile()) return refuse(response, 404);

  const file = await openFile(path).catch(() => undefined);
  if (file === undefined) return refuse(response, 404);
  try {
    const { size } = await file.stat();
    const range = request.method === "GET" ? parseRange(request.headers.range, size) : undefined;
    response.setHeader("Accept-Ranges", "bytes");
    response.setHeader("Content-Type", "application/octet-stream");
    if (range === "unsatisfiable") {
      response.setHeader("Content-Range", `bytes */${size}`);
      return refuse(response, 416);
    }
    const [start, end] = range ?? [0, size];
    if (range !== undefined) {
      response.setHeader("Content-Range", `bytes ${start}-${end - 1}/${size}`);
    }
    response.setHeader("Content-Length", end - start);
    response.writeHead(range === undefined ? 200 : 206);
    if (request.method === "GET") await send(file, start, end, response);
    response.end();
  } finally {
    await file.close();
  }
}

async function send(
  file: FileHandle,
  start: number,
  end: number,
  response: ServerResponse,
): Promise<void> {
  for (let offset = start; offset < end && !response.destroyed;) {
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, end - offset));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
    if (bytesRead === 0) throw new Error("The file has become shorter");
    offset += bytesRead;
    if (!response.write(buffer.subarray(0, bytesRead))) await writable(response);
  }
}

/** Waits until the client has received what was written, or is gone. */
function writable(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
    if (response.destroyed) done();
  });
}

function refuse(response: ServerResponse, status: number): void {
  response.removeHeader("Content-Type");
  response.setHeader("Content-Length", 0);
  response.writeHead(status);
  response.end();
}

/** Returns the distfile name in a request target, or undefined if there is none. */
function nameOf(target: string): string | undefined {
  const [path = ""] = target.split("?", 1);
  if (!path.startsWith("/")) return undefined;
  try {
    const name = decodeURIComponent(path.slice(1));
    return distfileNameFault(name) === undefined ? name : undefined;
  } catch {
    return undefined; // a percent sign without its two digits
  }
}

/**
 * Parses `bytes=5-9`, `bytes=5-` or `bytes=-5`.
 *
 * @returns The first byte and the one after the last; undefined for anything else, to which the
 * answer is the whole file.
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
