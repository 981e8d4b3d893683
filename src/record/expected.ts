// SPDX-License-Identifier: MIT
/**
 * What a run of a target has to come to, read from the manifest that the machine itself will read.
 *
 * @module
 */

import { join } from "node:path";
import type { Expected, StepPass } from "../console/outcome.ts";
import type { RunPlan } from "../console/position.ts";
import { UserError } from "../errors.ts";
import { MIB } from "../format/segment.ts";
import { type ImageView, isOfPayload } from "../image/types.ts";
import { openView } from "../image/view.ts";
import { type BuildOptions, type CiPass, startOf } from "../plan/options.ts";
import { BOOT_IMAGE, CONTAINER_IMAGE, DISK_IMAGE } from "../plan/types.ts";
import { reading } from "../refused.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { openImage } from "../source/file.ts";
import { type Config, parseConfig } from "../tree/config.ts";
import { evaluateEvery, EXTRA_BUILDS, type ExtraBuild, extraDir } from "../tree/extra.ts";
import { type ActiveLine, type Manifest, parseManifest } from "../tree/manifest.ts";
import type { TargetRecord } from "./types.ts";

const MANIFEST = "steps/manifest";
const CONFIG = "steps/bootstrap.cfg";
/** The script of the last line of the manifest. */
const LAST_SCRIPT = "steps/improve/after.sh";
/** Far more than any manifest has: that of live-bootstrap has 10 KB. */
const MAX_TEXT_BYTES = MIB;

/** What a run of a target goes through, and what has to be seen of it. */
export interface ExpectedRun extends Expected {
  readonly plan: RunPlan;
}

/**
 * Reads from a target what its run goes through, and what has to be seen of it.
 *
 * @param dir The target, absolute.
 */
export function expectedOf(dir: string, { options }: TargetRecord): ExpectedRun {
  const start = startOf(options);
  const isDirectory = start === "directory";
  const isContainer = start === "container";
  const image = start === "disk" ? DISK_IMAGE : isContainer ? CONTAINER_IMAGE : BOOT_IMAGE;
  const read = (path: string) =>
    isDirectory ? readText(join(dir, path)) : readFromImage(join(dir, image), path);
  const steps = plannedSteps(read, options);
  const last = steps?.at(-1);
  const since = Date.now();
  return {
    plan: {
      steps,
      loadSizes: start === "builder-hex0" ? entrySizes(join(dir, image)) : [],
    },
    lastStep: last,
    switchesOff: !isDirectory && !isContainer,
    ...(isDirectory && last && { isPackaged: () => isPackaged(dir, last, since) }),
  };
}

/** The steps that a run builds, in order; undefined where that is not known beforehand. */
function plannedSteps(
  read: (path: string) => string | undefined,
  { internalCi, hasPreseed }: BuildOptions,
): readonly StepPass[] | undefined {
  const [manifest, config] = [read(MANIFEST), read(CONFIG)];
  // Where the configurator makes the configuration on the machine, nobody knows which steps count.
  if (manifest === undefined || config === undefined || config === "") return undefined;
  try {
    const variables = parseConfig(config, CONFIG);
    const main = parseManifest(manifest, MANIFEST);
    const manifests = { manifest: main, extraBuilds: extraBuildsOf(read, main, variables) };
    const active = evaluateEvery(manifests, variables);
    const lines = hasPreseed ? afterBash(active) : active;
    return ofPass(lines, internalCi).flatMap(({ line, pass }) =>
      line.kind === "build" ? [{ name: line.name, pass }] : []
    );
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/**
 * The extra builds that follow the manifest in the same run: those of a machine that comes to them
 * at its end. Another one does after it was started again, which is no part of the run.
 */
function extraBuildsOf(
  read: (path: string) => string | undefined,
  { lines }: Manifest,
  config: Config,
): ExtraBuild[] {
  const names = config.find(([name]) => name === EXTRA_BUILDS)?.[1];
  if (!names || !read(LAST_SCRIPT)?.includes(EXTRA_BUILDS)) return [];
  let firstIndex = lines.length;
  return names.split(",").map((name) => {
    const dir = extraDir(name);
    const path = `${dir}/manifest`;
    const manifest = parseManifest(read(path) ?? "", path);
    const extra = { name, dir, manifest, firstIndex };
    firstIndex += manifest.lines.length;
    return extra;
  });
}

/** The lines after the first bash is built: a run from the root of an earlier one begins there. */
function afterBash(active: readonly ActiveLine[]): readonly ActiveLine[] {
  return active.slice(
    active.findIndex(({ line }) => line.kind === "build" && line.name.startsWith("bash-")) + 1,
  );
}

/** The lines of a pass of live-bootstrap's own CI: each but the last ends at its `jump: break`. */
function ofPass(
  active: readonly ActiveLine[],
  pass: CiPass | undefined,
): readonly ActiveLine[] {
  if (pass === undefined) return active;
  const breaks = active.flatMap(({ line }, index) =>
    line.kind === "jump" && line.name === "break" ? [index] : []
  );
  const number = Number(pass.slice("pass".length));
  return active.slice(number === 1 ? 0 : breaks[number - 2], breaks[number - 1]);
}

/**
 * Returns the path of the package of a step in a root: live-bootstrap's helpers.sh names it
 * `NAME_REVISION.tar.bz2`, the revision being the pass less 1.
 */
export function packagePath({ name, pass }: StepPass): string {
  return `/external/repo/${name}_${pass - 1}.tar.bz2`;
}

/** Reports whether a directory holds the package of a step, made since a time. */
function isPackaged(dir: string, step: StepPass, sinceMs: number): boolean {
  const found = lstatIfThere(join(dir, packagePath(step)));
  // The clock of a file system may be a tick late.
  return found?.isFile() === true && found.mtimeMs >= sinceMs - 1000;
}

/** Sizes of the entries that builder-hex0 loads, in their order; none where they cannot be read. */
function entrySizes(image: string): readonly number[] {
  return withImage(
    image,
    (source) =>
      [...openView(source).entries()].flatMap((entry) =>
        "size" in entry && !isOfPayload(entry.path) ? [entry.size] : []
      ),
  ) ?? [];
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
function withImage<T>(
  path: string,
  use: (source: ReturnType<typeof openImage>) => T,
): T | undefined {
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
