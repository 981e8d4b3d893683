// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { Buffer } from "node:buffer";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UserError } from "../../src/errors.ts";
import type { FileServer } from "../../src/fetch/http_server.ts";
import { holdPorts, serveDirectory, serveFiles } from "../../src/fetch/serve.ts";
import { Bench, sampleBody } from "./servers.ts";

const BODY = sampleBody(2_000_000);
const bench = new Bench();
let server: FileServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
  await bench.release();
});

async function serve(): Promise<{ dir: string; server: FileServer }> {
  const dir = await bench.dir();
  await writeFile(join(dir, "a b+ü.tar"), BODY);
  server = await serveDirectory(dir);
  return { dir, server };
}

/** Sends a raw request, as a client would normalise its path; returns the status line. */
function rawStatus(port: number, target: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.write(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    });
    let text = "";
    socket.on("data", (data) => text += data.toString("latin1"));
    socket.on("close", () => resolve(text.split("\r\n")[0] ?? ""));
    socket.on("error", reject);
  });
}

test("serveDirectory() serves a file by its percent-encoded name, on loopback", async () => {
  const { server } = await serve();
  expect(server.url).toBe(`http://127.0.0.1:${server.port}/`);
  const response = await fetch(server.url + encodeURIComponent("a b+ü.tar"));
  expect(response.status).toBe(200);
  expect(response.headers.get("content-length")).toBe("2000000");
  expect(Buffer.from(await response.arrayBuffer()).equals(BODY)).toBe(true);
});

test("serveDirectory() answers HEAD without a body, and refuses other methods", async () => {
  const { server } = await serve();
  const url = server.url + encodeURIComponent("a b+ü.tar");
  const head = await fetch(url, { method: "HEAD" });
  expect(head.headers.get("content-length")).toBe("2000000");
  expect(await head.text()).toBe("");
  expect((await fetch(url, { method: "PUT", body: "x" })).status).toBe(405);
});

test("serveDirectory() serves a range", async () => {
  const { server } = await serve();
  const url = server.url + encodeURIComponent("a b+ü.tar");
  const range = async (value: string) => {
    const response = await fetch(url, { headers: { Range: value } });
    const body = Buffer.from(await response.arrayBuffer());
    const at = body.length > 0 && body.length < BODY.length ? Buffer.from(BODY).indexOf(body) : 0;
    return [response.status, response.headers.get("content-range"), body.length, at];
  };
  expect(await range("bytes=10-19")).toEqual([206, "bytes 10-19/2000000", 10, 10]);
  expect(await range("bytes=1999000-")).toEqual([
    206,
    "bytes 1999000-1999999/2000000",
    1000,
    1999000,
  ]);
  expect(await range("bytes=-50")).toEqual([206, "bytes 1999950-1999999/2000000", 50, 1999950]);
  expect(await range("bytes=1999999-9999999")).toEqual([
    206,
    "bytes 1999999-1999999/2000000",
    1,
    expect.anything(),
  ]);
  expect(await range("bytes=2000000-")).toEqual([416, "bytes */2000000", 0, 0]);
  expect(await range("bytes=-0")).toEqual([416, "bytes */2000000", 0, 0]);
  expect(await range("bytes=9-5")).toEqual([200, null, 2000000, 0]);
  expect(await range("bytes=0-1,5-6")).toEqual([200, null, 2000000, 0]);
  expect(await range("lines=1-2")).toEqual([200, null, 2000000, 0]);
});

test("serveDirectory() serves only the regular files of its directory", async () => {
  const { dir, server } = await serve();
  await mkdir(join(dir, "sub"));
  await writeFile(join(dir, "sub", "f"), "x");
  await writeFile(join(dir, ".hidden"), "x");
  await writeFile(join(dir, "f.part"), "x");
  await symlink("/etc", join(dir, "etc"));
  const targets = ["/", "", "/sub", "/sub/f", "/.hidden", "/f.part", "/etc", "/etc/passwd", "/%"];
  const escapes = ["/../etc/passwd", "/..%2fetc%2fpasswd", "/%2e%2e", "/%00", "//etc/passwd"];
  for (const target of [...targets, ...escapes, "/missing", "http://x/etc/passwd"]) {
    expect([target, await rawStatus(server.port, target)]).toEqual([
      target,
      expect.stringMatching(/^HTTP\/1\.1 40[04] /),
    ]);
  }
});

test("serveDirectory() follows a link that leads to a regular file", async () => {
  const { dir, server } = await serve();
  await symlink(join(dir, "a b+ü.tar"), join(dir, "linked"));
  expect((await fetch(`${server.url}linked`)).status).toBe(200);
});

test("serveFiles() serves files by name from any directories", async () => {
  const dir = await bench.dir();
  await writeFile(join(dir, "on-disk"), "x");
  server = await serveFiles((name) => name === "served" ? join(dir, "on-disk") : undefined);
  expect(await (await fetch(`${server.url}served`)).text()).toBe("x");
  expect((await fetch(`${server.url}on-disk`)).status).toBe(404);
});

test("close() ends connections that are in use", async () => {
  const { server } = await serve();
  const socket = connect(server.port, "127.0.0.1");
  const closed = new Promise((resolve) => socket.on("close", resolve));
  socket.on("error", () => {});
  await new Promise<void>((resolve) => socket.on("connect", () => resolve()));
  socket.write("GET /a%20b+%C3%BC.tar HTTP/1.1\r\nHost: x\r\n\r\n");
  socket.pause(); // reads nothing, so that the server cannot finish
  await sleep(20);
  await server.close();
  socket.resume();
  await closed;
});

test("serveDirectory() reports a port that is in use", async () => {
  const { dir, server } = await serve();
  const error = await serveDirectory(dir, { port: server.port }).catch((error) => error);
  expect(error).toBeInstanceOf(UserError);
  expect(error.kind).toBe("launch");
  expect(error.message).toStartWith(`Cannot listen on 127.0.0.1:${server.port}: `);
  expect(error.hint).toStartWith("Another process uses this port");
});

test("holdPorts() passes over ports that are in use, and holds what it finds", async () => {
  const { server: inUse } = await serve();
  const held = await holdPorts(inUse.port, 2);
  try {
    expect(held.first).toBeGreaterThan(inUse.port);
    const next = await holdPorts(held.first, 1);
    expect(next.first).toBeGreaterThan(held.first + 1);
    await next.release();
  } finally {
    await held.release();
  }
  const again = await serveDirectory(await bench.dir(), { port: held.first });
  expect(again.port).toBe(held.first);
  await again.close();
});
