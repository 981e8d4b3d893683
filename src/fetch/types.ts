// SPDX-License-Identifier: MIT
/**
 * The input and the result of a fetch.
 *
 * @module
 */

import type { ServerMirror } from "./mirror.ts";

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
  /** Directory for downloads; created when it is first needed. */
  readonly store: string;
  /** Servers that are asked before a file's own URLs. */
  readonly mirrors: readonly ServerMirror[];
  /** Value of the `User-Agent` header, such as `seedstrap/0.1.0`. */
  readonly userAgent: string;
  /** Number of files to fetch at once; 4 if absent. */
  readonly jobs?: number | undefined;
  /** Most bytes a second of all downloads together; no limit if absent. */
  readonly bytesPerSecond?: number | undefined;
  /** Ends the fetch. Part files stay, to be resumed. */
  readonly signal?: AbortSignal | undefined;
  /** Returns a number in [0, 1) for the order of mirrors; `Math.random` if absent. */
  readonly random?: (() => number) | undefined;
  /** Called for every event, which is often. */
  readonly onProgress?: ((event: FetchEvent) => void) | undefined;
  /** Longest wait for the next bytes of a server, in milliseconds; 20 s if absent. */
  readonly stallMs?: number | undefined;
  /** Largest size of a body; `MAX_DISTFILE_BYTES` if absent. */
  readonly maxBytes?: number | undefined;
  /** Wait before the first round of retries, in milliseconds, then doubled; 1 s if absent. */
  readonly retryDelayMs?: number | undefined;
}

/** An event of a file, for a progress display. `url` has no password. */
export type FetchEvent =
  /** So many files are wanted. */
  | { kind: "begin"; files: number }
  /** A body begins; `bytes` of the file are already in the store. */
  | { kind: "start"; name: string; url: string; bytes: number; total: number | undefined }
  | { kind: "bytes"; name: string; url: string; bytes: number; total: number | undefined }
  /** The file is complete and verified; `url` is a `file:` URL if it was already in the store. */
  | { kind: "done"; name: string; url: string; bytes: number; total: number }
  /** One URL did not deliver the file. */
  | { kind: "failed-attempt"; name: string; url: string; answer: string; fault: Fault }
  /** A URL with a failure that may be temporary is tried again. */
  | { kind: "retry"; name: string; url: string }
  /** Another process, of this pid, is fetching the file into the same store. */
  | { kind: "wait"; name: string; pid: number }
  /** Nothing more is fetched. */
  | { kind: "end" };

/**
 * What is wrong with a source: its host cannot be reached, so that it has no file; the bytes that
 * came have another SHA-256; or anything else.
 */
export type Fault = "host" | "digest" | "other";

/** A verified file. */
export interface Fetched {
  /** Absolute path in the store. */
  readonly path: string;
  readonly sizeBytes: number;
  /** The URL it came from, without password; a `file:` URL if it was already in the store. */
  readonly source: string;
  /** The URL after redirects, if there were any. */
  readonly redirectedTo?: string;
}

/** One URL and its answer. */
export interface Attempt {
  /** Without password. */
  readonly url: string;
  /** Its last answer, as short plain text. */
  readonly answer: string;
  readonly fault: Fault;
  /** Number of times it was asked. */
  readonly tries: number;
}

/** A file that could not be fetched. */
export interface Failure {
  readonly name: string;
  readonly sha256: string;
  /** In the order of the first tries. */
  readonly attempts: readonly Attempt[];
  /** Where this machine has a file of that name with other bytes; absent if nowhere. */
  readonly wrong?: readonly WrongPlace[] | undefined;
}

/** A place on this machine where a distfile has another SHA-256 than it must have. */
export interface WrongPlace {
  /** Of the directory, or of the bundle. */
  readonly path: string;
  /** Whether it is a bundle, which is damaged then. */
  readonly isBundle: boolean;
}

/** The result of a fetch. */
export interface FetchReport {
  /** Absolute path of the store. */
  readonly store: string;
  /** The verified files by name, in the order of the wanted files. */
  readonly files: ReadonlyMap<string, Fetched>;
  /** Empty if all files were fetched. */
  readonly failures: readonly Failure[];
}
