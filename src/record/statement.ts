// SPDX-License-Identifier: MIT
/**
 * seedstrap.json, the record of a target, is an in-toto statement (v1) with a SLSA provenance
 * predicate (v1).
 *
 *   subject                     what was built, a directory file by file
 *   predicate.buildDefinition
 *     externalParameters        the options, as `BuildOptions` has them
 *     internalParameters.record everything else of the `TargetRecord`
 *     resolvedDependencies      checkout, commits, packages, kernel, archive, distfiles
 *   predicate.runDetails
 *     builder                   seedstrap, its version, SHA-256 of its binary where it is one, and
 *                               the version of the mke2fs that made a disk
 *     byproducts                sbom.cdx.json
 *
 * All of it is derived from the record, which is what other commands read; a statement whose
 * subjects or dependencies do not agree with its record is refused. It has no time and no host name
 * on purpose, so that the same inputs give the same statement. The only paths of the machine in it
 * are those that the guest or the user needs again: mirrors that are directories, and a kernel.
 *
 * Keys of digests. `sha256` is always of the whole file that the name says. Other digests have keys
 * of their own. All values are lower-case hex:
 *
 *   seedstrapTree1    a checkout: see `tree/digest.ts`
 *   seedstrapBlocks1  a disk with a file system: SHA-256 of its blocks that are not zero, each with
 *                     its offset, and of its size: see `format/blocks.ts`
 *   seedstrapPieces1  a boot or payload image, or that of a container, by its files and the bytes between them: see
 *                     `format/pieces.ts`; with a sparse tail it has the annotations below, too
 *   seedstrapData1    a boot image with a sparse tail: SHA-256 of its first bytes, whose number is
 *                     the annotation seedstrap_dataBytes; zeros follow up to its size, which is
 *                     the annotation seedstrap_sizeBytes
 *
 * A dependency `.git/HEAD` is the commit that a repository is at; its files are covered by the
 * digest of the checkout. A distfile's `uri` is the URL that seedstrap downloaded it from, in this
 * build or an earlier one, and `downloadLocation` the one that the server redirected to. A distfile
 * that was on this machine for another reason has neither, and seedstrap_origin says where it was.
 * Distfiles that the booted machine downloads by itself are in the record only.
 *
 * Sources: in-toto attestation spec v1 (statement, resource descriptor, digest set), SLSA
 * provenance v1.
 *
 * @module
 */

import { isDeepStrictEqual } from "node:util";
import * as v from "valibot";
import { sha256Of } from "../bytes.ts";
import { anyText, list, object, parseJson } from "../json.ts";
import { startsInDirectory } from "../plan/options.ts";
import { sbomText } from "./sbom.ts";
import {
  buildOptions,
  recordBody,
  type RecordedDistfile,
  type RecordedImage,
  SBOM_NAME,
  subjectName,
  type TargetRecord,
} from "./types.ts";

const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE = "https://slsa.dev/provenance/v1";
/** URNs, as the program has no web site. */
const BUILD_TYPE = "urn:x-seedstrap:build:1";
const BUILDER_ID = "urn:x-seedstrap:builder";

/** Keys of digests of our own, see above. */
export const TREE_KEY = "seedstrapTree1";
const BLOCKS_KEY = "seedstrapBlocks1";
const DATA_KEY = "seedstrapData1";
const PIECES_KEY = "seedstrapPieces1";

const resource = object({
  name: anyText,
  uri: v.exactOptional(anyText),
  digest: v.custom<Readonly<Record<string, string>>>(
    (value) => isMap(value, ["string"]),
    "a set of digests",
  ),
  downloadLocation: v.exactOptional(anyText),
  annotations: v.exactOptional(v.custom<Readonly<Record<string, string | number>>>(
    (value) => isMap(value, ["string", "number"]),
    "a set of strings and numbers",
  )),
});

/** An input or output of a build, as in-toto describes it. */
export type Resource = v.InferOutput<typeof resource>;

/** Reports whether a value is an object with values of these types; any keys will do. */
function isMap(value: unknown, types: readonly string[]): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    Object.values(value).every((inner) => types.includes(typeof inner));
}

const statement = object({
  _type: v.literal(STATEMENT_TYPE),
  subject: list(resource),
  predicateType: v.literal(PREDICATE_TYPE),
  predicate: object({
    buildDefinition: object({
      buildType: v.literal(BUILD_TYPE),
      externalParameters: buildOptions,
      internalParameters: object({ record: recordBody }),
      resolvedDependencies: list(resource),
    }),
    runDetails: object({
      builder: object({
        id: v.literal(BUILDER_ID),
        version: object({ seedstrap: anyText, mke2fs: v.exactOptional(anyText) }),
        builderDependencies: v.exactOptional(list(resource)),
      }),
      byproducts: list(resource),
    }),
  }),
});

/** A statement as data. */
export type Statement = v.InferOutput<typeof statement>;

/** Makes the statement of a record. */
export function makeStatement(record: TargetRecord): Statement {
  const { options, ...rest } = record;
  const { seedstrap, builderSha256, mke2fs } = record;
  return {
    _type: STATEMENT_TYPE,
    subject: subjectsOf(record),
    predicateType: PREDICATE_TYPE,
    predicate: {
      buildDefinition: {
        buildType: BUILD_TYPE,
        externalParameters: options,
        internalParameters: { record: rest },
        resolvedDependencies: dependenciesOf(record),
      },
      runDetails: {
        builder: {
          id: BUILDER_ID,
          version: { seedstrap, ...(mke2fs !== undefined && { mke2fs }) },
          ...(builderSha256 !== undefined && {
            builderDependencies: [{ name: "seedstrap", digest: { sha256: builderSha256 } }],
          }),
        },
        byproducts: [{
          name: SBOM_NAME,
          digest: { sha256: sha256Of(sbomText(record)) },
        }],
      },
    },
  };
}

/** Returns the text of seedstrap.json. */
export function statementText(record: TargetRecord): string {
  return `${JSON.stringify(makeStatement(record), null, 1)}\n`;
}

/**
 * Parses the text of a statement, and returns the record in it.
 *
 * @returns The record, or the first fault.
 */
export function recordOfStatement(text: string): TargetRecord | string {
  const read = parseJson(statement, text);
  if (typeof read === "string") return read;
  const { subject, predicate: { buildDefinition, runDetails: { builder } } } = read;
  const { externalParameters, internalParameters, resolvedDependencies } = buildDefinition;
  const { format, seedstrap, ...rest } = internalParameters.record;
  const record: TargetRecord = { format, seedstrap, options: externalParameters, ...rest };
  // A verifier of statements reads these fields, the commands read the record: both must agree.
  const same: readonly [name: string, isSame: boolean][] = [
    ["subject", isDeepStrictEqual(subject, subjectsOf(record))],
    [
      "predicate.buildDefinition.resolvedDependencies",
      isDeepStrictEqual(resolvedDependencies, dependenciesOf(record)),
    ],
    [
      "predicate.runDetails.builder",
      builder.version.seedstrap === seedstrap && builder.version.mke2fs === record.mke2fs &&
      builder.builderDependencies?.[0]?.digest["sha256"] === record.builderSha256,
    ],
  ];
  const other = same.find(([, isSame]) => !isSame);
  if (other !== undefined) return `${other[0]} does not agree with the record`;
  return outputFault(record) ?? record;
}

/** Returns what no build leaves: a directory is started without images, anything else has some. */
function outputFault({ options: { mode }, images, files }: TargetRecord): string | undefined {
  const isDirectory = startsInDirectory(mode);
  const stray = isDirectory ? images.length > 0 : files.length > 0;
  if (!stray && (isDirectory || images.length > 0)) return undefined;
  const has = images.length > 0 ? "images" : files.length > 0 ? "a directory" : "no images";
  return `it has ${has}, and its mode is ${mode}: that is not what a build leaves`;
}

/** Returns the outputs of a build. */
export function subjectsOf({ images, files }: TargetRecord): Resource[] {
  return [
    ...images.map(imageSubject),
    ...files.map(({ path, sha256 }) => ({ name: subjectName(path), digest: { sha256 } })),
  ];
}

function imageSubject(image: RecordedImage): Resource {
  const { name, piecesSha256, sha256, blocksSha256, dataBytes, sizeBytes } = image;
  if (blocksSha256 !== undefined) return { name, digest: { [BLOCKS_KEY]: blocksSha256 } };
  const isSparse = dataBytes < sizeBytes;
  const digest = {
    ...(piecesSha256 !== undefined && { [PIECES_KEY]: piecesSha256 }),
    ...(sha256 !== undefined && { [isSparse ? DATA_KEY : "sha256"]: sha256 }),
  };
  if (!isSparse) return { name, digest };
  const annotations = { seedstrap_dataBytes: dataBytes, seedstrap_sizeBytes: sizeBytes };
  return { name, digest, annotations };
}

/** Returns the inputs of a build. */
export function dependenciesOf(record: TargetRecord): Resource[] {
  const { checkout, kernelSha256, preseedSha256, images, files, distfiles } = record;
  const inside = [...images.flatMap((image) => image.files), ...files];
  const given = (["repo", "added"] as const).flatMap((origin) =>
    inside.filter((file) => file.origin === origin)
      .map(({ path, sha256 }) => ({ name: `${origin}:${path}`, digest: { sha256 } }))
  );
  return [
    { name: "checkout", digest: { [TREE_KEY]: checkout.digest } },
    ...checkout.commits.map(({ path, commit }) => ({
      name: `${path === "." ? "" : `${path}/`}.git/HEAD`,
      digest: { gitCommit: commit },
    })),
    ...(kernelSha256 === undefined ? [] : [{ name: "kernel", digest: { sha256: kernelSha256 } }]),
    ...(preseedSha256 === undefined
      ? []
      : [{ name: "early-preseed", digest: { sha256: preseedSha256 } }]),
    ...given,
    ...distfiles.filter(({ place }) => place !== "network").map(distfileDependency),
  ];
}

function distfileDependency({ name, sha256, origin }: RecordedDistfile): Resource {
  const digest = { sha256 };
  const resource = { name: `distfiles/${name}`, digest };
  if (origin === undefined) return resource;
  if (origin.kind !== "url") return { ...resource, annotations: { seedstrap_origin: origin.kind } };
  const { url, redirectedTo } = origin;
  return {
    name: resource.name,
    uri: url,
    digest,
    ...(redirectedTo !== undefined && { downloadLocation: redirectedTo }),
  };
}
