// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { join } from "node:path";
import { parseMirror } from "../../src/fetch/mirror.ts";
import { faultOf } from "../support/sources.ts";

test("parseMirror() takes http, https and absolute directories", () => {
  expect(parseMirror("http://h:1/d/")).toEqual({ kind: "http", url: "http://h:1/d" });
  expect(parseMirror("https://h")).toEqual({ kind: "http", url: "https://h" });
  expect(parseMirror("file:///srv/a b")).toEqual({ kind: "directory", path: "/srv/a b" });
  expect(parseMirror("/srv/a b/")).toEqual({ kind: "directory", path: "/srv/a b" });
  expect(parseMirror("./m")).toEqual({ kind: "directory", path: join(process.cwd(), "m") });
  expect(parseMirror("../m")).toEqual({ kind: "directory", path: join(process.cwd(), "../m") });
  for (
    const text of [
      "",
      "h",
      "ftp://h",
      "file://srv",
      "file:",
      "http://",
      'http://h/"',
      "http://h/$x",
    ]
  ) {
    expect(faultOf(() => parseMirror(text))).toStartWith(
      `Cannot use mirror ${JSON.stringify(text)}`,
    );
  }
});
