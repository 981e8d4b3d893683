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

/** A repository of an OCI registry, with distfiles by SHA-256. Its secrets are not in the URL. */
export interface OciMirror {
  readonly kind: "oci";
  /** `oci://HOST[:PORT]/REPOSITORY`. */
  readonly url: string;
  /** Whether it is asked over http, though it is not on loopback. */
  readonly isPlain?: true;
}

/** A bucket of an S3-compatible store, with distfiles by name. Its secrets are not in the URL. */
export interface S3Mirror {
  readonly kind: "s3";
  /** `s3+https://HOST/BUCKET[/PREFIX]`, without slash at its end. */
  readonly url: string;
}

/** A mirror that is asked over the network. */
export type ServerMirror = HttpMirror | OciMirror | S3Mirror;

export type Mirror = ServerMirror | DirectoryMirror;

/**
 * Parses a mirror: `http://…`, `https://…`, `oci://HOST/REPOSITORY`, `s3+https://HOST/BUCKET`,
 * `file:///dir`, or the path of a directory that begins with `/`, `./` or `../`, so that a misspelt
 * server is none.
 *
 * @throws {UserError} "usage"
 */
export function parseMirror(text: string): Mirror {
  if (text.startsWith("oci:")) {
    const { mirror, tag } = parseRepository(text);
    if (tag === undefined) return mirror;
    throw new UserError("usage", `Cannot use mirror ${shownMistake(text)}: it has a tag`, {
      hint: `Leave :${tag} out: files are asked for by their SHA-256`,
    });
  }
  if (/^s3(\+https?)?:/.test(text)) return parseBucket(text);
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
      hint: "A mirror is http://…, https://…, oci://HOST/REPOSITORY, s3+https://HOST/BUCKET, " +
        "file:///directory, or a directory: /srv/dir, ./dir",
    });
  }
  const given = text.replace(/\/+$/, "");
  // Not by way of URL, which would change the spelling of others.
  const url = given.replace(/[?#].*$/s, "").replace(/\/\/[^/]*@/, "//").replace(/\/+$/, "");
  return { kind: "http", url, ...(url !== given && { secret: new Secret(given) }) };
}

/** Names as the OCI distribution specification has them. */
const REPOSITORY =
  /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const HOST = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/i;
const MAX_REPOSITORY_CHARS = 255;

/**
 * Parses `oci://HOST[:PORT]/REPOSITORY[:TAG]`.
 *
 * @throws {UserError} "usage"
 */
export function parseRepository(
  text: string,
): { readonly mirror: OciMirror; readonly tag: string | undefined } {
  const [, host = "", path = "", tag] = /^oci:\/\/([^/\s]*)\/([^:\s]*)(?::(.*))?$/s.exec(text) ??
    [];
  const isRight = HOST.test(host) && URL.canParse(`https://${host}`) &&
    path.length <= MAX_REPOSITORY_CHARS && REPOSITORY.test(path) &&
    (tag === undefined || TAG.test(tag));
  if (!isRight) {
    throw new UserError("usage", `Cannot use ${shownMistake(text)} as a registry`, {
      hint: "Write oci://HOST[:PORT]/REPOSITORY, and :TAG for a push. Credentials are those of " +
        "docker login",
    });
  }
  return { mirror: { kind: "oci", url: `oci://${host.toLowerCase()}/${path}` }, tag };
}

/** Returns a mirror that is asked over http, where it is a registry. */
export function withPlainHttp<T extends Mirror>(mirror: T): T {
  return mirror.kind === "oci" ? { ...mirror, isPlain: true } : mirror;
}

function parseBucket(text: string): S3Mirror {
  const url = text.replace(/\/+$/, "");
  const [, scheme, host = ""] =
    /^s3\+(https?):\/\/([^/\s]*)(?:\/[\w.~!$'()*+,;=:@%/-]*)?$/s.exec(url) ??
      [];
  const isRight = HOST.test(host) && URL.canParse(url.slice(S3.length)) &&
    // What URL changes would be signed as another.
    new URL(url.slice(S3.length)).href.replace(/\/$/, "") === url.slice(S3.length);
  if (!isRight) {
    throw new UserError("usage", `Cannot use ${shownMistake(text)} as a bucket`, {
      hint: "Write s3+https://HOST/BUCKET[/PREFIX]. Credentials are AWS_ACCESS_KEY_ID and " +
        "AWS_SECRET_ACCESS_KEY, or those of a profile",
    });
  }
  if (scheme === "http" && !isLoopback(host)) {
    throw new UserError("usage", `Cannot use ${shownMistake(text)}: it is not on this machine`, {
      hint: "Write s3+https://: plain http is for servers on loopback only",
    });
  }
  return { kind: "s3", url };
}

/** What comes before the URL of a bucket. */
const S3 = "s3+";

/** Reports whether a host, with or without port, is this machine: no network is in between. */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i.test(host);
}

/** Where a repository is, for requests. */
export interface RepositoryPlace {
  /** As the user has named it, with the port. */
  readonly host: string;
  /** Scheme, host and port. */
  readonly origin: string;
  readonly repository: string;
}

export function placeOf({ url, isPlain }: OciMirror): RepositoryPlace {
  const rest = url.slice("oci://".length);
  const [host, repository] = [rest.slice(0, rest.indexOf("/")), rest.slice(rest.indexOf("/") + 1)];
  const scheme = isPlain || isLoopback(host) ? "http" : "https";
  // Docker's own registry has another name than its images.
  const server = host === "docker.io" ? "registry-1.docker.io" : host;
  return { host, origin: new URL(`${scheme}://${server}`).origin, repository };
}

/** Returns the URL at which a mirror has a file. */
export function fileUrl(
  mirror: ServerMirror,
  { name, sha256 }: { readonly name: string; readonly sha256: string },
): string {
  if (mirror.kind === "oci") {
    const { origin, repository } = placeOf(mirror);
    return `${origin}/v2/${repository}/blobs/sha256:${sha256}`;
  }
  const base = mirror.kind === "s3" ? mirror.url.slice(S3.length) : requestUrl(mirror);
  const url = new URL(base);
  url.pathname += `${url.pathname.endsWith("/") ? "" : "/"}${encodeURIComponent(name)}`;
  return url.href;
}

/** Returns a URL of a mirror that tells whether its server answers. */
export function serverUrl(mirror: ServerMirror): string {
  if (mirror.kind === "oci") return `${placeOf(mirror).origin}/v2/`;
  return mirror.kind === "s3" ? mirror.url.slice(S3.length) : requestUrl(mirror);
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

/** Returns the mirrors that are asked over the network. */
export function serverMirrors(mirrors: readonly Mirror[]): ServerMirror[] {
  return mirrors.filter((mirror) => mirror.kind !== "directory");
}

/** Returns the mirrors that a machine without our programs can ask, too. */
export function httpMirrors(mirrors: readonly Mirror[]): HttpMirror[] {
  return mirrors.filter((mirror) => mirror.kind === "http");
}

/** Returns the paths of the mirrors that are directories. */
export function mirrorDirectories(mirrors: readonly Mirror[]): string[] {
  return mirrors.flatMap((mirror) => mirror.kind === "directory" ? [mirror.path] : []);
}
