// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { join } from "node:path";
import { type FileSegment, MIB } from "../../src/format/segment.ts";
import { digestSegment } from "../../src/write/copy.ts";
import { rejection } from "../fetch/harness.ts";
import { TempDirs } from "../support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

test("digestSegment() can be interrupted, wherever a file is split between parts", async () => {
  const path = join(temp.make(), "part");
  const size = 256 * MIB;
  const file = openSync(path, "w");
  ftruncateSync(file, size);
  closeSync(file);
  // A part of a bundle may end after the first byte of a file.
  const runs = [
    { path, offsetBytes: 0, sizeBytes: 1 },
    { path, offsetBytes: 1, sizeBytes: size - 1 },
  ];
  const bundled = { name: "distfiles/long.tar", sha256: "0".repeat(64), runs };
  const segment: FileSegment = { kind: "file", path, offsetBytes: 0, sizeBytes: size, bundled };
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 0);
  const error = await rejection(digestSegment(segment, controller.signal));
  expect(error.kind).toBe("interrupt");
});
