// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { openView, watchedView } from "../../src/image/view.ts";
import { checkImage } from "../../src/job/verify.ts";
import type { Progress } from "../../src/progress.ts";
import { openImage } from "../../src/source/file.ts";
import { buildMedia } from "../../src/job/build.ts";
import { TempDirs } from "../support/files.ts";
import { buildOptions, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

interface Stage {
  readonly what: string;
  readonly totalBytes: number | undefined;
  doneBytes: number;
}

/** A progress that writes down what it is told. */
function recorder(): { stages: Stage[]; progress: Progress } {
  const stages: Stage[] = [];
  return {
    stages,
    progress: {
      begin: (what, totalBytes) => void stages.push({ what, totalBytes, doneBytes: 0 }),
      add: (bytes) => {
        const stage = stages.at(-1);
        if (stage !== undefined) stage.doneBytes += bytes;
      },
    },
  };
}

test("building and verifying tell their stages, and all bytes of each, holes included", async () => {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(dir);
  const [target, store] = [join(dir, "target"), join(dir, "store")];
  const options = buildOptions({ mirrors: [{ kind: "directory", path: mirror }] });
  const building = recorder();
  const request = { tree, options, store, target, force: false, jobs: 1 };
  await buildMedia(request, { progress: building.progress });
  const writing = building.stages.find(({ what }) => what === "writing")!;
  expect(writing.totalBytes).toBeGreaterThan(0);
  // What is not copied from a file, such as names and padding, takes no time.
  expect(writing.doneBytes).toBeLessThanOrEqual(writing.totalBytes!);

  const { stages, progress } = recorder();
  const source = openImage(join(target, "init.img"));
  await checkImage(watchedView(openView(source), progress), source, { progress, tree });
  source.close();
  expect(stages.map(({ what }) => what)).toEqual([
    "checking the structure",
    "checking files and image",
    "comparing with the checkout",
  ]);
  const [structure, ...others] = stages;
  // The tail of 64 MiB counts, although it is a hole.
  expect(structure!.doneBytes).toBeGreaterThan(60 * 1024 * 1024);
  for (const { totalBytes, doneBytes } of others) {
    expect(doneBytes).toBe(totalBytes!);
  }
});
