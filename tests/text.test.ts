// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { counted } from "../src/text.ts";

test("counted() has the singular for 1 only", () => {
  expect([0, 1, 2, 1200].map((count) => counted(count, "file")))
    .toEqual(["0 files", "1 file", "2 files", "1,200 files"]);
  expect([1, 2].map((count) => counted(count, "size is", "sizes are")))
    .toEqual(["1 size is", "2 sizes are"]);
});
