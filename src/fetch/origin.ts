// SPDX-License-Identifier: MIT
/**
 * Where a file of the store came from, remembered beside it for later builds.
 *
 *   STORE/.origins/SHA256     JSON: { "url": …, "redirectedTo": … }
 *
 * The name is the digest of the distfile that was downloaded: a file that has another content, or
 * was replaced by hand, has no origin. It is written once the body is verified and before it gets
 * its name, so that no file that was downloaded is without one. No distfile can have the name of
 * the directory, for none begins with a dot.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { systemCode } from "../errors.ts";
import { object, parseJson, textThat } from "../json.ts";
import { publicUrl } from "./failure.ts";

/** Directory in a store. */
export const ORIGINS_DIR = ".origins";

/** Longest origin that is read, and longest URL in it. */
const MAX_BYTES = 32 * 1024;
const MAX_URL_CHARS = 8192;

/** Whether a text is a URL that may be recorded: of a server, and without a password. */
function isPublicUrl(value: string): boolean {
  return value.length <= MAX_URL_CHARS && /^https?:\/\/[^\s\p{Cc}]+$/u.test(value) &&
    URL.canParse(value) && publicUrl(value) === value;
}

const recordedUrl = textThat(isPublicUrl, "a URL");

/** What is known of where a distfile was had. */
export const originFields = {
  /** What was asked for, without user name and password. */
  url: recordedUrl,
  /**
   * Where the server had redirected that to, if it did, without its query: that often holds a key,
   * and a time.
   */
  redirectedTo: v.exactOptional(recordedUrl),
};

const origin = object(originFields);

/** The URL of a distfile. */
export type Origin = v.InferOutput<typeof origin>;

/**
 * The origin of a body.
 *
 * @param asked The URL that was asked.
 * @param answered The URL that answered in the end.
 */
export function originOf(asked: string, answered: string): Origin {
  const url = publicUrl(asked);
  const shown = publicUrl(answered);
  if (shown === new URL(url).href) return { url };
  const bare = new URL(shown);
  bare.search = "";
  bare.hash = "";
  return { url, redirectedTo: bare.href };
}

/** Remembers an origin. The system's error if the store cannot be written. */
export async function rememberOrigin(
  store: string,
  sha256: string,
  origin: Origin,
): Promise<void> {
  const path = originPath(store, sha256);
  const part = `${path}.${randomUUID()}.part`;
  await mkdir(join(store, ORIGINS_DIR), { recursive: true });
  try {
    const file = await open(part, "wx", 0o666);
    try {
      await file.writeFile(`${JSON.stringify(origin)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}

/**
 * Recalls the origin of a file in the store.
 *
 * @returns undefined where none is known, or what lies there is none.
 */
export async function recallOrigin(store: string, sha256: string): Promise<Origin | undefined> {
  try {
    const path = originPath(store, sha256);
    // Looked at before it is opened: to open a pipe would wait for its other end.
    const found = await stat(path);
    if (!found.isFile() || found.size > MAX_BYTES) return undefined;
    const read = parseJson(origin, await readFile(path, "utf8"));
    return typeof read === "string" ? undefined : read;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}

function originPath(store: string, sha256: string): string {
  return join(store, ORIGINS_DIR, sha256);
}
