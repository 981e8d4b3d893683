// SPDX-License-Identifier: MIT
/**
 * A fetch as a process of its own, for tests that kill it or run several.
 *
 * usage: bun fetcher.ts STORE WANTED    WANTED: JSON, a list of what `fetchAll()` takes
 *
 * @module
 */
import process from "node:process";
import { fetchAll } from "../../src/fetch/fetch.ts";

const [, , store = "", wanted = "[]"] = process.argv;
const { failures } = await fetchAll(JSON.parse(wanted), {
  store,
  mirrors: [],
  userAgent: "seedstrap/test",
  retryDelayMs: 1,
});
process.exitCode = failures.length === 0 ? 0 : 1;
