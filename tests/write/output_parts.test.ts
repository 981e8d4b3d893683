// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { textSegment } from "../../src/format/segment.ts";
import { checkOutput, writeOutputParts } from "../../src/write/output_parts.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { faultOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const DEAD = ".seedstrap.part-99999999-5-abcdef";
const listed = (dir: string) => readdirSync(dir).sort();

test("parts that a killed process had named before the last one are removed, and made again", async () => {
  const dir = temp.make();
  const output = join(dir, "lb.tar");
  writeFiles(dir, {
    "lb.tar.001": "1234",
    "lb.tar.002": "5678",
    [`${DEAD}/lb.tar.003`]: "90",
    "other.tar.001": "mine",
  });
  const parts = await writeOutputParts(output, [textSegment("1234567890")], 4, {});
  expect(parts).toHaveLength(3);
  expect(listed(dir)).toEqual(["lb.tar.001", "lb.tar.002", "lb.tar.003", "other.tar.001"]);
});

test.each([
  ["that were not named yet", { [`${DEAD}/lb.tar.001`]: "1234" }],
  ["that are all named", { [`${DEAD}/`]: "" }],
  ["that are shorter than what follows", { [`${DEAD}/lb.tar.002`]: "12345" }],
])("a part of that name stays beside parts %s", (_, left) => {
  const dir = temp.make();
  writeFiles(dir, { "lb.tar.001": "mine", ...left });
  expect(faultOf(() => checkOutput(join(dir, "lb.tar")))).toStartWith(
    `Cannot write ${join(dir, "lb.tar")}: ${join(dir, "lb.tar.001")} exists`,
  );
  expect(listed(dir)).toEqual(["lb.tar.001"]);
});
