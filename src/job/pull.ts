// SPDX-License-Identifier: MIT
/**
 * Pulls a bundle from a registry into the store.
 *
 * @module
 */

import * as v from "valibot";
import { messageOf, UserError } from "../errors.ts";
import { UrlFailure } from "../fetch/failure.ts";
import { fetchAll } from "../fetch/fetch.ts";
import { type OciMirror, parseRepository, withPlainHttp } from "../fetch/mirror.ts";
import { Registry } from "../fetch/registry.ts";
import { fetchError } from "../fetch/report.ts";
import type { FetchEvent } from "../fetch/types.ts";
import { anyText, count, openObject, parseJson, textThat } from "../json.ts";
import { USER_AGENT } from "../version.ts";
import { BUNDLE_TYPE } from "./push.ts";

const STALL_MS = 20_000;

/** Far more than a bundle with every image has. */
const MAX_BUNDLE_BYTES = 2 ** 40;

const manifestFields = openObject({
  schemaVersion: v.literal(2),
  artifactType: v.exactOptional(anyText),
  layers: v.array(
    openObject({
      digest: textThat((value) => /^sha256:[0-9a-f]{64}$/.test(value), "a SHA-256"),
      size: count(0, MAX_BUNDLE_BYTES),
    }),
    "a list",
  ),
});

/** What to pull, and to where. */
export interface PullRequest {
  /** `oci://HOST/REPOSITORY[:TAG]`. */
  readonly url: string;
  readonly isPlain: boolean;
  readonly store: string;
}

/**
 * Gets a bundle into the store, verified by the digest that the manifest has.
 *
 * @returns Its path.
 * @throws {UserError} "usage" for the URL or a login; "fetch" where it is not to be had; "format" for
 * an artifact that is no bundle of one file; "interrupt".
 */
export async function pullBundle(
  { url, isPlain, store }: PullRequest,
  onFetch: (event: FetchEvent) => void,
  signal: AbortSignal,
): Promise<string> {
  const { mirror: named, tag = "latest" } = parseRepository(url);
  const mirror = isPlain ? withPlainHttp(named) : named;
  const { sha256, sizeBytes } = await layerOf(mirror, tag, signal);
  // Its own names are not used: they are not verified by anything.
  const name = `${mirror.url.slice(mirror.url.lastIndexOf("/") + 1)}.tar`;
  const report = await fetchAll([{ name, sha256, urls: [] }], {
    store,
    mirrors: [mirror],
    maxBytes: sizeBytes,
    userAgent: USER_AGENT,
    signal,
    onProgress: onFetch,
  });
  const found = report.files.get(name);
  if (found === undefined) throw fetchError(report, []);
  return found.path;
}

async function layerOf(
  mirror: OciMirror,
  tag: string,
  signal: AbortSignal,
): Promise<{ readonly sha256: string; readonly sizeBytes: number }> {
  const where = `${mirror.url}:${tag}`;
  const registry = new Registry(mirror, "pull", {
    userAgent: USER_AGENT,
    stallMs: STALL_MS,
    signal,
  });
  let text: string;
  try {
    text = new TextDecoder().decode(await registry.manifest(tag));
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof UrlFailure)) throw error;
    throw new UserError("fetch", `Cannot pull ${where}: ${messageOf(error)}`, {
      where,
      hint: "Check the name and the tag; credentials are those of docker login",
      cause: error,
    });
  }
  const read = parseJson(manifestFields, text);
  const fault = typeof read === "string"
    ? `its manifest is none: ${read}`
    : read.artifactType !== BUNDLE_TYPE
    ? "it is no bundle"
    : read.layers.length !== 1
    ? `it has ${read.layers.length} files`
    : undefined;
  if (typeof read === "string" || fault !== undefined) {
    throw new UserError("format", `Cannot use ${where}: ${fault}`, {
      where,
      hint: "Push one with seedstrap bundle create --push, not split",
    });
  }
  const [{ digest, size: sizeBytes }] = read.layers as [typeof read.layers[number]];
  return { sha256: digest.slice("sha256:".length), sizeBytes };
}
