// SPDX-License-Identifier: MIT
/**
 * The embedded demo: a miniature checkout with the layout of live-bootstrap, all of it our own, and
 * a mirror with its distfiles. The preflight program boots from its media.
 *
 * @module
 */

import { type Mirror } from "../fetch/mirror.ts";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DEMO_MIRROR, DEMO_TREE } from "../assets.gen.ts";
import { type BuildOptions, defaultOptions } from "../plan/options.ts";
import { preflightText } from "../preflight/image.ts";
import { STAGE1_PATH, STAGE2_PATH } from "../tree/model.ts";

/** The directories of an unpacked demo. */
export interface DemoFiles {
  readonly tree: string;
  readonly mirror: string;
}

/**
 * Unpacks the demo.
 *
 * @param dir An empty directory.
 */
export function unpackDemo(dir: string): DemoFiles {
  const tree = join(dir, "tree");
  const mirror = join(dir, "mirror");
  for (const [path, text] of Object.entries(DEMO_TREE)) put(join(tree, path), text);
  put(join(tree, STAGE1_PATH), preflightText("stage1"));
  put(join(tree, STAGE2_PATH), preflightText("stage2"));
  for (const [name, text] of Object.entries(DEMO_MIRROR)) put(join(mirror, name), text);
  return { tree, mirror };
}

function put(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

/** Returns the options of the demo: media for QEMU with every distfile. */
export function demoOptions(mirrors: readonly Mirror[]): BuildOptions {
  return {
    ...defaultOptions("qemu"),
    externalSources: true,
    mirrors,
    targetSizeMib: 64,
    bootProgram: "preflight",
  };
}
