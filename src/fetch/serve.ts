// SPDX-License-Identifier: MIT
/**
 * Serves distfiles to a guest, over HTTP on 127.0.0.1 only, and holds the ports for that.
 *
 * Flat and read-only: a path is one distfile name, anything else is 404. A symbolic link in the
 * directory is followed if it leads to a regular file: only the user can have put it there, and a
 * client can request names of this directory only.
 *
 * @module
 */
import { createServer as createListener, type Server } from "node:net";
import { join } from "node:path";
import { distfileNameFault } from "./distfile_name.ts";
import { cannotListen, type FileServer, startServer } from "./http_server.ts";
import { namedFinder } from "./served.ts";
import type { UserError } from "../errors.ts";

/** Where to listen. */
export interface ServeOptions {
  /** Port number; a free one if absent or 0. */
  readonly port?: number;
}

/** Only loopback: a guest reaches it through its gateway. */
const HOST = "127.0.0.1";

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
export function serveFiles(
  find: (name: string) => string | undefined,
  { port = 0 }: ServeOptions = {},
): Promise<FileServer> {
  const finder = namedFinder((name) => {
    const path = distfileNameFault(name) === undefined ? find(name) : undefined;
    return path === undefined ? undefined : { path };
  });
  return startServer(finder, { host: HOST, port, hint: hintOf });
}

function hintOf(isInUse: boolean): string {
  return isInUse
    ? "Another process uses this port, which is in the image: wait for it, or build again"
    : "Build again with another --mirror-port";
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
  throw portError(last, from);
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

function portError(error: unknown, port: number): UserError {
  return cannotListen(error, HOST, port, hintOf);
}
