// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { type BuildOptions, defaultOptions } from "../../src/plan/options.ts";
import { expectedOf } from "../../src/record/expected.ts";
import type { TargetRecord } from "../../src/record/types.ts";
import { type FileTree, TempDirs, writeFiles } from "../support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const MANIFEST = `build: a-1
build: kernel-1 ( CHROOT == False )
build: a-1
jump: break ( INTERNAL_CI == pass1 )
build: bash-2
jump: break ( INTERNAL_CI == pass1 )
build: a-1
improve: after
`;

/** What a run in a directory goes through, as `NAME PASS`. */
function planned(
  changed: Partial<BuildOptions>,
  cfg = "CHROOT=True\nINTERNAL_CI=False\n",
  files: FileTree = {},
) {
  const dir = temp.make();
  writeFiles(dir, { "steps/manifest": MANIFEST, "steps/bootstrap.cfg": cfg, ...files });
  const options = { ...defaultOptions("chroot"), ...changed };
  const { plan, lastStep } = expectedOf(dir, { options } as TargetRecord);
  expect(lastStep).toEqual(plan.steps?.at(-1));
  return plan.steps?.map(({ name, pass }) => `${name} ${pass}`);
}

test("a run goes through the steps that its configuration builds, each in its pass", () => {
  expect(planned({})).toEqual(["a-1 1", "a-1 2", "bash-2 1", "a-1 3"]);
});

test("a run of a pass goes through the steps between two breaks", () => {
  const cfg = "CHROOT=True\nINTERNAL_CI=pass1\n";
  expect(planned({ internalCi: "pass1" }, cfg)).toEqual(["a-1 1", "a-1 2"]);
  expect(planned({ internalCi: "pass2" }, cfg)).toEqual(["bash-2 1"]);
  expect(planned({ internalCi: "pass3" }, cfg)).toEqual(["a-1 3"]);
});

test("a run from the root of an earlier one begins after the first bash", () => {
  expect(planned({ hasPreseed: true })).toEqual(["a-1 3"]);
});

test("where the machine makes its configuration, nothing is known beforehand", () => {
  expect(planned({}, "")).toBeUndefined();
});

test("a run goes on with the extra builds that the last script of the manifest comes to", () => {
  const cfg = "CHROOT=True\nEXTRA_BUILDS=y,x\n";
  const files = (script: string) => ({
    "steps/improve/after.sh": script,
    "steps-x/manifest": "build: a-1\nbuild: b-2 ( CHROOT == True )\n",
    "steps-y/manifest": "build: c-3\nbuild: c-3\n",
  });
  const main = ["a-1 1", "a-1 2", "bash-2 1", "a-1 3"];
  const all = [...main, "c-3 1", "c-3 2", "a-1 1", "b-2 1"];
  expect(planned({}, cfg, files("for name in $EXTRA_BUILDS; do :; done\n"))).toEqual(all);
  expect(planned({}, cfg, files("true\n"))).toEqual(main);
});
