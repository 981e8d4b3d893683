// SPDX-License-Identifier: MIT
/**
 * A later pass of live-bootstrap's own CI: it continues in a directory or in a container that a
 * bootstrap has worked in, where only distfiles are put again.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { fileSegment } from "../format/segment.ts";
import type { Located } from "../plan/images.ts";
import type { BuildOptions } from "../plan/options.ts";
import type { Plan } from "../plan/types.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { sbomText } from "../record/sbom.ts";
import { SBOM_NAME } from "../record/types.ts";
import { statementText } from "../record/statement.ts";
import { putAgain } from "../write/again.ts";
import { Target } from "../write/target.ts";
import { originsOf } from "../record/materials.ts";
import { readRecord, recordDistfiles } from "../record/read.ts";
import { RECORD_NAME, type TargetRecord } from "../record/types.ts";
import { findPass, type FoundPass, putIntoPass } from "./container_pass.ts";

/** Where the distfiles lie in a root. */
const PLACE = ["external", "distfiles"];

/** What a later pass goes on with. */
export interface EarlierPass {
  readonly record: TargetRecord;
  /** Undefined for a directory, which is the target itself. */
  readonly container: FoundPass | undefined;
}

/**
 * Checks that a target was prepared by the first pass and has run.
 *
 * @throws {UserError} "target"; of a container also as `findPass()`
 */
export async function readPass(
  { mode }: Pick<BuildOptions, "mode">,
  target: string,
  signal: AbortSignal | undefined,
): Promise<EarlierPass> {
  const dir = resolve(target);
  const record = readRecord(dir);
  const init = join(dir, "init");
  const isDirectory = mode === "bwrap";
  if (record.options.mode !== mode || (isDirectory && lstatIfThere(init) === undefined)) {
    throw new UserError("target", `Cannot go on in ${dir}: no pass1 has run there`, {
      where: isDirectory ? init : dir,
      hint: `Begin with --${mode} --internal-ci pass1 and the same --target`,
    });
  }
  const container = isDirectory ? undefined : await findPass(dir, record.options, signal);
  return { record, container };
}

/**
 * Puts the distfiles of a plan into the root, verified, and takes its options into the record.
 *
 * @param located Every distfile that the plan needs.
 * @param store Directory that downloads are kept in.
 * @throws {UserError} "verify" for a file whose digest is wrong (`DigestMismatch`), "target",
 * "launch" where an engine fails, "interrupt" when the signal is raised.
 */
export async function continuePass(
  plan: Plan,
  located: Located,
  target: Target,
  { record: before, container }: EarlierPass,
  store: string,
  signal: AbortSignal | undefined,
): Promise<TargetRecord> {
  const carried = plan.distfiles.filter(({ place }) => place === "boot").map(
    ({ name, sha256 }) => ({ name, body: fileSegment(located.get(name)!, sha256) }),
  );
  if (container !== undefined) await putIntoPass(container, carried, signal);
  else await putAgain(target.dir, PLACE, carried, signal);
  // bootstrap.cfg stays the one that the first pass has left there.
  const { options, servedMirrors, warnings } = plan;
  const distfiles = recordDistfiles(plan, originsOf(plan, located, store));
  const record = { ...before, options, servedMirrors, distfiles, warnings };
  target.replace(SBOM_NAME, sbomText(record));
  target.replace(RECORD_NAME, statementText(record));
  return record;
}
