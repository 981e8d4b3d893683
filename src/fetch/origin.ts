// SPDX-License-Identifier: MIT
/**
 * The origin of a file in the store, kept there for later builds.
 *
 *   STORE/.origins/SHA256     JSON: { "url": …, "redirectedTo": … }
 *
 * The name is the digest of the distfile that was downloaded, so a file with other content, or one
 * replaced by hand, has no origin. It is written after the body is verified and before the distfile
 * gets its name, so every downloaded file has one. No distfile can have the name of the directory,
 * as no distfile name begins with a dot.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { UserError } from "../errors.ts";
import { readWholeText } from "../read.ts";
import { object, parseJson, textThat } from "../json.ts";
import { publicUrl } from "./failure.ts";

/** Directory in a store. */
export const ORIGINS_DIR = ".origins";

/** Size limit of an origin file that is read, and of each URL in it. */
const MAX_BYTES = 32 * 1024;
const MAX_URL_CHARS = 8192;

/** Reports whether a text is a URL that may be recorded: of a server, and without a password. */
function isPublicUrl(value: string): boolean {
  return value.length <= MAX_URL_CHARS && /^https?:\/\/[^\s\p{Cc}]+$/u.test(value) &&
    URL.canParse(value) && publicUrl(value) === value;
}

const recordedUrl = textThat(isPublicUrl, "a URL");

/** The URLs that a distfile came from. */
export const originFields = {
  /** What was asked for, without user name and password. */
  url: recordedUrl,
  /**
   * The URL after redirects, if there were any, without its query, which often contains a key and a
   * time.
   */
  redirectedTo: v.exactOptional(recordedUrl),
};

const origin = object(originFields);

/** The URL of a distfile. */
export type Origin = v.InferOutput<typeof origin>;

/**
 * Returns the origin of a body.
 *
 * @param asked The requested URL.
 * @param answered The URL after all redirects.
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

/**
 * Writes an origin into the store.
 *
 * @throws The system's error if the store cannot be written.
 */
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
 * Reads the origin of a file in the store.
 *
 * @returns undefined if none is known, or the file of the origin is not valid.
 */
export function recallOrigin(store: string, sha256: string): Origin | undefined {
  try {
    const read = parseJson(
      origin,
      readWholeText(originPath(store, sha256), { limitBytes: MAX_BYTES }),
    );
    return typeof read === "string" ? undefined : read;
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

function originPath(store: string, sha256: string): string {
  return join(store, ORIGINS_DIR, sha256);
}
