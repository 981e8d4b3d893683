// SPDX-License-Identifier: MIT
/**
 * Mirrors, which are searched for distfiles before their own URLs.
 *
 * @module
 */

import { resolve } from "node:path";
import { UserError } from "../errors.ts";
import { Secret } from "./secret.ts";

/** A server with distfiles by name. */
export interface HttpMirror {
  readonly kind: "http";
  /** Without user name, password, query, and slash at its end. */
  readonly url: string;
  /** The URL as it was given, where it has any of these. */
  readonly secret?: Secret;
}

/** A local directory with distfiles by name, which is read in place. */
export interface DirectoryMirror {
  readonly kind: "directory";
  /** Absolute. */
  readonly path: string;
}

export type Mirror = HttpMirror | DirectoryMirror;

/**
 * Parses a mirror: `http://…`, `https://…`, `file:///dir`, or the path of a directory that begins
 * with `/`, `./` or `../`, so that a misspelt server is none.
 *
 * @throws {UserError} "usage"
 */
export function parseMirror(text: string): Mirror {
  if (text.startsWith("file://")) {
    const path = text.slice("file://".length);
    if (!path.startsWith("/")) {
      throw new UserError(
        "usage",
        `Cannot use mirror ${shownMistake(text)}: it is not absolute`,
        { hint: "Write file:///directory, with three slashes" },
      );
    }
    return { kind: "directory", path };
  }
  // What begins like a URL without its scheme is none.
  if (/^\.{0,2}\//.test(text) && !/^\/\/[^/]*@/.test(text)) {
    return { kind: "directory", path: resolve(text) };
  }
  if (!/^https?:\/\/[^\s\p{Cc}"$`\\]+$/u.test(text) || !URL.canParse(text)) {
    throw new UserError("usage", `Cannot use mirror ${shownMistake(text)}`, {
      hint: "A mirror is http://…, https://…, file:///directory, or a directory: /srv/dir, ./dir",
    });
  }
  const given = text.replace(/\/+$/, "");
  // Not by way of URL, which would change the spelling of others.
  const url = given.replace(/[?#].*$/s, "").replace(/\/\/[^/]*@/, "//").replace(/\/+$/, "");
  return { kind: "http", url, ...(url !== given && { secret: new Secret(given) }) };
}

/** What is no mirror may still have a password: only its scheme, and what follows the last "@". */
function shownMistake(text: string): string {
  const shown = text.replace(/^([a-z][a-z\d+.-]*:\/\/|https?:)?.*@/is, "$1");
  return JSON.stringify(shown.replace(/[?#].*$/s, ""));
}

/** Returns the URL of a mirror for requests to it. */
export function requestUrl({ url, secret }: HttpMirror): string {
  return secret?.reveal() ?? url;
}

/** Returns what of a mirror's URL is not public, for messages; undefined if nothing is. */
export function secretOf(mirror: HttpMirror): "password" | "user name" | "query" | undefined {
  if (mirror.secret === undefined) return undefined;
  const { password, username } = new URL(mirror.secret.reveal());
  return password !== "" ? "password" : username !== "" ? "user name" : "query";
}

/** Returns mirrors with the secrets of those of other mirrors that have the same public URL. */
export function withSecretsOf(mirrors: readonly Mirror[], others: readonly Mirror[]): Mirror[] {
  const known = new Map(httpMirrors(others).map((mirror) => [mirror.url, mirror]));
  return mirrors.map((mirror) => mirror.kind === "http" ? known.get(mirror.url) ?? mirror : mirror);
}

/** Returns the mirrors that are servers. */
export function httpMirrors(mirrors: readonly Mirror[]): HttpMirror[] {
  return mirrors.filter((mirror) => mirror.kind === "http");
}

/** Returns the paths of the mirrors that are directories. */
export function mirrorDirectories(mirrors: readonly Mirror[]): string[] {
  return mirrors.flatMap((mirror) => mirror.kind === "directory" ? [mirror.path] : []);
}
