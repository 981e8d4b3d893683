// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { restoreScript } from "../../src/plan/lost.ts";
import { makePlan } from "../../src/plan/plan.ts";
import { readTree } from "../../src/tree/model.ts";
import { type FileTree, TempDirs } from "../support/files.ts";
import { buildOptions, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

function planOf(files: FileTree, options: MiniOptions = {}, mode: "qemu" | "chroot" = "qemu") {
  const seed = { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "seed" };
  const { tree } = writeMiniTree(
    temp.make(),
    miniTree({ ...options, files: { ...seed, ...files } }),
  );
  return makePlan(readTree(tree), buildOptions({ mode }), new Map());
}

test("empty files and directories that a step after the jump needs are created again", () => {
  const plan = planOf({
    "steps/beta-2.0/patches/.keep": "",
    "steps/beta-2.0/files/": "",
    "steps/helpers/none": "",
    "steps/gamma-3.0/full/x": "x",
  });
  expect(plan.overlay.madeAgain).toEqual([
    "steps/beta-2.0/files/",
    "steps/beta-2.0/patches/.keep",
    "steps/helpers/none",
  ]);
  const script = plan.entries.find(({ path }) => path === "./steps/improve/restore_empty.sh");
  const { content } = script!;
  expect(content.kind === "generated" && new TextDecoder().decode(content.bytes)).toContain(
    'mkdir -p "/steps/beta-2.0/files"\nmkdir -p "/steps/beta-2.0/patches"\n' +
      'mkdir -p "/steps/helpers"\ncatm "/steps/beta-2.0/patches/.keep"\ncatm "/steps/helpers/none"\n',
  );
  const paths = plan.entries.map(({ path }) => path);
  // After the jump a directory would be a file, in the way of the new one.
  for (const gone of ["files", "patches", "patches/.keep"]) {
    expect(paths).not.toContain(`./steps/beta-2.0/${gone}`);
  }
  expect(paths).not.toContain("./steps/helpers");
  expect(paths).toContain("./steps/beta-2.0/sources");
  expect(paths).toContain("./steps/gamma-3.0/full/x");
  expect(plan.overlay.manifestLines.map(({ text }) => text)).toEqual([
    "improve: restore_empty ( KERNEL_BOOTSTRAP == True )",
  ]);
});

test("entries of steps before the jump only, and those outside steps/, stay unchanged", () => {
  const plan = planOf({ "seed/stage0-posix/hollow/": "", "steps/alpha-1.0/.keep": "" }, {
    jumpsToFiwix: false,
  });
  expect(plan.overlay).toEqual({
    manifestLines: [],
    files: ["steps/bootstrap.cfg"],
    madeAgain: [],
  });
});

test("a directory to start in loses nothing, and nothing is created again", () => {
  const plan = planOf({ "steps/beta-2.0/patches/.keep": "" }, {}, "chroot");
  expect(plan.overlay.madeAgain).toEqual([]);
  expect(plan.entries.map(({ path }) => path)).toContain("./steps/beta-2.0/patches/.keep");
});

test("a name that kaem cannot read leads to a warning", () => {
  const plan = planOf({ 'steps/beta-2.0/a"b': "" });
  expect(plan.overlay.madeAgain).toEqual([]);
  expect(plan.warnings).toContain(
    'steps/beta-2.0/a"b is empty and will be lost at jump: fiwix: kaem cannot read its name in a script',
  );
});

test("the script creates them in a shell", () => {
  const root = temp.make();
  mkdirSync(join(root, "bin"));
  writeFileSync(join(root, "bin/catm"), '#!/bin/sh\nfor out; do : > "$out"; done\n', {
    mode: 0o755,
  });
  const lost = { files: ["steps/a b/c.d"], directories: ["steps/e"] };
  const script = restoreScript(lost).replaceAll(' "/', ` "${root}/`);
  const env = { PATH: `${root}/bin:${process.env["PATH"]}` };
  expect(spawnSync("sh", ["-c", script], { env }).status).toBe(0);
  expect(statSync(join(root, "steps/a b/c.d")).size).toBe(0);
  expect(statSync(join(root, "steps/e")).isDirectory()).toBe(true);
});
