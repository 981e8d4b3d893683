// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { payload } from "../../src/format/payload.ts";
import { memorySource } from "../../src/format/reader.ts";
import { textSegment } from "../../src/format/segment.ts";
import { diffViews } from "../../src/image/diff.ts";
import { type ImageView } from "../../src/image/types.ts";
import { openView } from "../../src/image/view.ts";
import { bytesOfSegments } from "../support/sources.ts";

/** A payload of files of these names; those without a given content all have the same. */
function view(names: readonly string[], body = (_name: string) => "alike"): ImageView {
  const entries = names.map((name) => ({ name, body: textSegment(body(name)) }));
  return openView(memorySource(bytesOfSegments(payload(entries))));
}

test("diffViews() pairs moved files of equal content in order, each of them once", () => {
  const other = (name: string) => name === "a2" || name === "b2" ? "other" : "alike";
  const differences = diffViews(view(["a1", "a2", "a3", "a4"], other), view(["b1", "b2"], other));
  expect(differences.map(({ kind, path, ...rest }) => [kind, path, "from" in rest && rest.from]))
    .toEqual([
      ["removed", "a3", false],
      ["removed", "a4", false],
      ["moved", "b1", "a1"],
      ["moved", "b2", "a2"],
    ]);
  expect(diffViews(view(["a1"]), view(["b1", "b2"])).map(({ kind, path }) => `${kind} ${path}`))
    .toEqual(["moved b1", "added b2"]);
});
