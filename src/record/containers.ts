// SPDX-License-Identifier: MIT
/**
 * The containers of a target in which a bootstrap has ended, for the pass that goes on there.
 *
 *   TARGET/.seedstrap/containers   the engine, and the names of the containers, the last one first
 *
 * A pass goes on with the first one that is there. Those after it are of earlier passes, and are to
 * be removed. A target may come from anywhere: so nothing is done with a container before it is
 * known to be one of the image of the target, see launch/kept.ts; and its name is one that only who
 * made it can know.
 *
 * @module
 */

import { renameSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { UserError } from "../errors.ts";
import { list, objectOf, oneOf, parseJson, textThat } from "../json.ts";
import { type Engine, ENGINES } from "../launch/engine.ts";
import { isContainerName } from "../launch/kept.ts";
import { readWholeText } from "../read.ts";
import { writing } from "../refused.ts";
import { syncDirectory, writeNewFile } from "../runtime/durable.ts";
import { hasOwnDirectory, makeOwnDirectory, WORK_DIR } from "../runtime/own.ts";
import { removeFile } from "../runtime/remove.ts";
import { lstatIfThere } from "../runtime/stat.ts";

const FORMAT = "seedstrap-containers/1";
const FILE = "containers";
const MAX_BYTES = 64 * 1024;
/** Each pass leaves one, and those before it are removed then. */
const MOST_NAMES = 64;

/** The containers of a target. */
export interface Containers {
  readonly format: typeof FORMAT;
  readonly engine: Engine["name"];
  /** The last one first; at least one. */
  readonly names: readonly string[];
}

const schema = objectOf<Containers>({
  format: v.literal(FORMAT, `"${FORMAT}"`),
  engine: oneOf(ENGINES),
  names: v.pipe(
    list(textThat(isContainerName, "the name of a container of seedstrap")),
    v.minLength(1, "at least one name"),
    v.maxLength(MOST_NAMES, `at most ${MOST_NAMES} names`),
  ),
});

/**
 * Returns the containers of a target.
 *
 * @param dir The target, absolute.
 * @returns undefined where no bootstrap has ended in one.
 * @throws {UserError} "target" for a file that is not as it is written here.
 */
export function containersOf(dir: string): Containers | undefined {
  const work = join(dir, WORK_DIR);
  const path = join(work, FILE);
  if (!hasOwnDirectory(work, { isPrivate: true }) || lstatIfThere(path) === undefined) {
    return undefined;
  }
  const parsed = parseJson(
    schema,
    readWholeText(path, { limitBytes: MAX_BYTES, followsLink: false }),
  );
  if (typeof parsed !== "string") return parsed;
  throw new UserError("target", `Cannot read the containers of ${dir}: ${parsed}`, {
    where: path,
    hint: "seedstrap did not write it: begin with --internal-ci pass1 in another --target",
  });
}

/**
 * Records the containers of a target, whose lock the caller has.
 *
 * @param names The last one first; none removes the record.
 * @throws {UserError} "target" where it cannot be written to.
 */
export function recordContainers(
  dir: string,
  engine: Engine["name"],
  names: readonly string[],
): void {
  const work = join(dir, WORK_DIR);
  const path = join(work, FILE);
  writing(path, () => {
    makeOwnDirectory(work, { isPrivate: true });
    removeFile(`${path}.part`);
    if (names.length === 0) removeFile(path);
    else {
      const containers: Containers = {
        format: FORMAT,
        engine,
        names: names.slice(0, MOST_NAMES),
      };
      writeNewFile(`${path}.part`, `${JSON.stringify(containers)}\n`, 0o644);
      renameSync(`${path}.part`, path);
    }
    syncDirectory(work);
  });
}
