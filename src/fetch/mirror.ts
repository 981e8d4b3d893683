// SPDX-License-Identifier: MIT
/**
 * Mirrors, which are searched for distfiles before their own URLs.
 *
 * @module
 */

import { UserError } from "../errors.ts";

/** A server with distfiles by name, below a URL without a slash at its end. */
export interface HttpMirror {
  readonly kind: "http";
  readonly url: string;
}

/** A local directory with distfiles by name, which is read in place. */
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

/** Returns the mirrors that are servers. */
export function httpMirrors(mirrors: readonly Mirror[]): HttpMirror[] {
  return mirrors.filter((mirror) => mirror.kind === "http");
}

/** Returns the paths of the mirrors that are directories. */
export function mirrorDirectories(mirrors: readonly Mirror[]): string[] {
  return mirrors.flatMap((mirror) => mirror.kind === "directory" ? [mirror.path] : []);
}
