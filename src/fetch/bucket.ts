// SPDX-License-Identifier: MIT
/**
 * A bucket of an S3-compatible store, to be written.
 *
 * @module
 */
import process from "node:process";
import { type BucketKeys, findBucketKeys, signedHeaders } from "./bucket_login.ts";
import { type HttpAnswer, openUrl } from "./http.ts";
import { fileUrl, type S3Mirror } from "./mirror.ts";
import { answerFailure, type NamedBody, retried, type StorageOptions } from "./storage.ts";

/** The digest of an object, kept beside it: an ETag is none in every store. */
const DIGEST = "x-amz-meta-sha256";

/** One bucket, or what is below a prefix of it. */
export class Bucket {
  readonly #mirror: S3Mirror;
  readonly #options: StorageOptions;
  readonly #keys: BucketKeys | undefined;

  /** @throws {UserError} "usage" for keys that are named and cannot be read. */
  constructor(mirror: S3Mirror, options: StorageOptions) {
    this.#mirror = mirror;
    this.#options = options;
    this.#keys = findBucketKeys(process.env);
  }

  /**
   * Reports whether it has an object with these bytes, as far as it tells.
   *
   * @throws {UrlFailure}
   */
  async has(name: string, { sha256, sizeBytes }: NamedBody): Promise<boolean> {
    const url = fileUrl(this.#mirror, { name, sha256 });
    const { status, headers } = await retried(async () => {
      const answer = await openUrl(url, 0, {
        ...this.#options,
        method: "HEAD",
        headers: () => signedHeaders({ url, method: "HEAD" }, this.#keys),
      });
      return await this.#wanted(answer, [200, 404], "HEAD");
    }, this.#options);
    return status === 200 && headers[DIGEST] === sha256 &&
      headers["content-length"] === String(sizeBytes);
  }

  /**
   * Writes an object. A store that checks signatures refuses other bytes than those of the digest.
   *
   * @throws {UrlFailure}
   */
  async put(name: string, body: NamedBody): Promise<void> {
    const { sha256 } = body;
    const url = fileUrl(this.#mirror, { name, sha256 });
    await retried(async () => {
      const answer = await openUrl(url, 0, {
        ...this.#options,
        method: "PUT",
        body,
        headers: () =>
          signedHeaders({ url, method: "PUT", sha256, headers: { [DIGEST]: sha256 } }, this.#keys),
      });
      return await this.#wanted(answer, [200, 201, 204], "PUT");
    }, this.#options);
  }

  async #wanted(
    answer: HttpAnswer,
    wanted: readonly number[],
    method: "HEAD" | "PUT",
  ): Promise<HttpAnswer> {
    try {
      if (!wanted.includes(answer.status)) throw await answerFailure(answer, method);
      return answer;
    } finally {
      answer.close();
    }
  }
}
