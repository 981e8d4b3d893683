// SPDX-License-Identifier: MIT
/**
 * Reads a statement. It may come from anywhere: every field is checked, and a field that is not
 * known is refused.
 *
 * @module
 */

import { type Mirror, parseMirror } from "../fetch/mirror.ts";
import { isDeepStrictEqual } from "node:util";
import { distfileNameFault } from "../fetch/distfile_name.ts";
import { isPublicUrl } from "../fetch/origin.ts";
import type { RecordedDistfile, RecordedFile, RecordedImage, TargetRecord } from "./types.ts";
import type { ServedMirror } from "../plan/config.ts";
import type { Contributor, Limit } from "../plan/limits.ts";
import { type BuildOptions, CI_PASSES, isArchName, MAX_SIZE_MIB } from "../plan/options.ts";
import { BOOT_IMAGE, DISK_IMAGE, EXTERNAL_IMAGE, PAYLOAD_IMAGE } from "../plan/types.ts";
import {
  amount,
  anyText,
  array,
  bool,
  type Check,
  count,
  either,
  Fault,
  object,
  oneOf,
  optional,
  sha256,
  size,
  text,
  where,
} from "./check.ts";
import {
  BUILD_TYPE,
  BUILDER_ID,
  dependenciesOf,
  PREDICATE_TYPE,
  type Resource,
  type Statement,
  STATEMENT_TYPE,
  subjectsOf,
} from "./statement.ts";
import { TARGET_FORMAT } from "./types.ts";

const absolutePath = text(/^\/[^\0]*$/, "absolute path");
const origin = oneOf(["tree", "repo", "preseed", "distfile", "generated"]);

const mirror: Check = either(
  object<Mirror & { kind: "directory" }>({ kind: oneOf(["directory"]), path: absolutePath }),
  object<Mirror & { kind: "http" }>({
    kind: oneOf(["http"]),
    url: where(isMirrorUrl, "no mirror"),
  }),
);

/** What the command line would take too, and nothing else. */
const options = object<BuildOptions>({
  mode: oneOf(["qemu", "bare-metal", "chroot", "bwrap"]),
  arch: where((value) => typeof value === "string" && isArchName(value), "no architecture"),
  cores: count(1, 4096),
  forceTimestamps: bool,
  updateChecksums: bool,
  buildKernels: bool,
  createConfig: bool,
  interactive: bool,
  configurator: bool,
  internalCi: optional(oneOf(CI_PASSES)),
  externalSources: bool,
  mirrors: array(mirror),
  swapMib: count(0, MAX_SIZE_MIB),
  qemuCommand: anyText,
  qemuRamMib: count(1, MAX_SIZE_MIB),
  kernel: optional(absolutePath),
  hasRepo: bool,
  hasPreseed: bool,
  targetSizeMib: count(0, MAX_SIZE_MIB),
  payload: oneOf(["auto", "always", "never"]),
  payloadLayout: oneOf([64, 32, "auto"]),
  payloadPhases: oneOf(["auto", "one", "two"]),
  airGapped: bool,
  mirrorPort: count(1, 65000),
  bootProgram: oneOf(["builder-hex0", "preflight"]),
});

const sum = object({ used: amount, expected: amount, limit: amount });

const limit = object<Limit>({
  id: anyText,
  title: anyText,
  unit: oneOf(["files", "bytes", "MiB"]),
  used: amount,
  limit: amount,
  expected: amount,
  broken: bool,
  near: bool,
  note: optional(anyText),
  contributors: array(object<Contributor>({ name: anyText, amount })),
  remedy: anyText,
});

const distfile = object<RecordedDistfile>({
  name: where(
    (value) => typeof value === "string" && distfileNameFault(value) === undefined,
    "no name of a distfile",
  ),
  sha256,
  urls: array(anyText),
  size: either(size, oneOf([null])),
  phase: oneOf(["boot", "fiwix", "disk", "network"]),
  place: oneOf(["boot", "payload", "external", "network"]),
  restored: optional(oneOf(["fiwix", "disk"])),
  why: anyText,
  steps: array(anyText),
  origin: optional(either(
    object({ kind: oneOf(["checkout", "store", "mirror"]) }),
    object({
      kind: oneOf(["url"]),
      url: where(isPublicUrl, "no URL"),
      redirectedTo: optional(where(isPublicUrl, "no URL")),
    }),
  )),
});

const file = object<RecordedFile>({ path: anyText, origin, size, sha256 });

const image = object<RecordedImage>({
  name: oneOf([BOOT_IMAGE, EXTERNAL_IMAGE, PAYLOAD_IMAGE, DISK_IMAGE]),
  role: oneOf(["boot", "payload", "disk", "external"]),
  sizeBytes: size,
  dataBytes: size,
  sha256: optional(sha256),
  blocksSha256: optional(sha256),
  files: array(file),
});

const imageWithDigest: Check = (value, at) => {
  image(value, at);
  const { sha256, blocksSha256, dataBytes, sizeBytes } = value as RecordedImage;
  if ((sha256 === undefined) === (blocksSha256 === undefined)) {
    throw new Fault(`${at} has not exactly one digest`);
  }
  if (dataBytes > sizeBytes) throw new Fault(`${at}.dataBytes is more than all its bytes`);
};

const record = object<Omit<TargetRecord, "options">>({
  format: oneOf([TARGET_FORMAT]),
  seedstrap: text(/^[\w.+-]{1,64}$/, "version"),
  config: anyText,
  payload: object<TargetRecord["payload"]>({
    present: bool,
    reason: anyText,
    phases: optional(oneOf([1, 2])),
    inOneGo: optional(object({ ramdisk: sum, kexec: sum })),
    obstacle: optional(anyText),
    layout: optional(oneOf([64, 32])),
    importer: optional(oneOf(["overlay", "checkout"])),
  }),
  overlay: object<TargetRecord["overlay"]>({
    manifestLines: array(object({ text: anyText, place: anyText })),
    files: array(anyText),
    madeAgain: array(anyText),
  }),
  warnings: array(anyText),
  limits: array(limit),
  distfiles: array(distfile),
  images: array(imageWithDigest),
  files: array(file),
  servedMirrors: array(object<ServedMirror>({ path: absolutePath, port: count(1, 65535) })),
  checkout: object<TargetRecord["checkout"]>({
    digest: sha256,
    commits: array(object({
      path: text(/^[\w./-]{1,255}$/, "path"),
      commit: text(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/, "commit"),
    })),
  }),
  kernelSha256: optional(sha256),
  preseedSha256: optional(sha256),
  builderSha256: optional(sha256),
  mke2fs: optional(anyText),
});

const resource = object<Resource>({
  name: anyText,
  uri: optional(anyText),
  digest: where((value) => typeof value === "object" && value !== null, "no set of digests"),
  downloadLocation: optional(anyText),
  annotations: optional(where((value) => typeof value === "object", "no object")),
});

const statement = object<Statement>({
  _type: oneOf([STATEMENT_TYPE]),
  subject: array(resource),
  predicateType: oneOf([PREDICATE_TYPE]),
  predicate: object<Statement["predicate"]>({
    buildDefinition: object<Statement["predicate"]["buildDefinition"]>({
      buildType: oneOf([BUILD_TYPE]),
      externalParameters: options,
      internalParameters: object({ record }),
      resolvedDependencies: array(resource),
    }),
    runDetails: object<Statement["predicate"]["runDetails"]>({
      builder: object<Statement["predicate"]["runDetails"]["builder"]>({
        id: oneOf([BUILDER_ID]),
        version: object({ seedstrap: anyText, mke2fs: optional(anyText) }),
        builderDependencies: optional(array(resource)),
      }),
      byproducts: array(resource),
    }),
  }),
});

/** Whether a value claims to be a statement. */
export function isStatement(value: unknown): boolean {
  return typeof value === "object" && value !== null && "_type" in value;
}

/**
 * Checks a statement and takes the record out of it.
 *
 * @throws {Fault} with the place of the first thing that is wrong.
 */
export function recordOfStatement(value: unknown): TargetRecord {
  statement(value, "");
  const { subject, predicate } = value as Statement;
  const { buildDefinition, runDetails } = predicate;
  const { externalParameters, internalParameters, resolvedDependencies } = buildDefinition;
  const { format, seedstrap, ...rest } = internalParameters.record;
  const found: TargetRecord = { format, seedstrap, options: externalParameters, ...rest };
  for (const list of [found.images, found.distfiles]) {
    if (new Set(list.map(({ name }) => name)).size < list.length) {
      throw new Fault("a name is there twice");
    }
  }
  // What a verifier looks at must be what the commands look at.
  if (!isDeepStrictEqual(subject, subjectsOf(found))) {
    throw new Fault(".subject does not agree with the record");
  }
  if (!isDeepStrictEqual(resolvedDependencies, dependenciesOf(found))) {
    throw new Fault(
      ".predicate.buildDefinition.resolvedDependencies does not agree with the record",
    );
  }
  const { builder } = runDetails;
  const binary = builder.builderDependencies?.[0]?.digest["sha256"];
  const { seedstrap: version, mke2fs } = builder.version;
  if (
    version !== found.seedstrap || mke2fs !== found.mke2fs || binary !== found.builderSha256
  ) {
    throw new Fault(".predicate.runDetails.builder does not agree with the record");
  }
  return found;
}

function isMirrorUrl(value: unknown): boolean {
  if (typeof value !== "string" || !/^https?:/.test(value)) return false;
  try {
    return parseMirror(value).kind === "http";
  } catch {
    return false;
  }
}
