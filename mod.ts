// SPDX-License-Identifier: MIT
/**
 * seedstrap as a library: what a checkout says, plans, image formats, and the main job.
 *
 * @example Plan a build, and build it
 * ```ts
 * import { buildMedia, planJob } from "./mod.ts";
 *
 * const request = { tree: "live-bootstrap", options, store: "distfiles" };
 * const { plan } = await planJob(request);
 * console.log(plan.limits);
 * await buildMedia({ ...request, target: "target", force: false, jobs: 4 });
 * ```
 *
 * @module
 */

export { type ErrorKind, EXIT, UserError } from "./src/errors.ts";

export * from "./src/format/boot.ts";
export * from "./src/format/ext.ts";
export * from "./src/format/ext_inode.ts";
export * from "./src/format/bundle.ts";
export * from "./src/format/hex0.ts";
export * from "./src/format/mbr.ts";
export * from "./src/format/payload.ts";
export * from "./src/format/reader.ts";
export * from "./src/format/segment.ts";
export * from "./src/format/srcfs.ts";
export * from "./src/format/sums.ts";

export * from "./src/archive/archive.ts";
export * from "./src/archive/entries.ts";
export * from "./src/archive/types.ts";

export { type Bundle, openBundle } from "./src/image/bundle.ts";
export { type BundlePart, type BundleSource, findParts, openParts } from "./src/source/parts.ts";
export * from "./src/image/bundle_verify.ts";

export * from "./src/tree/config.ts";
export * from "./src/tree/distfiles.ts";
export * from "./src/tree/manifest.ts";
export * from "./src/tree/model.ts";
export * from "./src/tree/sources.ts";

export * from "./src/plan/images.ts";
export * from "./src/plan/limits.ts";
export * from "./src/plan/options.ts";
export type { KnownSizes } from "./src/plan/place.ts";
export * from "./src/plan/plan.ts";
export * from "./src/plan/split.ts";
export * from "./src/plan/types.ts";

export { type FileSource, openImage } from "./src/source/file.ts";
export * from "./src/image/diff.ts";
export * from "./src/write/extract.ts";
export * from "./src/image/linear.ts";
export * from "./src/image/types.ts";
export * from "./src/image/view.ts";
export { writeImage, type WriteOptions, type WrittenImage } from "./src/write/writer.ts";
export * from "./src/device/candidates.ts";
export * from "./src/job/build.ts";
export * from "./src/device/write.ts";
export * from "./src/job/write.ts";
export {
  type DistfileOrigin,
  RECORD_NAME,
  type RecordedCheckout,
  type RecordedDistfile,
  type RecordedFile,
  type RecordedImage,
  type TargetRecord,
} from "./src/record/types.ts";
export { parseRecord, readRecord, readRecordFile } from "./src/record/read.ts";
export { reproduceBuild, type ReproduceRequest, type Reproduction } from "./src/job/reproduce.ts";
export * from "./src/record/compare.ts";
export { sbomText } from "./src/record/sbom.ts";
export {
  makeStatement,
  type Resource,
  type Statement,
  statementText,
} from "./src/record/statement.ts";
export { SBOM_NAME } from "./src/record/types.ts";
export * from "./src/job/bundle.ts";
export { VERSION } from "./src/version.ts";
