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
 * All of it follows from the record, which is what other commands read; a statement whose subjects
 * or dependencies say something else than its record is refused. There is no time of day, no run
 * and no host in it on purpose, so that the same inputs give the same statement; of the paths of
 * the machine only those that the guest or the user needs again: mirrors that are directories, and
 * a kernel.
 *
 * Keys of digests. `sha256` is always of all the bytes of the file that the name says. What cannot
 * be put so has keys of its own, all of them in lower-case hex:
 *
 *   seedstrapTree1    a checkout: see `tree/digest.ts`
 *   seedstrapBlocks1  a disk with a file system: SHA-256 of its blocks that are not zero, each with
 *                     its offset, and of its size: see `format/blocks.ts`
 *   seedstrapData1    a boot image with a sparse tail: SHA-256 of as many bytes of its beginning as
 *                     the annotation seedstrap_dataBytes says; up to seedstrap_sizeBytes, its size,
 *                     there are zeros after them
 *
 * A dependency `.git/HEAD` is the commit that a repository is at. What its files were is said by
 * the digest of the checkout. A distfile's `uri` is where this program downloaded it from, in this
 * build or an earlier one; `downloadLocation` where the server redirected that to; it has neither
 * where the file lay on this machine for some other reason, which seedstrap_origin then says.
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
import { sbomText } from "./sbom.ts";
import {
  buildOptions,
  recordBody,
  type RecordedDistfile,
  type RecordedImage,
  SBOM_NAME,
  type TargetRecord,
} from "./types.ts";

const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE = "https://slsa.dev/provenance/v1";
/** The program has no web site of its own to name. */
const BUILD_TYPE = "urn:x-seedstrap:build:1";
const BUILDER_ID = "urn:x-seedstrap:builder";

/** Keys of digests of our own, see above. */
export const TREE_KEY = "seedstrapTree1";
const BLOCKS_KEY = "seedstrapBlocks1";
const DATA_KEY = "seedstrapData1";

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
    "a set of texts and numbers",
  )),
});

/** Something that goes in or comes out. */
export type Resource = v.InferOutput<typeof resource>;

/** Whether a value is an object with whatever keys and values of these types; it stays as it is. */
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

/** The text of seedstrap.json. */
export function statementText(record: TargetRecord): string {
  return `${JSON.stringify(makeStatement(record), null, 1)}\n`;
}

/**
 * Takes the record out of the text of a statement.
 *
 * @returns The record, or what is wrong with the text.
 */
export function recordOfStatement(text: string): TargetRecord | string {
  const read = parseJson(statement, text);
  if (typeof read === "string") return read;
  const { subject, predicate: { buildDefinition, runDetails: { builder } } } = read;
  const { externalParameters, internalParameters, resolvedDependencies } = buildDefinition;
  const { format, seedstrap, ...rest } = internalParameters.record;
  const record: TargetRecord = { format, seedstrap, options: externalParameters, ...rest };
  // What a verifier looks at must be what the commands look at.
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
  return other === undefined ? record : `${other[0]} does not agree with the record`;
}

/** What was built. */
export function subjectsOf({ images, files }: TargetRecord): Resource[] {
  return [
    ...images.map(imageSubject),
    ...files.map(({ path, sha256 }) => ({ name: path.replace(/^\.?\//, ""), digest: { sha256 } })),
  ];
}

function imageSubject(
  { name, sha256, blocksSha256, dataBytes, sizeBytes }: RecordedImage,
): Resource {
  if (sha256 === undefined) return { name, digest: { [BLOCKS_KEY]: blocksSha256! } };
  if (dataBytes === sizeBytes) return { name, digest: { sha256 } };
  const annotations = { seedstrap_dataBytes: dataBytes, seedstrap_sizeBytes: sizeBytes };
  return { name, digest: { [DATA_KEY]: sha256 }, annotations };
}

/** What it was built from. */
export function dependenciesOf(record: TargetRecord): Resource[] {
  const { checkout, kernelSha256, preseedSha256, images, files, distfiles } = record;
  const packages = [...images.flatMap((image) => image.files), ...files]
    .filter(({ origin }) => origin === "repo");
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
    ...packages.map(({ path, sha256 }) => ({ name: `repo:${path}`, digest: { sha256 } })),
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
