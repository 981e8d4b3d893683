// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { bareUrl, publicUrl } from "../../src/fetch/failure.ts";

test("publicUrl() and bareUrl() show no password, not even of what is no URL", () => {
  const given = ["http://me:secret@h/a", "http://me:secret@h:99999/a", "http://me:se cret@[h/a"];
  for (const shown of [publicUrl, bareUrl]) {
    expect(given.map(shown)).toEqual(["http://h/a", "http://h:99999/a", "http://[h/a"]);
  }
});
