// SPDX-License-Identifier: MIT
/**
 * The credentials for requests to mirrors that are registries and buckets.
 *
 * @module
 */
import process from "node:process";
import { type BucketKeys, findBucketKeys, signedHeaders } from "./bucket_login.ts";
import type { HttpOptions } from "./http.ts";
import { placeOf, type ServerMirror, serverUrl } from "./mirror.ts";
import { RegistryLogin } from "./registry_login.ts";

const STALL_MS = 20_000;

type Headers = NonNullable<HttpOptions["headers"]>;

/** Logins of one run: each server is asked once what it wants, and only if it is needed. */
export class MirrorLogins {
  /** By the beginning of the URLs that they are for. */
  readonly #registries = new Map<string, RegistryLogin>();
  readonly #buckets: string[] = [];
  #keys: { readonly found: BucketKeys | undefined } | undefined;

  constructor(mirrors: readonly ServerMirror[], userAgent: string, stallMs = STALL_MS) {
    for (const mirror of mirrors) {
      if (mirror.kind === "oci") {
        const place = placeOf(mirror);
        const login = new RegistryLogin(place, "pull", { userAgent, stallMs });
        this.#registries.set(`${place.origin}/v2/${place.repository}/blobs/`, login);
      } else if (mirror.kind === "s3") {
        this.#buckets.push(`${serverUrl(mirror).replace(/\/$/, "")}/`);
      }
    }
  }

  /** Returns what makes the headers of a request; undefined if it needs none. */
  headersOf(url: string, method: "GET" | "HEAD"): Headers | undefined {
    for (const [start, login] of this.#registries) {
      if (url.startsWith(start)) return (signal) => login.headers(signal);
    }
    if (!this.#buckets.some((start) => url.startsWith(start))) return undefined;
    return () => {
      this.#keys ??= { found: findBucketKeys(process.env) };
      return signedHeaders({ url, method }, this.#keys.found);
    };
  }
}
