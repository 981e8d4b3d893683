// SPDX-License-Identifier: MIT
/**
 * A repository of an OCI registry, to be read and written.
 *
 * @see https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
 * @module
 */
import { sha256Of } from "../bytes.ts";
import { UrlFailure } from "./failure.ts";
import { type HttpAnswer, type Method, openUrl, readBody } from "./http.ts";
import { isLoopback, type OciMirror, placeOf, type RepositoryPlace } from "./mirror.ts";
import { type Access, RegistryLogin } from "./registry_login.ts";
import { answerFailure, bodyOf, type NamedBody, retried, type StorageOptions } from "./storage.ts";

/** The largest manifest that registries take. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

export const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";

/** One repository. */
export class Registry {
  readonly place: RepositoryPlace;
  readonly #login: RegistryLogin;
  readonly #options: StorageOptions;

  constructor(mirror: OciMirror, access: Access, options: StorageOptions) {
    this.place = placeOf(mirror);
    this.#login = new RegistryLogin(this.place, access, options);
    this.#options = options;
  }

  /**
   * Reports whether it has a blob.
   *
   * @throws {UrlFailure}
   */
  async has(sha256: string): Promise<boolean> {
    const url = this.#url(`blobs/sha256:${sha256}`);
    const { status } = await this.#ask("HEAD", url, [200, 404]);
    return status === 200;
  }

  /**
   * Uploads a blob; the registry verifies its digest.
   *
   * @throws {UrlFailure}
   */
  async upload(body: NamedBody): Promise<void> {
    await this.#retried(async () => {
      const begun = await this.#askOnce("POST", this.#url("blobs/uploads/"), [202]);
      const location = begun.headers.location ?? "";
      if (!URL.canParse(location, this.place.origin)) {
        throw new UrlFailure("the registry names no place for an upload");
      }
      const place = new URL(location, this.place.origin);
      // A registry that a proxy serves may call itself http.
      const own = new URL(this.place.origin);
      if (place.host === own.host) place.protocol = own.protocol;
      const isSafe = place.protocol === "https:" || isLoopback(place.host);
      if (place.origin !== this.place.origin && !isSafe) {
        throw new UrlFailure(`refused: an upload to ${place.origin}`);
      }
      const query = place.search === "" ? "?" : `${place.search}&`;
      // The rest of the query is the registry's own, and stays as it is spelt.
      place.search = `${query}digest=sha256%3A${body.sha256}`;
      await this.#askOnce("PUT", place.href, [201], body, {
        "Content-Type": "application/octet-stream",
      });
    });
  }

  /**
   * Returns the digest of the manifest that a tag names.
   *
   * @returns In lower-case hex; undefined if there is none, or the registry does not say it.
   */
  async tagged(tag: string): Promise<string | undefined> {
    const accept = { "Accept": MANIFEST_TYPE };
    const url = this.#url(`manifests/${tag}`);
    const { status, headers } = await this.#ask("HEAD", url, [200, 404], undefined, accept);
    const digest = String(headers["docker-content-digest"] ?? "");
    return status === 200 ? /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1] : undefined;
  }

  /**
   * Writes a manifest, and gives it a tag.
   *
   * @throws {UrlFailure}
   */
  async tag(tag: string, manifest: Uint8Array): Promise<void> {
    if (manifest.length > MAX_MANIFEST_BYTES) {
      throw new UrlFailure(`the manifest has ${manifest.length} bytes, more than registries take`);
    }
    const url = this.#url(`manifests/${tag}`);
    await this.#ask("PUT", url, [201], bodyOf(manifest), { "Content-Type": MANIFEST_TYPE });
  }

  /**
   * Reads the manifest that a tag names.
   *
   * @throws {UrlFailure} Also for one that is not what the registry says it is.
   */
  async manifest(tag: string): Promise<Uint8Array> {
    const url = this.#url(`manifests/${tag}`);
    const { headers, body } = await this.#ask(
      "GET",
      url,
      [200],
      undefined,
      { "Accept": MANIFEST_TYPE },
    );
    const digest = headers["docker-content-digest"];
    if (digest !== undefined && digest !== `sha256:${sha256Of(body)}`) {
      throw new UrlFailure(`the manifest of ${tag} has another digest than the registry says`);
    }
    return body;
  }

  #url(path: string): string {
    return `${this.place.origin}/v2/${this.place.repository}/${path}`;
  }

  #ask(
    method: Method,
    url: string,
    wanted: readonly number[],
    body?: NamedBody,
    headers?: Record<string, string>,
  ): Promise<Answer> {
    return this.#retried(() => this.#askOnce(method, url, wanted, body, headers));
  }

  /** Asks, and once more with a login if the registry wants one that it has not told of before. */
  async #askOnce(
    method: Method,
    url: string,
    wanted: readonly number[],
    body?: NamedBody,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const isOwn = new URL(url).origin === this.place.origin;
    for (let round = 0;; round++) {
      const answer = await openUrl(url, 0, {
        ...this.#options,
        method,
        body,
        headers: async (signal) => ({
          ...headers,
          ...(isOwn && await this.#login.headers(signal)),
        }),
      });
      try {
        if (answer.status === 401 && round === 0 && isOwn) {
          this.#login.challenged(answer.headers["www-authenticate"]);
          continue;
        }
        if (!wanted.includes(answer.status)) throw await answerFailure(answer, method);
        const bytes = method === "GET" ? await readBody(answer, MAX_MANIFEST_BYTES) : NO_BYTES;
        return { status: answer.status, headers: answer.headers, body: bytes };
      } finally {
        answer.close();
      }
    }
  }

  #retried<T>(work: () => Promise<T>): Promise<T> {
    return retried(work, this.#options);
  }
}

const NO_BYTES = new Uint8Array();

interface Answer extends Pick<HttpAnswer, "status" | "headers"> {
  readonly body: Uint8Array;
}
