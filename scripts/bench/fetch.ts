// SPDX-License-Identifier: MIT
/**
 * Serves a directory on loopback as a far server would: every answer begins some time after its
 * request.
 *
 * usage: bun scripts/bench/fetch.ts DIR DELAY-MS PORT-FILE
 *
 * It writes its port to PORT-FILE once it listens, and ends with SIGTERM.
 *
 * @module
 */
import { renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const [, , dir = "", delay = "0", portFile = ""] = process.argv;
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  idleTimeout: 60,
  async fetch(request) {
    await sleep(Number(delay));
    const path = join(dir, decodeURIComponent(new URL(request.url).pathname));
    if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) {
      return new Response(null, { status: 404 });
    }
    return new Response(Bun.file(path));
  },
});
writeFileSync(`${portFile}.new`, `${server.port}\n`);
renameSync(`${portFile}.new`, portFile);
