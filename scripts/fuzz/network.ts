// SPDX-License-Identifier: MIT
/**
 * A hostile server, from which distfiles are fetched, and a hostile client of our own server.
 *
 * @module
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { sha256Of } from "../../src/bytes.ts";
import { UserError } from "../../src/errors.ts";
import { fetchAll } from "../../src/fetch/fetch.ts";
import { ORIGINS_DIR } from "../../src/fetch/origin.ts";
import { serveDirectory } from "../../src/fetch/serve.ts";
import { Bench, sampleBody } from "../../tests/fetch/servers.ts";
import { damaged } from "../../tests/support/mutate.ts";
import { demand, type Reader, soundsOf } from "./reader.ts";

const BODY = sampleBody(3000);
const NAME = "hello-1.0.tar.gz";
const CANARY = "what no client may see";

/** Answers of a server that has the file. */
const ANSWERS = [
  `HTTP/1.1 200 OK\r\nContent-Length: ${BODY.length}\r\n\r\n`,
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n",
  `HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1000-2999/3000\r\nContent-Length: 2000\r\n\r\n`,
  "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */3000\r\nContent-Length: 0\r\n\r\n",
  "HTTP/1.1 302 Found\r\nLocation: /again?a=b#c\r\nContent-Length: 0\r\n\r\n",
  "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/html\r\n\r\n",
].map((head) => Buffer.concat([Buffer.from(head), BODY.subarray(head.includes("206") ? 1000 : 0)]));

const client: Reader = {
  name: "fetch",
  async prepare(dir) {
    const store = join(dir, "store");
    let answers: readonly Uint8Array[] = [];
    let asked = 0;
    const server = await new Bench().raw((socket) => {
      socket.end(answers[Math.min(asked++, answers.length - 1)]!);
    });
    const wanted = { name: NAME, sha256: sha256Of(BODY), urls: [`${server.url}/${NAME}`] };
    return {
      sounds: soundsOf(ANSWERS, {
        words: [
          ...[
            "Retry-After: 1\r\n",
            "Content-Range: bytes 0-5/3000\r\n",
            "Location: file:///etc/passwd\r\n",
          ],
          ...[
            "Location: //\r\n",
            "Content-Length: 3000\r\n",
            "Connection: keep-alive\r\n",
            "\r\n\r\n",
          ],
          ...["Transfer-Encoding: chunked\r\n", "Content-Encoding: br\r\n", "301", "429", "100"],
        ],
      }),
      async read(bytes, sound, random) {
        rmSync(store, { recursive: true, force: true });
        mkdirSync(store, { recursive: true });
        const hasPart = random.below(2) === 0;
        if (hasPart) writeFileSync(join(store, `${NAME}.part`), BODY.subarray(0, 1000));
        answers = random.below(2) === 0 ? [bytes] : [bytes, random.pick(ANSWERS), sound.bytes];
        asked = 0;
        const stop = new AbortController();
        // What a server wants to be waited for is waited for.
        const timer = setTimeout(() => stop.abort(), 1500);
        const said: string[] = [];
        try {
          const { files, failures } = await fetchAll([wanted], {
            store,
            mirrors: [],
            userAgent: "seedstrap/test",
            stallMs: 300,
            retryDelayMs: 1,
            maxBytes: 1_000_000,
            random: () => 0,
            signal: stop.signal,
            onProgress: (event) => {
              said.push(
                event.kind === "failed-attempt" ? event.answer : "url" in event ? event.url : "",
              );
            },
          });
          demand(files.size + failures.length === 1, "a file is fetched or it failed");
          said.push(...failures.flatMap(({ attempts }) => attempts.map(({ answer }) => answer)));
          const found = files.get(NAME);
          if (found !== undefined) said.push(found.source, found.redirectedTo ?? "");
        } finally {
          clearTimeout(timer);
          demand(asked <= 60, `a server is asked ${asked} times`);
          for (const text of said) {
            demand(!/[\p{Cc}\u202e]/u.test(text), `said: ${JSON.stringify(text)}`);
          }
          for (const name of readdirSync(store)) {
            demand(
              [NAME, `${NAME}.part`, ORIGINS_DIR, ".locks"].includes(name),
              `in the store: ${name}`,
            );
            if (name !== NAME) continue;
            const isRight = sha256Of(readFileSync(join(store, name))) === wanted.sha256;
            demand(isRight, "what is in the store has its SHA-256");
          }
        }
      },
    };
  },
};

const server: Reader = {
  name: "serve",
  async prepare(dir) {
    const inner = join(dir, "distfiles");
    mkdirSync(inner);
    writeFileSync(join(dir, "secret"), CANARY);
    writeFileSync(join(inner, ".hidden"), CANARY);
    writeFileSync(join(inner, NAME), BODY);
    const { port } = await serveDirectory(inner);
    const ask = (bytes: Uint8Array, idleMs: number) =>
      new Promise<Buffer>((resolve) => {
        const got: Buffer[] = [];
        const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
        socket.on("data", (data) => got.push(Buffer.from(data)));
        socket.on("error", () => {});
        socket.setTimeout(idleMs, () => socket.destroy());
        socket.on("close", () => resolve(Buffer.concat(got)));
      });
    const sound = `GET /${NAME} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;
    return {
      sounds: soundsOf([
        sound,
        `GET /${NAME} HTTP/1.1\r\nHost: a\r\nRange: bytes=5-9\r\nConnection: close\r\n\r\n`,
        `HEAD /%68ello-1.0.tar.gz?a HTTP/1.0\r\n\r\n`,
        "GET /../secret HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /..%2fsecret HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /.hidden HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
      ], { words: ["..%2f", "%2e", "%00", "\\", "//", "bytes=-1", "bytes=9-5", "POST", "%zz"] }),
      // A request that is sound but for its path, or its range.
      repair(_, random) {
        const part = (text: string) =>
          Buffer.from(damaged(random, { bytes: Buffer.from(text), words: ["..", "%2f", "-"] }))
            .toString("latin1").replace(/[\s\0]/g, "");
        const [path, range] = random.below(2) === 0 ? [part(NAME), "0-5"] : [NAME, part("5-90")];
        return Buffer.from(
          `GET /${path} HTTP/1.1\r\nHost: a\r\nRange: bytes=${range}\r\nConnection: close\r\n\r\n`,
          "latin1",
        );
      },
      async read(bytes, _sound, random) {
        const got = await ask(bytes, 200);
        demand(!got.includes(CANARY), "only distfiles are served");
        if (random.below(50) === 0) {
          const again = await ask(Buffer.from(sound), 10_000);
          demand(again.subarray(-BODY.length).equals(BODY), "the server goes on");
        }
        const status = /^HTTP\/1\.1 (\d+)/.exec(got.toString("latin1"))?.[1] ?? "none";
        if (!/^20/.test(status)) throw new UserError("fetch", `status ${status}`);
      },
    };
  },
};

export const networkReaders: readonly Reader[] = [client, server];
