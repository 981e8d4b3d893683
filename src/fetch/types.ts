// SPDX-License-Identifier: MIT
/**
 * What goes into a fetch and what comes out of it.
 *
 * @module
 */

import type { HttpMirror } from "./mirror.ts";

/** A distfile that a build needs. */
export interface Wanted {
  /** File name, also looked up in the mirrors. */
  readonly name: string;
  /** The digest it must have, 64 lower-case hex digits. */
  readonly sha256: string;
  /** Its alternative URLs in the order of the manifest; may be empty. */
  readonly urls: readonly string[];
}

/** How to fetch. */
export interface FetchOptions {
  /** Directory that downloads go to; made when it is first needed. */
  readonly store: string;
  /** Servers that are asked before a file's own URLs. */
  readonly mirrors: readonly HttpMirror[];
  /** Value of the `User-Agent` header, such as `seedstrap/0.1.0`. */
  readonly userAgent: string;
  /** How many files to fetch at once; 4 if absent. */
  readonly jobs?: number | undefined;
  /** Ends the run. Part files stay, to be resumed. */
  readonly signal?: AbortSignal | undefined;
  /** A number from 0 up to but not including 1, for the order of mirrors; `Math.random` if absent. */
  readonly random?: (() => number) | undefined;
  /** Told about everything that happens, and often. */
  readonly onProgress?: ((event: FetchEvent) => void) | undefined;
  /** Longest wait for a server's next byte, in milliseconds; 20 s if absent. */
  readonly stallMs?: number | undefined;
  /** The largest body taken; `MAX_DISTFILE_BYTES` if absent. */
  readonly maxBytes?: number | undefined;
  /** Wait before the first round of second tries, in milliseconds; doubles; 1 s if absent. */
  readonly retryDelayMs?: number | undefined;
}

/** Something that happened to a file, for a progress display. `url` is free of passwords. */
export type FetchEvent =
  /** A body begins; `bytes` of the file are here already. */
  | { kind: "start"; name: string; url: string; bytes: number; total: number | undefined }
  | { kind: "bytes"; name: string; url: string; bytes: number; total: number | undefined }
  /** The file is here and right; `url` is a `file:` one if it was in the store already. */
  | { kind: "done"; name: string; url: string; bytes: number; total: number }
  /** One alternative did not have the file. */
  | { kind: "failed-attempt"; name: string; url: string; answer: string }
  /** A URL that failed for what may be a passing reason is tried again. */
  | { kind: "retry"; name: string; url: string }
  /** Another process, of this pid, is fetching the file into the same store. */
  | { kind: "wait"; name: string; pid: number };

/** A verified file. */
export interface Fetched {
  /** Absolute path in the store. */
  readonly path: string;
  readonly sizeBytes: number;
  /** The URL it came from, without passwords; a `file:` one if it was in the store already. */
  readonly source: string;
  /** Where the server had redirected `source` to, if it did. */
  readonly redirectedTo?: string;
}

/** One alternative and what came of it. */
export interface Attempt {
  /** Without passwords. */
  readonly url: string;
  /** What it answered last, as short plain text. */
  readonly answer: string;
  /** How many times it was asked. */
  readonly tries: number;
}

/** A file that could not be had. */
export interface Failure {
  readonly name: string;
  readonly sha256: string;
  /** In the order they were first tried. */
  readonly attempts: readonly Attempt[];
}

/** What a run has brought. */
export interface FetchReport {
  /** Absolute path of the store. */
  readonly store: string;
  /** The verified files by name, in the order they were wanted. */
  readonly files: ReadonlyMap<string, Fetched>;
  /** Empty if everything is here. */
  readonly failures: readonly Failure[];
}
