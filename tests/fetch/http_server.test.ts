// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { type FileServer, type Served, startServer } from "../../src/fetch/http_server.ts";
import { directoryFinder } from "../../src/fetch/served.ts";
import { Bench, sampleBody, sha256 } from "./servers.ts";

const bench = new Bench();
let server: FileServer | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server?.close();
  server = undefined;
  await bench.release();
});

const BODY = sampleBody(3_000_000);

/** A directory beside a secret, and a server for it. */
async function scene(onServed: (served: Served) => void = () => {}) {
  const base = await bench.dir();
  const dir = join(base, "mirror");
  mkdirSync(join(dir, "sub"), { recursive: true });
  mkdirSync(join(base, "mirror-too"));
  writeFileSync(join(base, "secret"), "secret");
  writeFileSync(join(base, "mirror-too/secret"), "secret");
  writeFileSync(join(dir, "a.tar"), BODY);
  writeFileSync(join(dir, "sub/b ü.tar"), "b");
  writeFileSync(join(dir, ".hidden"), "secret");
  symlinkSync("../secret", join(dir, "out"));
  symlinkSync("..", join(dir, "sub/up"));
  symlinkSync(base, join(dir, "base"));
  symlinkSync("a.tar", join(dir, "in"));
  symlinkSync("/dev/zero", join(dir, "zero"));
  server = await startServer(await directoryFinder(dir, "mirror"), { onServed });
  return { base, dir, url: server.url, port: server.port };
}

/** Sends bytes as they are, and returns all of the answer. */
function raw(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(text));
    sockets.push(socket);
    let all = "";
    socket.on("data", (data) => all += data.toString("latin1"));
    socket.on("close", () => resolve(all));
    socket.on("error", reject);
  });
}

const get = (target: string) => `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;

test("no spelling and no link leads out of the directory", async () => {
  const { port } = await scene();
  const targets = [
    "/../secret",
    "/..%2fsecret",
    "/%2e%2e/secret",
    "/%2e%2e%2fsecret",
    "/%252e%252e/secret",
    "/sub/../../secret",
    "/sub/..%5c..%5csecret",
    "/..\\secret",
    "//secret",
    "/./secret",
    "/../mirror-too/secret",
    "/a.tar%00",
    "/%00",
    "/a.tar/../../secret",
    "/out",
    "/base/secret",
    "/base/mirror/a.tar/../../secret",
    "/sub/up/../secret",
    "/zero",
    "/.hidden",
    "/sub/up/.hidden",
    "/%ff",
    "/%",
    `/${"a/".repeat(5000)}`,
    "http://x/../secret",
    "*",
  ];
  for (const target of targets) {
    const answer = await raw(port, get(target));
    expect(`${target.slice(0, 60)} ${answer.split("\r\n")[0]}`).toMatch(
      / (?:HTTP\/1\.1 4\d\d .*|)$/,
    );
    expect(answer).not.toContain("secret\n");
    expect(answer.split("\r\n\r\n")[1] ?? "").not.toContain("secret");
  }
  // What leads somewhere in it is served.
  expect(await raw(port, get("/in"))).toStartWith("HTTP/1.1 200 ");
  expect(await raw(port, get("/sub/up/a.tar"))).toStartWith("HTTP/1.1 200 ");
});

test("a link that leads out since it was looked at is not followed", async () => {
  const { base, dir, url } = await scene();
  mkdirSync(join(base, "other"));
  writeFileSync(join(base, "other/b ü.tar"), "secret");
  let leaks = 0;
  const swaps = (async () => {
    for (let round = 0; round < 200; round++) {
      renameSync(join(dir, "sub"), join(dir, "sub2"));
      symlinkSync("../other", join(dir, "sub"));
      await Bun.sleep(0);
      renameSync(join(dir, "sub"), join(base, `gone${round}`));
      renameSync(join(dir, "sub2"), join(dir, "sub"));
      await Bun.sleep(0);
    }
  })();
  let isOver = false;
  void swaps.finally(() => isOver = true);
  while (!isOver) {
    const text = await (await fetch(`${url}sub/${encodeURIComponent("b ü.tar")}`)).text()
      .catch(() => "");
    if (text.includes("secret")) leaks++;
  }
  expect(leaks).toBe(0);
}, 30_000);

test("a directory has a page, and its path a slash at the end", async () => {
  const { url, dir } = await scene();
  const page = await (await fetch(url)).text();
  expect(page).toContain('href="./a.tar"');
  expect(page).toContain('href="./sub/"');
  expect(page).toContain('href="./in"');
  for (const hidden of [".hidden", "out", "base", "zero"]) {
    expect(page).not.toContain(`>${hidden}<`);
  }
  const moved = await fetch(`${url}sub`);
  expect(moved.url).toBe(`${url}sub/`);
  expect(await moved.text()).toContain("./b%20%C3%BC.tar");
  writeFileSync(join(dir, "sub/index.html"), "<p>own");
  expect(await (await fetch(`${url}sub/`)).text()).toBe("<p>own");
});

test("validators and ranges are those of RFC 9110", async () => {
  const { url, dir } = await scene();
  utimesSync(join(dir, "a.tar"), 1e9, 1e9);
  const ask = async (headers: Record<string, string>, method = "GET") => {
    const answer = await fetch(`${url}a.tar`, { headers, method });
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return { status: answer.status, bytes, headers: answer.headers };
  };
  const whole = await ask({});
  expect(sha256(whole.bytes)).toBe(sha256(BODY));
  const tag = whole.headers.get("etag")!;
  expect(tag).toMatch(/^"[0-9a-f]+-[0-9a-f]+"$/);
  const date = whole.headers.get("last-modified")!;
  expect(date).toBe(new Date(1e12).toUTCString());
  for (
    const [headers, status] of [
      [{ "If-None-Match": tag }, 304],
      [{ "If-None-Match": `"x", W/${tag}` }, 304],
      [{ "If-None-Match": '"x"' }, 200],
      [{ "If-None-Match": '"x"', "If-Modified-Since": date }, 200],
      [{ "If-Modified-Since": date }, 304],
      [{ "If-Modified-Since": new Date(1e12 - 1000).toUTCString() }, 200],
      [{ Range: "bytes=10-19" }, 206],
      [{ Range: "bytes=10-19", "If-Range": tag }, 206],
      [{ Range: "bytes=10-19", "If-Range": date }, 206],
      [{ Range: "bytes=10-19", "If-Range": '"x"' }, 200],
      [{ Range: "bytes=10-19,30-39" }, 200],
      [{ Range: "bytes=3000000-" }, 416],
      [{ Range: "bytes=-5" }, 206],
      [{ Range: "lines=1-2" }, 200],
    ] as readonly (readonly [Record<string, string>, number])[]
  ) {
    const { status: got, bytes } = await ask(headers);
    expect({ headers, got }).toEqual({ headers, got: status });
    const expected = status === 200
      ? BODY
      : status !== 206
      ? new Uint8Array()
      : headers["Range"] === "bytes=-5"
      ? BODY.subarray(-5)
      : BODY.subarray(10, 20);
    expect(sha256(bytes)).toBe(sha256(expected));
  }
  const head = await ask({ Range: "bytes=10-19" }, "HEAD");
  expect([head.status, head.headers.get("content-length")]).toEqual([200, "3000000"]);
  expect((await ask({}, "DELETE")).status).toBe(405);
});

test(
  "a thousand idle connections, and a client that does not read, keep nobody waiting",
  async () => {
    const { port, url, dir } = await scene();
    writeFileSync(join(dir, "big"), sampleBody(64_000_000));
    const connected = Array.from({ length: 1000 }, () =>
      new Promise<void>((resolve, reject) => {
        const socket = connect(port, "127.0.0.1", resolve);
        socket.on("error", reject);
        sockets.push(socket);
      }));
    await Promise.all(connected);
    const slow = connect(port, "127.0.0.1", () => slow.write(get("/big")));
    sockets.push(slow);
    slow.pause();
    await Bun.sleep(500);
    const before = process.memoryUsage().rss;
    for (let round = 0; round < 20; round++) {
      expect(sha256(new Uint8Array(await (await fetch(`${url}a.tar`)).arrayBuffer()))).toBe(
        sha256(BODY),
      );
    }
    // The body of the slow one is not read ahead of it.
    expect(process.memoryUsage().rss - before).toBeLessThan(200_000_000);
  },
  30_000,
);

test("an end lets an answer come to its end, and takes no new connection", async () => {
  const served: Served[] = [];
  const { port, url } = await scene((one) => served.push(one));
  const socket = connect(port, "127.0.0.1", () => socket.write(get("/a.tar")));
  sockets.push(socket);
  let bytes = 0;
  socket.once("data", (data) => {
    bytes += data.length;
    socket.pause();
  });
  await new Promise((resolve) => socket.once("pause", resolve));
  const ended = server!.close(10_000);
  socket.on("data", (data) => bytes += data.length);
  socket.resume();
  await new Promise((resolve) => socket.once("close", resolve));
  await ended;
  expect(bytes).toBeGreaterThan(BODY.length);
  await expect(fetch(url)).rejects.toThrow();
  expect(served.at(-1)).toMatchObject({
    method: "GET",
    target: "/a.tar",
    status: 200,
    sentBytes: BODY.length,
  });
  server = undefined;
});

test("a body that becomes shorter while it is sent ends the connection", async () => {
  const { port, dir } = await scene();
  writeFileSync(join(dir, "shrinks"), sampleBody(50_000_000));
  const socket = connect(port, "127.0.0.1", () => socket.write(get("/shrinks")));
  sockets.push(socket);
  socket.pause();
  await Bun.sleep(300);
  writeFileSync(join(dir, "shrinks"), "x");
  let bytes = 0;
  socket.on("data", (data) => bytes += data.length);
  socket.on("error", () => {});
  socket.resume();
  await new Promise((resolve) => socket.once("close", resolve));
  expect(bytes).toBeLessThan(50_000_000);
  expect(readFileSync(join(dir, "shrinks"), "utf8")).toBe("x");
});
