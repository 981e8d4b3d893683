// SPDX-License-Identifier: MIT
/**
 * Makes the files that options of the cases name: packages, a kernel, archives of a root.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  linkSync,
  mkdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { kernelLike } from "../../tests/support/kernel.ts";
import type { Inputs } from "./cases.ts";

/** Names of archives, with the option of tar for their compression. */
const PRESEEDS = { "root.tar.gz": "-z", "root.tar.bz2": "-j", "root.tar.xz": "-J", "root.tar": "" };

/** Files of the archive; those of `steps/` and `external/` are replaced by others. */
const ROOT_FILES = {
  "bootstrap-seeds/POSIX/x86/kaem-optional-seed": "the first program\n",
  "init": "the same\n",
  "x86/hex0_x86.hex0": "7F 45 ; a seed\n",
  "x86/kaem-minimal.hex0": "7F 4C ; another\n",
  "kaem.x86": "one that is replaced\n",
  "usr/bin/tool": "#!/bin/sh\n",
  "usr/share/empty": "",
  "usr/share/a name with blanks": "text\n",
  "usr/share/secret": "for its owner\n",
  "steps/manifest": "build: none\n",
  "steps/own/pass1.sh": "none\n",
  "external/distfiles/none.tar.gz": "none\n",
};

const PACKAGES = {
  "one_0.tar.bz2": "a package\n",
  "sub/two_0.tar.bz2": "another one\n",
  "sub/deeper/three_0.tar.bz2": "",
};

const FLAT_PACKAGES = { "one_0.tar.bz2": "a package\n", "two_0.tar.bz2": "" };

/** Makes the inputs below a directory, in which they must not exist. */
export function makeInputs(work: string): Inputs {
  const dir = join(work, "inputs");
  const root = join(work, "inputs", "root");
  const repo = join(work, "inputs", "repo");
  const kernel = join(work, "inputs", "bzImage");
  writeFiles(root, ROOT_FILES);
  chmodSync(join(root, "usr/bin/tool"), 0o755);
  symlinkSync("tool", join(root, "usr/bin/link"));
  linkSync(join(root, "usr/bin/tool"), join(root, "usr/bin/again"));
  symlinkSync("share", join(root, "usr/lib"));
  mkdirSync(join(root, "usr/empty"));
  chmodSync(join(root, "usr/empty"), 0o700);
  chmodSync(join(root, "usr/share/secret"), 0o600);
  writeFiles(repo, PACKAGES);
  const flatRepo = join(work, "inputs", "flat-repo");
  writeFiles(flatRepo, FLAT_PACKAGES);
  // Its name is all that is passed on.
  writeFileSync(kernel, kernelLike());
  for (const [name, option] of Object.entries(PRESEEDS)) makeTar(join(dir, name), option, root);
  const plainRoot = join(dir, "plain.tar");
  rmSync(join(root, "external"), { recursive: true });
  makeTar(plainRoot, "", root);
  rmSync(root, { recursive: true });
  const preseeds = Object.keys(PRESEEDS).map((name) => join(dir, name));
  return { repo, flatRepo, kernel, preseeds, plainRoot, qemu: "qemu-of-my-own" };
}

/** Makes a tar file. Its names begin with `./`, as in an archive made inside a root. */
function makeTar(path: string, option: string, root: string): void {
  const how = option === "" ? [] : [option];
  const { status, stderr } = spawnSync("tar", [...how, "-C", root, "-cf", path, "."]);
  if (status !== 0 || statSync(path).size === 0) throw new Error(`tar failed: ${stderr}`);
}

function writeFiles(dir: string, files: Readonly<Record<string, string>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  }
}
