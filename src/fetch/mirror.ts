// SPDX-License-Identifier: MIT
/**
 * Mirrors: where distfiles are looked for before their own URLs are asked.
 *
 * @module
 */

import { UserError } from "../errors.ts";

/** A server that has distfiles by name, below a URL without a slash at its end. */
export interface HttpMirror {
  readonly kind: "http";
  readonly url: string;
}

/** A directory of this machine that has distfiles by name, and is read in place. */
export interface DirectoryMirror {
  readonly kind: "directory";
  /** Absolute. */
  readonly path: string;
}

export type Mirror = HttpMirror | DirectoryMirror;

/**
 * Parses a mirror: `http://…`, `https://…` or `file:///absolute/dir`.
 *
 * @throws {UserError} "usage"
 */
export function parseMirror(text: string): Mirror {
  if (text.startsWith("file://")) {
    const path = text.slice("file://".length);
    if (!path.startsWith("/")) {
      throw new UserError(
        "usage",
        `Cannot use mirror ${JSON.stringify(text)}: it is not absolute`,
        { hint: "Write file:///directory, with three slashes" },
      );
    }
    return { kind: "directory", path };
  }
  if (!/^https?:\/\/[^\s"$`\\]+$/.test(text) || !URL.canParse(text)) {
    throw new UserError("usage", `Cannot use mirror ${JSON.stringify(text)}`, {
      hint: "A mirror is http://…, https://… or file:///absolute/directory",
    });
  }
  return { kind: "http", url: text.replace(/\/+$/, "") };
}

/** The servers of some mirrors. */
export function httpMirrors(mirrors: readonly Mirror[]): HttpMirror[] {
  return mirrors.filter((mirror) => mirror.kind === "http");
}

/** The directories of some mirrors, as paths. */
export function mirrorDirectories(mirrors: readonly Mirror[]): string[] {
  return mirrors.flatMap((mirror) => mirror.kind === "directory" ? [mirror.path] : []);
}
