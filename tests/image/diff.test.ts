// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { payload } from "../../src/format/payload.ts";
import { memorySource } from "../../src/format/reader.ts";
import { textSegment } from "../../src/format/segment.ts";
import { diffViews } from "../../src/image/diff.ts";
import { type ImageView } from "../../src/image/types.ts";
import { openView } from "../../src/image/view.ts";
import { UNWATCHED } from "../../src/progress.ts";
import { openImage } from "../../src/source/file.ts";
import { rejection } from "../fetch/harness.ts";
import { TempDirs } from "../support/files.ts";
import { bytesOfSegments } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** A payload of files of these names; those without a given content all have the same. */
function view(names: readonly string[], body = (_name: string) => "alike"): ImageView {
  const entries = names.map((name) => ({ name, body: textSegment(body(name)) }));
  return openView(memorySource(bytesOfSegments(payload(entries))));
}

test("diffViews() pairs moved files of equal content in order, each of them once", async () => {
  const other = (name: string) => name === "a2" || name === "b2" ? "other" : "alike";
  const before = view(["a1", "a2", "a3", "a4"], other);
  const differences = await diffViews(before, view(["b1", "b2"], other));
  expect(differences.map(({ kind, path, ...rest }) => [kind, path, "from" in rest && rest.from]))
    .toEqual([
      ["removed", "a3", false],
      ["removed", "a4", false],
      ["moved", "b1", "a1"],
      ["moved", "b2", "a2"],
    ]);
  const fewer = await diffViews(view(["a1"]), view(["b1", "b2"]));
  expect(fewer.map(({ kind, path }) => `${kind} ${path}`)).toEqual(["moved b1", "added b2"]);
});

test("diffViews() finds the same in files of this machine as in memory", async () => {
  const dir = temp.make();
  const names = Array.from({ length: 60 }, (_, index) => `f${index}`);
  const bodies = (name: string) => name.repeat(1 + Number(name.slice(1)) % 7 * 50_000);
  const other = (name: string) => name.endsWith("3") ? `${bodies(name)}!` : bodies(name);
  const sides = [view([...names, "f60"], bodies), view([...names.slice(1), "g0"], other)] as const;
  const [before, after] = sides;
  const inMemory = await diffViews(before, after);
  expect(inMemory.map(({ kind, path }) => `${kind} ${path}`)).toEqual([
    "removed f0",
    ...["f13", "f23", "f3", "f33", "f43", "f53"].map((path) => `changed ${path}`),
    "removed f60",
    "added g0",
  ]);
  const sources = sides.map(({ source }, index) => {
    const path = join(dir, `${index}.img`);
    const bytes = new Uint8Array(source.sizeBytes);
    source.read(0, bytes);
    writeFileSync(path, bytes);
    return openImage(path);
  });
  const views = sources.map((source) => openView(source));
  let bytes = 0;
  const progress = { ...UNWATCHED, add: (more: number) => bytes += more };
  expect(await diffViews(views[0]!, views[1]!, { progress })).toEqual(inMemory);
  expect(bytes).toBeGreaterThan(10_000_000);
  const signal = AbortSignal.abort();
  expect(await rejection(diffViews(views[0]!, views[1]!, { signal })))
    .toMatchObject({ kind: "interrupt" });
  for (const source of sources) source.close();
});
