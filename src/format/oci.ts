// SPDX-License-Identifier: MIT
/**
 * oci: the image of a container as a tar file. It is an OCI image layout with one layer, and an
 * archive of docker at the same time, so that podman, docker, skopeo and umoci read it.
 *
 *   image    = "oci-layout" "index.json" "manifest.json" "blobs/" "blobs/sha256/"
 *              config manifest layer 00{1024}
 *   config, manifest, layer = "blobs/sha256/" and the SHA-256 of the content as the name
 *   layer    = "./" entry* 00{1024}    a tar, not compressed: its digest is its diff id, too
 *
 *   oci-layout     the version of the layout
 *   index.json     names the manifest, and in annotations the image: ref.name has the tag alone, as
 *                  umoci and skopeo take it, and io.containerd.image.name all of the name, which
 *                  podman and docker give to what they load
 *   manifest.json  the same for the `docker load` of an engine without the store of containerd,
 *                  which reads no index.json
 *   config         the architecture, and what is started; created at the start of 1970
 *
 * Members are as `tarHeader()` and `rootHeader()` write them: owner 0, times of 1970. A directory of
 * the layer comes before its content. A name that begins with ".wh." would delete a file of a lower
 * layer, and cannot be a file: it is refused.
 *
 * The reader takes every layout with one manifest and one layer that is not compressed, and believes
 * no digest that it has not computed: {@link readContainer} verifies manifest and config by what
 * names them, and leaves the layer to {@link ContainerHead.layerSha256}.
 *
 * Sources: OCI image specification v1.1.0 (image-layout.md, manifest.md, config.md, layer.md); the
 * docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
 *
 * @module
 */

import { Buffer } from "node:buffer";
import * as v from "valibot";
import { isZero, sha256Of } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { MANIFEST_TYPE } from "../fetch/registry.ts";
import { anyText, openObject, parseJson, size } from "../json.ts";
import {
  type ByteSource,
  Cursor,
  firstNonZero,
  formatError,
  readExactly,
  takeExactly,
  WINDOW_BYTES,
} from "./reader.ts";
import {
  type Body,
  paddingTo,
  type Segment,
  segmentSize,
  textSegment,
  totalSize,
} from "./segment.ts";
import {
  isTarHeader,
  readPaxRecords,
  readTarHeader,
  rootHeader,
  TAR_BLOCK_BYTES,
  tarHeader,
} from "./tar.ts";

/** The name that an engine gives to an image that it loads, and the tag at its end. */
export const CONTAINER_NAME = "localhost/live-bootstrap:latest";
const TAG = "latest";

const LAYOUT_PATH = "oci-layout";
const INDEX_PATH = "index.json";
const DOCKER_PATH = "manifest.json";
const BLOBS_DIR = "blobs/sha256";
const INDEX_TYPE = "application/vnd.oci.image.index.v1+json";
const CONFIG_TYPE = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar";
const REF_NAME = "org.opencontainers.image.ref.name";
const FULL_NAME = "io.containerd.image.name";

/** Zeros that end a tar file. */
const END_BYTES = 2 * TAR_BLOCK_BYTES;
/** The start of 1970, as the times of all members. */
const CREATED = "1970-01-01T00:00:00Z";
/** What the name of a file begins with that says that one of a lower layer is gone. */
const WHITEOUT = ".wh.";

/** An entry of a layer: a file with a body, a symbolic link with a target, else a directory. */
export interface LayerEntry {
  /** Relative to the root, without `./`; parents come first. */
  readonly path: string;
  /** The lowest 12 bits. */
  readonly mode: number;
  readonly body?: Body;
  readonly target?: string;
}

/** What an image says of the container that is made from it. */
export interface ContainerSettings {
  /** As Go names it: 386, amd64, arm64, riscv64. */
  readonly architecture: string;
  /** Program and arguments, which start in the root. */
  readonly entrypoint: readonly string[];
  readonly environment: readonly string[];
}

/** The image of a container as data. */
export interface ContainerImage {
  readonly segments: readonly Segment[];
  /** Digests of the config, by which podman and docker know an image, and of the manifest. */
  readonly configSha256: string;
  readonly manifestSha256: string;
}

/**
 * Returns the layer of an image.
 *
 * @throws {UserError} "usage" for a path that no layer can have.
 */
export function layerSegments(entries: readonly LayerEntry[]): Segment[] {
  const owner = { uid: 0, gid: 0 };
  const header = (member: Parameters<typeof rootHeader>[0]): Segment => ({
    kind: "bytes",
    bytes: rootHeader(member),
  });
  return [
    header({ path: ".", kind: "directory", size: 0, mode: 0o755, ...owner }),
    ...entries.flatMap(({ path, mode, body, target }): Segment[] => {
      checkLayerPath(path);
      if (body !== undefined) {
        const size = segmentSize(body);
        return [
          header({ path, kind: "file", size, mode, ...owner }),
          body,
          ...paddingTo(size, TAR_BLOCK_BYTES),
        ];
      }
      return target === undefined
        ? [header({ path, kind: "directory", size: 0, mode, ...owner })]
        : [header({ path, kind: "symlink", size: 0, mode: 0o777, linkName: target, ...owner })];
    }),
    { kind: "zeros", sizeBytes: END_BYTES },
  ];
}

/**
 * Checks that a layer can have a path.
 *
 * @throws {UserError} "usage"
 */
export function checkLayerPath(path: string): void {
  if (!path.split("/").some((part) => part.startsWith(WHITEOUT))) return;
  throw new UserError("usage", `Cannot put ${JSON.stringify(path)} into the image of a container`, {
    where: path,
    hint: `A name that begins with ${WHITEOUT} means there that a file is gone: rename it`,
  });
}

/**
 * Returns an image.
 *
 * @param layer As {@link layerSegments} returns it.
 * @param layerSha256 The SHA-256 of all its bytes, in lower-case hex.
 */
export function containerImage(
  layer: readonly Segment[],
  layerSha256: string,
  { architecture, entrypoint, environment }: ContainerSettings,
): ContainerImage {
  const config = textSegment(JSON.stringify({
    created: CREATED,
    architecture,
    os: "linux",
    // The first process of a container heeds no signal that it has no handler for.
    config: { Env: environment, Entrypoint: entrypoint, WorkingDir: "/", StopSignal: "SIGKILL" },
    rootfs: { type: "layers", diff_ids: [`sha256:${layerSha256}`] },
    history: [{ created: CREATED, created_by: "seedstrap" }],
  }));
  const configSha256 = sha256Of(config.bytes);
  const manifest = textSegment(JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: descriptor(CONFIG_TYPE, configSha256, config.bytes.length),
    layers: [descriptor(LAYER_TYPE, layerSha256, totalSize(layer))],
  }));
  const manifestSha256 = sha256Of(manifest.bytes);
  const index = textSegment(JSON.stringify({
    schemaVersion: 2,
    mediaType: INDEX_TYPE,
    manifests: [{
      ...descriptor(MANIFEST_TYPE, manifestSha256, manifest.bytes.length),
      platform: { architecture, os: "linux" },
      annotations: { [REF_NAME]: TAG, [FULL_NAME]: CONTAINER_NAME },
    }],
  }));
  const docker = textSegment(JSON.stringify([{
    Config: blobPath(configSha256),
    RepoTags: [CONTAINER_NAME],
    Layers: [blobPath(layerSha256)],
  }]));
  const segments = [
    ...fileMember(LAYOUT_PATH, [textSegment(JSON.stringify({ imageLayoutVersion: "1.0.0" }))]),
    ...fileMember(INDEX_PATH, [index]),
    ...fileMember(DOCKER_PATH, [docker]),
    directoryMember("blobs"),
    directoryMember(BLOBS_DIR),
    ...fileMember(blobPath(configSha256), [config]),
    ...fileMember(blobPath(manifestSha256), [manifest]),
    ...fileMember(blobPath(layerSha256), layer),
    { kind: "zeros", sizeBytes: END_BYTES } as const,
  ];
  return { segments, configSha256, manifestSha256 };
}

function descriptor(mediaType: string, sha256: string, size: number): object {
  return { mediaType, digest: `sha256:${sha256}`, size };
}

function blobPath(sha256: string): string {
  return `${BLOBS_DIR}/${sha256}`;
}

function directoryMember(path: string): Segment {
  return {
    kind: "bytes",
    bytes: tarHeader({ path, kind: "directory", size: 0, isExecutable: false }),
  };
}

function fileMember(path: string, body: readonly Segment[]): Segment[] {
  const size = totalSize(body);
  const bytes = tarHeader({ path, kind: "file", size, isExecutable: false });
  return [{ kind: "bytes", bytes }, ...body, ...paddingTo(size, TAR_BLOCK_BYTES)];
}

/** Longest index, manifest and config that are read: those that we write have less than a KiB. */
const MAX_JSON_BYTES = 1024 * 1024;
/** Most members of the outer tar that are looked at. */
const MAX_BLOBS = 256;

const digest = v.pipe(
  v.string(),
  v.regex(/^sha256:[0-9a-f]{64}$/, "a digest: sha256:, and 64 digits of lower-case hex"),
);
const blob = openObject({ mediaType: anyText, digest, size });
const onlyOne = (schema: typeof blob) => v.pipe(v.array(schema), v.length(1, "a list of one"));
const indexSchema = openObject({ manifests: onlyOne(blob) });
const manifestSchema = openObject({ config: blob, layers: onlyOne(blob) });
const configSchema = openObject({
  rootfs: openObject({ diff_ids: v.pipe(v.array(digest), v.length(1, "a list of one")) }),
});

/** Where the parts of an image are. */
export interface ContainerHead {
  readonly configSha256: string;
  readonly manifestSha256: string;
  /** What the layer has to be, by the manifest and the config. */
  readonly layerSha256: string;
  readonly layerOffsetBytes: number;
  readonly layerSizeBytes: number;
  /** Offset after the zeros that end the outer tar. */
  readonly endOffsetBytes: number;
}

/**
 * Reports whether an image is one that {@link containerImage} returns, all but the layer compared:
 * what an engine gives a name to, and starts, is then known.
 */
export function isOwnContainer(
  source: ByteSource,
  { layerSha256, layerOffsetBytes, layerSizeBytes }: ContainerHead,
  settings: ContainerSettings,
): boolean {
  const layer = { kind: "zeros", sizeBytes: layerSizeBytes } as const;
  const { segments } = containerImage([layer], layerSha256, settings);
  if (source.sizeBytes !== totalSize(segments)) return false;
  const at = segments.indexOf(layer);
  const head = segments.slice(0, at).map((segment) =>
    segment.kind === "bytes" ? segment.bytes : new Uint8Array(segmentSize(segment))
  );
  const wanted = Buffer.concat(head);
  const got = readExactly(source, 0, wanted.length);
  return wanted.length === layerOffsetBytes && got !== undefined && wanted.equals(got) &&
    firstNonZero(source, layerOffsetBytes + layerSizeBytes) < 0;
}

/** Reports whether a source begins like the image of a container. */
export function isContainer(source: ByteSource): boolean {
  if (source.sizeBytes < TAR_BLOCK_BYTES) return false;
  const block = new Uint8Array(TAR_BLOCK_BYTES);
  if (source.read(0, block) < block.length || !isTarHeader(block)) return false;
  const header = readTarHeader(block);
  if (typeof header === "string") return false;
  // An image of others may have its members in another order.
  return OUTER_NAMES.has(new TextDecoder().decode(header.name).replace(/^\.\//, ""));
}

const OUTER_NAMES: ReadonlySet<string> = new Set([
  LAYOUT_PATH,
  INDEX_PATH,
  DOCKER_PATH,
  "blobs/",
  `${BLOBS_DIR}/`,
]);

/**
 * Finds the layer of an image, and verifies all that leads to it.
 *
 * @throws {UserError} "format", with the offset, for a source that is no image of a container, or
 * that has other than one layer, or a compressed one; "verify" for a wrong digest.
 */
export function readContainer(source: ByteSource): ContainerHead {
  const members = new Map<string, TarEntry>();
  const outer = readTar(source, 0, source.sizeBytes, "the image");
  let endOffsetBytes = 0;
  for (;;) {
    const { done, value } = outer.next();
    if (done) {
      endOffsetBytes = value;
      break;
    }
    // One program reads the first of a name, another the last.
    if (value.kind === "file" && members.has(value.path)) {
      throw formatError(source, value.dataOffsetBytes, `it has ${value.path} twice`);
    }
    members.set(value.path, value);
    if (members.size > MAX_BLOBS) {
      throw formatError(source, value.dataOffsetBytes, `it has more than ${MAX_BLOBS} members`);
    }
  }
  const index = parsed(source, members, INDEX_PATH, indexSchema);
  const [manifestBlob] = index.manifests;
  const manifestSha256 = hexOf(manifestBlob!.digest);
  const manifest = parsed(
    source,
    members,
    blobPath(manifestSha256),
    manifestSchema,
    manifestSha256,
  );
  const [layer] = manifest.layers;
  const layerSha256 = hexOf(layer!.digest);
  const configSha256 = hexOf(manifest.config.digest);
  const config = parsed(source, members, blobPath(configSha256), configSchema, configSha256);
  const found = memberAt(source, members, blobPath(layerSha256));
  if (hexOf(config.rootfs.diff_ids[0]!) !== layerSha256) {
    throw formatError(source, found.dataOffsetBytes, "its layer is compressed, or not its own");
  }
  if (found.sizeBytes !== layer!.size) {
    throw formatError(
      source,
      found.dataOffsetBytes,
      `its layer has ${found.sizeBytes} bytes, the manifest says ${layer!.size}`,
    );
  }
  return {
    configSha256,
    manifestSha256,
    layerSha256,
    layerOffsetBytes: found.dataOffsetBytes,
    layerSizeBytes: found.sizeBytes,
    endOffsetBytes,
  };
}

function hexOf(digest: string): string {
  return digest.slice("sha256:".length);
}

function memberAt(
  source: ByteSource,
  members: ReadonlyMap<string, TarEntry>,
  path: string,
): TarEntry {
  const found = members.get(path);
  if (found?.kind === "file") return found;
  throw formatError(source, 0, `it has no ${path}`);
}

function parsed<T extends object>(
  source: ByteSource,
  members: ReadonlyMap<string, TarEntry>,
  path: string,
  schema: v.GenericSchema<unknown, T>,
  sha256?: string,
): T {
  const { dataOffsetBytes, sizeBytes } = memberAt(source, members, path);
  if (sizeBytes > MAX_JSON_BYTES) {
    throw formatError(source, dataOffsetBytes, `its ${path} has ${sizeBytes} bytes`);
  }
  const bytes = takeExactly(source, dataOffsetBytes, sizeBytes, path);
  const got = sha256Of(bytes);
  if (sha256 !== undefined && got !== sha256) {
    throw new UserError("verify", `Cannot read image: the SHA-256 of its ${path} is ${got}`, {
      where: `${source.name}, offset ${dataOffsetBytes}`,
      hint: "Copy or build it again",
    });
  }
  const value = parseJson(schema, new TextDecoder().decode(bytes));
  if (typeof value !== "string") return value;
  throw formatError(source, dataOffsetBytes, `its ${path} is not as expected: ${value}`);
}

/** A member of a tar of an image. */
export interface TarEntry {
  readonly kind: "file" | "directory" | "symlink";
  /** Without `./` at its beginning and a slash at its end; empty for the root. */
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly dataOffsetBytes: number;
  readonly target?: string;
}

/**
 * Walks the entries of the layer of an image, without its root.
 *
 * @throws {UserError} "format", with the offset, for what no layer of ours has: links to files,
 * devices, numbers that are too large, a path that leads out of the root, data after its end.
 */
export function* readLayer(
  source: ByteSource,
  { layerOffsetBytes, layerSizeBytes }: ContainerHead,
): Generator<TarEntry, void, undefined> {
  const entries = readTar(source, layerOffsetBytes, layerSizeBytes, "the layer");
  for (;;) {
    const { done, value } = entries.next();
    if (done) {
      // tar pads with zeros to a whole record.
      const stray = firstNonZero(source, value, layerOffsetBytes + layerSizeBytes);
      if (stray >= 0) throw formatError(source, stray, "the layer goes on after its end");
      return;
    }
    if (value.path !== "") yield value;
  }
}

const KINDS: Readonly<Record<string, TarEntry["kind"]>> = {
  "0": "file",
  "2": "symlink",
  "5": "directory",
};

/** @returns The entries; the return value is the offset after the zeros that end the tar. */
function* readTar(
  source: ByteSource,
  startBytes: number,
  sizeBytes: number,
  what: string,
): Generator<TarEntry, number, undefined> {
  const end = startBytes + sizeBytes;
  const cursor = new Cursor(source, startBytes);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let pax: ReadonlyMap<string, Uint8Array> = new Map();
  for (;;) {
    const at = cursor.offsetBytes;
    const fail = (why: string) => formatError(source, at, `${what} has a member that ${why}`);
    if (at + TAR_BLOCK_BYTES > end) throw formatError(source, at, `${what} has no end`);
    const block = cursor.take(TAR_BLOCK_BYTES, "a header");
    if (isZero(block)) {
      const isEnd = at + END_BYTES <= end && isZero(cursor.take(TAR_BLOCK_BYTES, "its end"));
      if (!isEnd) throw formatError(source, at, `${what} has no end`);
      return at + END_BYTES;
    }
    const header = readTarHeader(block);
    if (typeof header === "string") throw formatError(source, at, `${what}: ${header}`);
    const number = (key: string, value: number) => {
      const text = pax.get(key);
      if (text === undefined) return value;
      const digits = new TextDecoder().decode(text);
      return /^\d{1,15}$/.test(digits) ? Number(digits) : -1;
    };
    const text = (bytes: Uint8Array) => {
      try {
        return decoder.decode(bytes);
      } catch {
        throw fail("has a name that is not UTF-8");
      }
    };
    const size = number("size", header.size);
    const [uid, gid] = [number("uid", header.uid), number("gid", header.gid)];
    if (size < 0 || uid < 0 || gid < 0) throw fail("has a number that is none");
    const dataOffsetBytes = cursor.offsetBytes;
    const nextBytes = dataOffsetBytes + size + totalSize(paddingTo(size, TAR_BLOCK_BYTES));
    if (nextBytes > end) throw fail(`claims ${size} bytes, more than are left`);
    if (header.type === "x") {
      if (size > WINDOW_BYTES) throw fail(`has a pax header of ${size} bytes`);
      const records = readPaxRecords(cursor.take(size, "a pax header"));
      if (typeof records === "string") throw formatError(source, at, `${what}: ${records}`);
      pax = records;
      cursor.offsetBytes = nextBytes;
      continue;
    }
    const kind = KINDS[header.type];
    if (kind === undefined) throw fail(`is of the type ${JSON.stringify(header.type)}`);
    if (kind !== "file" && size > 0) throw fail("has data and is no file");
    const path = text(pax.get("path") ?? header.name).replace(/^\.\/|\/$/g, "");
    const plain = path === "." ? "" : path;
    if (plain !== "" && plain.split("/").some((part) => ["", ".", ".."].includes(part))) {
      throw fail("leads out of it by its path");
    }
    yield {
      kind,
      path: plain,
      mode: header.mode & 0o7777,
      uid,
      gid,
      sizeBytes: size,
      dataOffsetBytes,
      ...(kind === "symlink" && { target: text(pax.get("linkpath") ?? header.linkName) }),
    };
    pax = new Map();
    cursor.offsetBytes = nextBytes;
  }
}
