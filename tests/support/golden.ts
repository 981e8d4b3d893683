// SPDX-License-Identifier: MIT
/**
 * Expected texts in `tests/fixtures/`.
 *
 * @module
 */
import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";

/** Compares a text with a fixture; `UPDATE_GOLDENS=1 bun test` writes it instead. */
export function expectGolden(name: string, text: string): void {
  const path = new URL(`../fixtures/${name}`, import.meta.url).pathname;
  if (process.env["UPDATE_GOLDENS"]) writeFileSync(path, text);
  expect(text).toBe(readFileSync(path, "utf8"));
}
