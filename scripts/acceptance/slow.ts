// SPDX-License-Identifier: MIT
/**
 * Serves a directory on 127.0.0.1 so slowly that downloads can be hit.
 *
 * @module
 */

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** A running server. */
export interface SlowServer {
  /** Without a slash at its end. */
  readonly url: string;
  stop(): void;
}

const PIECE_BYTES = 64 * 1024;
const PAUSE_MS = 5;

/** Starts it, with ranges, so that a download can go on. */
export async function serveSlowly(dir: string): Promise<SlowServer> {
  const server = createServer(async (request, response) => {
    const path = join(dir, new URL(request.url!, "http://localhost").pathname);
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size === undefined) return void response.writeHead(404).end();
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const isRest = from > 0 && from < size;
    response.writeHead(isRest ? 206 : 200, {
      "content-length": size - (isRest ? from : 0),
      ...(isRest && { "content-range": `bytes ${from}-${size - 1}/${size}` }),
    });
    const body = createReadStream(path, { start: isRest ? from : 0, highWaterMark: PIECE_BYTES });
    for await (const piece of body) {
      if (response.destroyed) return;
      response.write(piece);
      await sleep(PAUSE_MS);
    }
    response.end();
  });
  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { url: `http://127.0.0.1:${address.port}`, stop: () => server.close() };
}
