// SPDX-License-Identifier: MIT
/**
 * The origin of a file in the store, kept there for later builds.
 *
 *   STORE/.origins/SHA256       JSON: { "url": …, "redirectedTo": … }
 *   STORE/.origins/SHA256.part  likewise, of the part that is to become it
 *
 * The name is the digest of the distfile that was downloaded, so a file with other content, or one
 * replaced by hand, has no origin. That of a part is written before the first byte of a body, and
 * gets its name after the body is verified and before the distfile gets its own. So every downloaded
 * file has one, at whatever moment a fetch is killed.
 *
 * @module
 */

import { readdirSync } from "node:fs";
import { type FileHandle, open, rename, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { systemCode, UserError } from "../errors.ts";
import { readWholeText } from "../read.ts";
import { object, parseJson, textThat } from "../json.ts";
import { hasOwnDirectory, makeOwnDirectory } from "../runtime/own.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { bareUrl, publicUrl } from "./failure.ts";
import { storePath } from "./store.ts";

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
 * @param url The requested URL as it may be recorded.
 */
export function originOf(asked: string, answered: string, url = publicUrl(asked)): Origin {
  const wasRedirected = publicUrl(answered) !== new URL(publicUrl(asked)).href;
  return { url, ...(wasRedirected && { redirectedTo: bareUrl(answered) }) };
}

/**
 * Writes down where the bytes come from that are about to be added to a part. Who does it has the
 * turn of the file.
 *
 * @throws The system's error if the store cannot be written.
 */
export async function announceOrigin(store: string, sha256: string, origin: Origin): Promise<void> {
  // One that is cut short by a kill is that of a part that has no byte of this body yet.
  const file = await openOrigin(store, partOriginPath(store, sha256));
  try {
    await file.writeFile(`${JSON.stringify(origin)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes an empty file in the directory, and the directory. */
async function openOrigin(store: string, path: string): Promise<FileHandle> {
  for (let round = 1;; round++) {
    makeOwnDirectory(join(store, ORIGINS_DIR));
    // One of an earlier run, or whatever else has that name.
    await rm(path, { force: true });
    try {
      return await open(path, "wx", 0o666);
    } catch (error) {
      // Another fetch whose body was wrong has removed the directory since, as it was empty.
      if (systemCode(error) !== "ENOENT" || round === MOST_ROUNDS) throw error;
    }
  }
}

/** Far more than other fetches can cause. */
const MOST_ROUNDS = 100;

/**
 * Makes the origin of a part that of the distfile it has become.
 *
 * @returns Whether one had been announced.
 * @throws The system's error if the store cannot be written.
 */
export async function settleOrigin(store: string, sha256: string): Promise<boolean> {
  if (!hasOwnDirectory(join(store, ORIGINS_DIR))) return false;
  try {
    await rename(partOriginPath(store, sha256), originPath(store, sha256));
    return true;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return false;
    throw error;
  }
}

/** Removes the origin of a part that held a wrong body. */
export async function forgetOrigin(store: string, sha256: string): Promise<void> {
  if (!hasOwnDirectory(join(store, ORIGINS_DIR))) return;
  await rm(partOriginPath(store, sha256), { force: true });
  // The directory still holds others.
  await rmdir(join(store, ORIGINS_DIR)).catch(() => {});
}

/** Digests that have the origin of a part, and no part: a killed fetch left them. */
export function strayOrigins(store: string): string[] {
  if (!hasOwnDirectory(join(store, ORIGINS_DIR))) return [];
  return namesIn(join(store, ORIGINS_DIR)).filter((name) => /^[0-9a-f]{64}\.part$/.test(name))
    .map((name) => name.slice(0, -PART.length))
    .filter((sha256) => isStrayOrigin(store, sha256));
}

/** Whether there is no part of a digest. */
export function isStrayOrigin(store: string, sha256: string): boolean {
  return lstatIfThere(`${storePath(store, sha256)}${PART}`) === undefined;
}

/**
 * Reads the origin of a file in the store.
 *
 * @returns undefined if none is known, or the file of the origin is not valid.
 */
export function recallOrigin(store: string, sha256: string): Origin | undefined {
  try {
    if (!hasOwnDirectory(join(store, ORIGINS_DIR))) return undefined;
    const options = { limitBytes: MAX_BYTES, followsLink: false };
    const read = parseJson(origin, readWholeText(originPath(store, sha256), options));
    return typeof read === "string" ? undefined : read;
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** Names in a directory; none where there is no such directory. */
function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    throw error;
  }
}

const PART = ".part";

function partOriginPath(store: string, sha256: string): string {
  return join(store, ORIGINS_DIR, `${sha256}${PART}`);
}

function originPath(store: string, sha256: string): string {
  return join(store, ORIGINS_DIR, sha256);
}
