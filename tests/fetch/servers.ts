// SPDX-License-Identifier: MIT
/**
 * Servers for tests: a correct one, and raw ones that send wrong data, stall or hang up.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createCipheriv, createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer, type ServerOptions } from "node:https";
import { type AddressInfo, createServer as createRawServer, type Socket } from "node:net";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A server on loopback. */
export interface TestServer {
  /** Base URL without a slash at its end. */
  readonly url: string;
  /** The requests so far: `METHOD path range`. */
  readonly seen: string[];
  /** Returns the number of open connections. */
  open(): number;
  close(): Promise<void>;
}

/** Resources of one test, released in reverse order. */
export class Bench {
  readonly #undo: (() => Promise<unknown>)[] = [];

  async dir(): Promise<string> {
    const path = await mkdtemp(join(tmpdir(), "seedstrap-fetch-"));
    this.#undo.push(() => rm(path, { recursive: true, force: true }));
    return path;
  }

  /** Starts an HTTP server, at a host name of loopback; with certificates, an HTTPS server. */
  async http(
    answer: (request: IncomingMessage, response: ServerResponse) => void,
    { secure, host = "127.0.0.1" }: { secure?: ServerOptions; host?: string } = {},
  ): Promise<TestServer> {
    const seen: string[] = [];
    const listener = (request: IncomingMessage, response: ServerResponse) => {
      response.on("error", () => {});
      seen.push(`${request.method} ${request.url} ${request.headers.range ?? ""}`.trim());
      answer(request, response);
    };
    const server = secure === undefined
      ? createServer(listener)
      : createSecureServer(secure, listener).on("tlsClientError", () => {});
    let open = 0;
    server.on("connection", (socket) => {
      open++;
      socket.on("close", () => open--);
    });
    await new Promise<void>((resolve) => server.listen(0, host.replace(/[[\]]/g, ""), resolve));
    const close = () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    this.#undo.push(close);
    const { port } = server.address() as AddressInfo;
    const scheme = secure === undefined ? "http" : "https";
    return { url: `${scheme}://${host}:${port}`, seen, open: () => open, close };
  }

  /** Starts a server that gets the bare connection after the head of a request. */
  async raw(answer: (socket: Socket, head: string) => void): Promise<TestServer> {
    const sockets = new Set<Socket>();
    const seen: string[] = [];
    const server = createRawServer((socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => {});
      socket.once("data", (head) => {
        seen.push(head.toString());
        answer(socket, head.toString());
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const close = () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      });
    this.#undo.push(close);
    const { port } = server.address() as AddressInfo;
    return { url: `http://127.0.0.1:${port}`, seen, open: () => sockets.size, close };
  }

  /** Starts a server that has one body under every path, and supports ranges. */
  files(body: Uint8Array): Promise<TestServer> {
    return this.http((request, response) => {
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
      if (from > 0 && from >= body.length) {
        response.writeHead(416, { "Content-Range": `bytes */${body.length}` }).end();
        return;
      }
      const headers: Record<string, string | number> = { "Content-Length": body.length - from };
      if (from > 0) headers["Content-Range"] = `bytes ${from}-${body.length - 1}/${body.length}`;
      response.writeHead(from > 0 ? 206 : 200, headers).end(body.subarray(from));
    });
  }

  /** Starts a server that answers every request with the same status. */
  status(status: number, headers: Record<string, string> = {}, body = ""): Promise<TestServer> {
    return this.http((_, response) => response.writeHead(status, headers).end(body));
  }

  /**
   * Starts a server that sends these bytes as its whole answer and hangs up a little later, as a
   * client may drop bytes that it has not passed on yet when the connection ends.
   */
  says(text: string, body: Uint8Array = new Uint8Array()): Promise<TestServer> {
    return this.raw((socket) => {
      socket.write(text.replaceAll("\n", "\r\n"));
      socket.write(body);
      setTimeout(() => socket.end(), 60);
    });
  }

  async release(): Promise<void> {
    for (const undo of this.#undo.splice(0).reverse()) await undo();
  }
}

/** Returns a URL where nothing listens. */
export async function deadUrl(bench: Bench): Promise<string> {
  const server = await bench.raw(() => {});
  await server.close();
  return server.url;
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Returns bytes without repetition, so that a wrong offset shows; the same for the same seed. */
export function sampleBody(sizeBytes: number, seed = 1): Uint8Array {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(sizeBytes));
}
