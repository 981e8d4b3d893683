// SPDX-License-Identifier: MIT
/**
 * What a run of a target has to come to, read from the manifest that the machine itself will read.
 *
 * @module
 */

import { join } from "node:path";
import type { Expected, StepPass } from "../console/outcome.ts";
import { UserError } from "../errors.ts";
import { MIB } from "../format/segment.ts";
import type { ImageView } from "../image/types.ts";
import { openView } from "../image/view.ts";
import { type CiPass, startOf } from "../plan/options.ts";
import { BOOT_IMAGE, DISK_IMAGE } from "../plan/types.ts";
import { reading } from "../refused.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { openImage } from "../source/file.ts";
import { parseConfig } from "../tree/config.ts";
import { type ActiveLine, evaluateManifest, parseManifest } from "../tree/manifest.ts";
import type { TargetRecord } from "./types.ts";

const MANIFEST = "steps/manifest";
const CONFIG = "steps/bootstrap.cfg";
/** Far more than any manifest has: that of live-bootstrap has 10 KB. */
const MAX_TEXT_BYTES = MIB;

/**
 * Reads from a target what has to be seen of a run.
 *
 * @param dir The target, absolute.
 */
export function expectedOf(dir: string, { options }: TargetRecord): Expected {
  const isDirectory = startOf(options) === "directory";
  const image = startOf(options) === "disk" ? DISK_IMAGE : BOOT_IMAGE;
  const read = (path: string) =>
    isDirectory ? readText(join(dir, path)) : readFromImage(join(dir, image), path);
  const last = lastStep(read, options.internalCi);
  const since = Date.now();
  return {
    lastStep: last,
    switchesOff: !isDirectory,
    ...(isDirectory && last && { isPackaged: () => isPackaged(dir, last, since) }),
  };
}

function lastStep(
  read: (path: string) => string | undefined,
  pass: CiPass | undefined,
): StepPass | undefined {
  const [manifest, config] = [read(MANIFEST), read(CONFIG)];
  // Where the configurator makes the configuration on the machine, nobody knows which steps count.
  if (manifest === undefined || config === undefined || config === "") return undefined;
  try {
    const active = evaluateManifest(parseManifest(manifest, MANIFEST), parseConfig(config, CONFIG));
    return lastBuild(untilBreak(active, pass));
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** The lines of a pass of live-bootstrap's own CI: each but the last ends at its `jump: break`. */
function untilBreak(
  active: readonly ActiveLine[],
  pass: CiPass | undefined,
): readonly ActiveLine[] {
  if (pass === undefined) return active;
  const breaks = active.flatMap(({ line }, index) =>
    line.kind === "jump" && line.name === "break" ? [index] : []
  );
  return active.slice(0, breaks[Number(pass.slice("pass".length)) - 1]);
}

function lastBuild(active: readonly ActiveLine[]): StepPass | undefined {
  const last = active.findLast(({ line }) => line.kind === "build");
  return last && { name: last.line.name, pass: last.pass };
}

/**
 * Reports whether a directory holds the package of a step, made since a time: live-bootstrap's
 * helpers.sh names it `NAME_REVISION.tar.bz2`, the revision being the pass less 1.
 */
function isPackaged(dir: string, { name, pass }: StepPass, sinceMs: number): boolean {
  const found = lstatIfThere(join(dir, "external", "repo", `${name}_${pass - 1}.tar.bz2`));
  // The clock of a file system may be a tick late.
  return found?.isFile() === true && found.mtimeMs >= sinceMs - 1000;
}

function readText(path: string): string | undefined {
  return withImage(path, (source) => {
    if (source.sizeBytes > MAX_TEXT_BYTES) return undefined;
    const bytes = new Uint8Array(source.sizeBytes);
    return new TextDecoder().decode(bytes.subarray(0, source.read(0, bytes)));
  });
}

function readFromImage(image: string, path: string): string | undefined {
  return withImage(image, (source) => textIn(openView(source), path));
}

function textIn(view: ImageView, path: string): string | undefined {
  for (const entry of view.entries()) {
    if (entry.kind !== "file" || entry.path.replace(/^\.?\//, "") !== path) continue;
    if (entry.size > MAX_TEXT_BYTES) return undefined;
    const decoder = new TextDecoder();
    let text = "";
    for (const part of view.read(entry)) text += decoder.decode(part, { stream: true });
    return text + decoder.decode();
  }
  return undefined;
}

/** Opens a file of the target; one that is not there or no image says nothing. */
function withImage(
  path: string,
  use: (source: ReturnType<typeof openImage>) => string | undefined,
): string | undefined {
  try {
    const source = openImage(path);
    try {
      return reading(path, () => use(source));
    } finally {
      source.close();
    }
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}
