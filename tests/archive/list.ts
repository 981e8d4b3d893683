// SPDX-License-Identifier: MIT
/**
 * Lists archives and prints their members, or why they are refused, under either runtime.
 *
 * usage: list.ts ARCHIVE...
 *
 * @module
 */
import process from "node:process";
import { readArchive } from "../../src/archive/archive.ts";
import { messageOf } from "../../src/errors.ts";

for (const path of process.argv.slice(2)) {
  try {
    const { members, expandedBytes } = await readArchive(path, { maxBytes: 1e9 });
    console.log(JSON.stringify({ path, members, expandedBytes }));
  } catch (error) {
    console.log(messageOf(error));
  }
}
