// SPDX-License-Identifier: MIT
/**
 * What registries and buckets have in common: bodies by their digest, requests that are sent again,
 * and what an answer says that is not the wanted one.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { sha256Of } from "../bytes.ts";
import { anyText, openObject, parseJson } from "../json.ts";
import { parseRetryAfter } from "./download.ts";
import { plainText, UrlFailure } from "./failure.ts";
import {
  type HttpAnswer,
  type HttpOptions,
  type Method,
  readBody,
  type RequestBody,
} from "./http.ts";

const MAX_ERROR_BYTES = 16 * 1024;
const TRIES = 4;
const RETRY_MS = 500;
/** Longest rest that a server asks for and gets. */
const MAX_REST_MS = 60_000;

/** How requests are sent, and where to tell of retries. */
export interface StorageOptions
  extends Pick<HttpOptions, "userAgent" | "stallMs" | "signal" | "connections"> {
  readonly retryMs?: number | undefined;
}

/** A body by its digest. */
export interface NamedBody extends RequestBody {
  /** Lower-case hex. */
  readonly sha256: string;
}

/** Returns a body of bytes. */
export function bodyOf(bytes: Uint8Array): NamedBody {
  return { sha256: sha256Of(bytes), sizeBytes: bytes.length, chunks: () => [bytes] };
}

/** Does a work again that fails for now. */
export async function retried<T>(
  work: () => Promise<T>,
  { signal, retryMs = RETRY_MS }: StorageOptions,
): Promise<T> {
  for (let tries = 1;; tries++) {
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof UrlFailure) || !error.transient || tries === TRIES) throw error;
      if ((error.restMs ?? 0) > MAX_REST_MS) throw error;
      await sleep(error.restMs ?? retryMs * 2 ** tries, undefined, signal && { signal });
    }
  }
}

const errors = openObject({
  errors: v.array(openObject({ code: anyText, message: v.exactOptional(anyText) })),
});

/** Returns what an answer that is not the wanted one says, as registries and buckets write it. */
export async function answerFailure(answer: HttpAnswer, method: Method): Promise<UrlFailure> {
  const { status } = answer;
  const text = method === "HEAD" ? "" : await readBody(answer, MAX_ERROR_BYTES)
    .then((bytes) => new TextDecoder().decode(bytes), () => "");
  const read = parseJson(errors, text);
  const [first] = typeof read === "string" ? [] : read.errors;
  const code = first?.code ?? /<Code>([\w.]{1,80})<\/Code>/.exec(text)?.[1];
  const what = [code, first?.message].filter(Boolean).join(", ");
  return new UrlFailure(`HTTP ${status}${what === "" ? "" : ` (${plainText(what)})`}`, {
    transient: status >= 500 || status === 429 || status === 408,
    restMs: status === 429 || status === 503
      ? parseRetryAfter(answer.headers["retry-after"], answer.headers.date)
      : undefined,
  });
}
