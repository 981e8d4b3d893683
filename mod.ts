// SPDX-License-Identifier: MIT
/**
 * seedstrap as a library: plans and builds media, and reads images.
 *
 * The example plans the media of a checkout, builds them, and lists what they hold. Its arguments
 * are a checkout, the URL of a mirror, and a directory that does not exist yet.
 *
 * @example
 * ```ts
 * import { join } from "node:path";
 * import process from "node:process";
 * import {
 *   brokenLimits,
 *   buildMedia,
 *   defaultOptions,
 *   openSource,
 *   openView,
 *   parseMirror,
 *   planBuild,
 *   UserError,
 * } from "./mod.ts";
 *
 * const [tree = "", mirror = "", target = ""] = process.argv.slice(2);
 * const options = {
 *   ...defaultOptions("bare-metal"),
 *   externalSources: true,
 *   mirrors: [parseMirror(mirror)],
 * };
 * const request = { tree, options, store: join(target, "distfiles") };
 * try {
 *   const { plan } = await planBuild(request);
 *   console.log(`${plan.distfiles.length} distfiles, broken limits: ${brokenLimits(plan).length}`);
 *   const record = await buildMedia({ ...request, target, force: false, jobs: 4 });
 *   for (const { name, piecesSha256 } of record.images) {
 *     console.log(`${name} ${piecesSha256}`);
 *     const source = openSource(join(target, name));
 *     for (const entry of openView(source).entries()) {
 *       if (entry.kind === "file") console.log(`  ${entry.size} ${entry.path}`);
 *     }
 *     source.close();
 *   }
 * } catch (error) {
 *   if (!(error instanceof UserError)) throw error;
 *   console.error(`${error.message} (${error.hint ?? "no hint"})`);
 *   process.exitCode = error.exitCode;
 * }
 * ```
 *
 * @module
 */

export { type ErrorDetail, type ErrorKind, EXIT, UserError } from "./src/errors.ts";
export { VERSION } from "./src/version.ts";

export { type Mirror, parseMirror } from "./src/fetch/mirror.ts";
export type { FetchEvent } from "./src/fetch/types.ts";
export { type BuildOptions, defaultOptions, type Mode } from "./src/plan/options.ts";
export type { Plan, PlannedDistfile, PlannedEntry } from "./src/plan/types.ts";
export type { Limit } from "./src/plan/limits.ts";
export { brokenLimits } from "./src/plan/plan.ts";

export {
  type BuildEvents,
  buildMedia,
  type BuildRequest,
  planBuild,
  type PlannedBuild,
  type PlanRequest,
} from "./src/job/build.ts";
export { type BundleRequest, createBundle, type CreatedBundle } from "./src/job/bundle.ts";
export { reproduceBuild, type ReproduceRequest, type Reproduction } from "./src/job/reproduce.ts";

export { readRecord } from "./src/record/read.ts";
export type {
  RecordedDistfile,
  RecordedFile,
  RecordedImage,
  TargetRecord,
} from "./src/record/types.ts";

export type { FileSource } from "./src/source/file.ts";
export { openSource } from "./src/source/open.ts";
export { openSegments } from "./src/source/segments.ts";
export type { ImageView, ViewEntry, ViewKind } from "./src/image/types.ts";
export { digestEntry, openView } from "./src/image/view.ts";
export { type Difference, diffViews } from "./src/image/diff.ts";

export type {
  BundledFile,
  BytesSegment,
  Crc32Segment,
  FileIdentity,
  FileRun,
  FileSegment,
  JoinedSegment,
  MemberSegment,
  Segment,
  ZerosSegment,
} from "./src/format/segment.ts";
export { type Image, type ImageFile, planImages } from "./src/plan/images.ts";
export type { ImageDevices, ImageOutputs } from "./src/job/media.ts";
export { imageStream, type ImageStreamOptions } from "./src/write/stream.ts";
