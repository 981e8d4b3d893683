// SPDX-License-Identifier: MIT
/**
 * A fetch as a process of its own, for tests that kill it, run several, or have it under another
 * environment or runtime. Prints the answers of what could not be fetched, one a line.
 *
 * usage: bun fetcher.ts STORE WANTED [TRUST [OPTIONS]]
 *
 * WANTED is JSON, a list of what `fetchAll()` takes; TRUST is what `setTrust()` takes.
 *
 * @module
 */
import process from "node:process";
import { fetchAll } from "../../src/fetch/fetch.ts";
import { httpMirrors, parseMirror } from "../../src/fetch/mirror.ts";
import { setTrust } from "../../src/fetch/trust.ts";

const [, , store = "", wanted = "[]", trust, options = "{}"] = process.argv;
if (trust !== undefined) setTrust(JSON.parse(trust));
const { mirrors = [], ...others } = JSON.parse(options);
const { failures } = await fetchAll(JSON.parse(wanted), {
  store,
  mirrors: httpMirrors(mirrors.map(parseMirror)),
  userAgent: "seedstrap/test",
  retryDelayMs: 1,
  ...others,
});
for (const { attempts } of failures) {
  for (const { answer } of attempts) process.stdout.write(`${answer}\n`);
}
process.exitCode = failures.length === 0 ? 0 : 1;
