// SPDX-License-Identifier: MIT
/**
 * Pushes files to a registry or a bucket: what is missing there, several at once. What was pushed by
 * a run that was killed is there for the next one.
 *
 * @module
 */

import { createReadStream } from "node:fs";
import { basename, join } from "node:path";
import { messageOf, UserError } from "../errors.ts";
import { Bucket } from "../fetch/bucket.ts";
import { Connections } from "../fetch/connections.ts";
import { UrlFailure } from "../fetch/failure.ts";
import {
  type OciMirror,
  parseMirror,
  parseRepository,
  type S3Mirror,
  withPlainHttp,
} from "../fetch/mirror.ts";
import { MANIFEST_TYPE, Registry } from "../fetch/registry.ts";
import { bodyOf, type NamedBody } from "../fetch/storage.ts";
import { sha256Of } from "../bytes.ts";
import { readWhole } from "../read.ts";
import type { Harvest } from "./harvest.ts";
import type { MirrorReport } from "./mirror.ts";
import { MIRROR_SUMS } from "./mirror_place.ts";
import { severalAtOnce } from "./several.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { reading } from "../refused.ts";
import { counted } from "../text.ts";
import type { WrittenPart } from "../write/output_parts.ts";
import { USER_AGENT } from "../version.ts";

/** Where to push to. */
export type PushPlace =
  | { readonly kind: "oci"; readonly mirror: OciMirror; readonly tag: string }
  | { readonly kind: "s3"; readonly mirror: S3Mirror };

/** A file to push, of which the digest is known to be right. */
export interface PushFile {
  readonly name: string;
  readonly path: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** What was pushed. */
export interface PushReport {
  /** `oci://HOST/REPOSITORY:TAG`, or the URL of the bucket. */
  readonly url: string;
  readonly files: number;
  /** Number of bodies that were not there, and their bytes. */
  readonly pushed: number;
  readonly pushedBytes: number;
  /** Digest of the manifest, in lower-case hex; only of a registry. */
  readonly manifestSha256?: string;
}

const STALL_MS = 60_000;
const MAX_SUMS_BYTES = 64 * 1024 * 1024;

/** What `oras pull` takes for a file, whatever is in it. */
const LAYER_TYPE = "application/octet-stream";
const TITLE = "org.opencontainers.image.title";
const EMPTY_TYPE = "application/vnd.oci.empty.v1+json";

/**
 * Parses `oci://HOST/REPOSITORY[:TAG]` or `s3+https://HOST/BUCKET[/PREFIX]`.
 *
 * @throws {UserError} "usage"
 */
export function parsePushPlace(text: string, isPlain = false): PushPlace {
  if (text.startsWith("oci:")) {
    const { mirror, tag = "latest" } = parseRepository(text);
    return { kind: "oci", mirror: isPlain ? withPlainHttp(mirror) : mirror, tag };
  }
  const mirror = parseMirror(text);
  if (mirror.kind === "s3") return { kind: "s3", mirror };
  throw new UserError("usage", `Cannot push to ${JSON.stringify(text.replace(/^.*@/s, ""))}`, {
    hint: "Name a registry or a bucket: oci://HOST/REPOSITORY[:TAG], s3+https://HOST/BUCKET",
  });
}

/**
 * Pushes files. In a registry they become one artifact, with the same manifest for the same files.
 *
 * @param artifactType Says what the artifact is, to who finds it in a registry.
 * @throws {UserError} "fetch" if the place does not take them; "usage" for logins that cannot be
 * read; "interrupt".
 */
export async function pushFiles(
  place: PushPlace,
  files: readonly PushFile[],
  artifactType: string,
  { jobs, progress = UNWATCHED }: PushOptions,
  signal: AbortSignal,
): Promise<PushReport> {
  const connections = new Connections(jobs);
  const options = { userAgent: USER_AGENT, stallMs: STALL_MS, signal, connections };
  const url = place.kind === "oci" ? `${place.mirror.url}:${place.tag}` : place.mirror.url;
  try {
    const report = place.kind === "oci"
      ? await pushArtifact(
        new Registry(place.mirror, "pull,push", options),
        place.tag,
        files,
        artifactType,
        jobs,
        progress,
        signal,
      )
      : await pushObjects(new Bucket(place.mirror, options), files, jobs, progress, signal);
    return { url, files: files.length, ...report };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof UrlFailure)) throw error;
    throw new UserError("fetch", `Cannot push to ${url}: ${messageOf(error)}`, {
      where: url,
      hint: place.kind === "oci"
        ? "Run again to go on. Credentials are those of docker login: check that they may push"
        : "Run again to go on. Check the keys (AWS_ACCESS_KEY_ID or AWS_PROFILE), and AWS_REGION",
      cause: error,
    });
  } finally {
    connections.close();
  }
}

/** What an artifact is, to who finds it in a registry. */
const MIRROR_TYPE = "application/vnd.seedstrap.mirror.v1";
const PACKAGES_TYPE = "application/vnd.seedstrap.packages.v1";
export const BUNDLE_TYPE = "application/vnd.seedstrap.bundle.v1";

/** How to push. */
export interface PushOptions {
  /** Number of files at once. */
  readonly jobs: number;
  readonly progress?: Progress | undefined;
}

/** Pushes what a mirror has, with its SHA256SUMS, see {@link pushFiles}. */
export function pushMirror(
  { dest, files }: MirrorReport,
  place: PushPlace,
  options: PushOptions,
  signal: AbortSignal,
): Promise<PushReport> {
  return pushFiles(place, withSums(dest, files), MIRROR_TYPE, options, signal);
}

/** Pushes harvested packages, with their SHA256SUMS, see {@link pushFiles}. */
export function pushPackages(
  dir: string,
  { files }: Harvest,
  place: PushPlace,
  options: PushOptions,
  signal: AbortSignal,
): Promise<PushReport> {
  const all = files.map(({ path, size, sha256 }) => ({ name: path, sizeBytes: size, sha256 }));
  return pushFiles(place, withSums(dir, all), PACKAGES_TYPE, options, signal);
}

/** Returns the files of a directory, and its list of digests as the last one. */
function withSums(dir: string, files: readonly Omit<PushFile, "path">[]): PushFile[] {
  const sums = join(dir, MIRROR_SUMS);
  const text = readWhole(sums, { limitBytes: MAX_SUMS_BYTES });
  return [
    ...files.map((file) => ({ ...file, path: join(dir, file.name) })),
    { name: MIRROR_SUMS, path: sums, sha256: sha256Of(text), sizeBytes: text.length },
  ];
}

/**
 * Pushes a bundle, see {@link pushFiles}.
 *
 * @param parts With their SHA-256.
 */
export function pushBundle(
  parts: readonly WrittenPart[],
  place: PushPlace,
  options: PushOptions,
  signal: AbortSignal,
): Promise<PushReport> {
  const files = parts.map(({ path, sizeBytes, sha256 = "" }) => ({
    name: basename(path),
    path,
    sizeBytes,
    sha256,
  }));
  return pushFiles(place, files, BUNDLE_TYPE, options, signal);
}

type Pushed = Pick<PushReport, "pushed" | "pushedBytes" | "manifestSha256">;

async function pushArtifact(
  registry: Registry,
  tag: string,
  files: readonly PushFile[],
  artifactType: string,
  jobs: number,
  progress: Progress,
  signal: AbortSignal,
): Promise<Pushed> {
  const config = bodyOf(new TextEncoder().encode("{}"));
  const layers = files.map(({ name, sha256, sizeBytes }) => ({
    mediaType: LAYER_TYPE,
    digest: `sha256:${sha256}`,
    size: sizeBytes,
    annotations: { [TITLE]: name },
  }));
  const manifest = new TextEncoder().encode(JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    artifactType,
    config: {
      mediaType: EMPTY_TYPE,
      digest: `sha256:${config.sha256}`,
      size: config.sizeBytes,
      data: "e30=",
    },
    layers,
  }));
  const bodies = new Map(files.map((file) => [file.sha256, fileBody(file, progress)]));
  const pushed = await pushMissing(
    [...bodies.values()],
    (body) => registry.has(body.sha256),
    (body) => registry.upload(body),
    jobs,
    progress,
    signal,
  );
  if (!await registry.has(config.sha256)) await registry.upload(config);
  const manifestSha256 = sha256Of(manifest);
  if (await registry.tagged(tag) !== manifestSha256) await registry.tag(tag, manifest);
  return { ...pushed, manifestSha256 };
}

async function pushObjects(
  bucket: Bucket,
  files: readonly PushFile[],
  jobs: number,
  progress: Progress,
  signal: AbortSignal,
): Promise<Pushed> {
  const bodies = files.map((file) => ({ name: file.name, ...fileBody(file, progress) }));
  return await pushMissing(
    bodies,
    (body) => bucket.has(body.name, body),
    (body) => bucket.put(body.name, body),
    jobs,
    progress,
    signal,
  );
}

/** Asks for all, then pushes what is missing. */
async function pushMissing<T extends NamedBody>(
  bodies: readonly T[],
  has: (body: T) => Promise<boolean>,
  push: (body: T) => Promise<void>,
  jobs: number,
  progress: Progress,
  signal: AbortSignal,
): Promise<Pushed> {
  progress.begin(`asking for ${counted(bodies.length, "file")}`);
  const missing = new Set<T>();
  const questions = bodies.map((body) => async () => {
    if (!await has(body)) missing.add(body);
  });
  await severalAtOnce(jobs, questions, signal);
  const absent = bodies.filter((body) => missing.has(body));
  const pushedBytes = absent.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (absent.length > 0) progress.begin("pushing", pushedBytes);
  await severalAtOnce(jobs, absent.map((body) => () => push(body)), signal);
  return { pushed: absent.length, pushedBytes };
}

function fileBody({ path, sha256, sizeBytes }: PushFile, progress: Progress): NamedBody {
  return {
    sha256,
    sizeBytes,
    async *chunks() {
      if (sizeBytes === 0) return;
      // A file that has grown would be a longer body than announced.
      const stream = reading(path, () => createReadStream(path, { end: sizeBytes - 1 }));
      for await (const chunk of stream) {
        progress.add(chunk.length);
        yield chunk;
      }
    },
  };
}
