// SPDX-License-Identifier: MIT
/**
 * The worker of a sink, in a thread of its own: hashes bytes and writes them.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { messageOf, systemCode } from "../errors.ts";
import { PIECE_BYTES, writeAll } from "../hash/piece.ts";

/** A request to the thread. Slots are ranges of `ring` of `slotBytes` each. */
export type SinkRequest =
  /** The first request. The file exists already; without `path` nothing is written. */
  | {
    readonly kind: "open";
    readonly path?: string;
    /** Shared, not copied. */
    readonly ring: Uint8Array;
    readonly slotBytes: number;
    /** One Int32: the number of slots done, updated before the reply. */
    readonly doneSlots: SharedArrayBuffer;
  }
  | {
    readonly kind: "slot";
    readonly slot: number;
    readonly sizeBytes: number;
    /** The caller has written it, so that it only needs to be hashed. */
    readonly isWritten: boolean;
  }
  /** Zeros that are hashed and not written: they become a hole. */
  | { readonly kind: "hole"; readonly sizeBytes: number }
  /** Asks for the digest of all bytes so far. */
  | { readonly kind: "mark" }
  /** The last request: closes the file, and asks for the digest of all bytes. */
  | { readonly kind: "finish" };

/**
 * An answer to "slot", "mark" or "finish", in the order of the requests; "failed" can answer every
 * request, is the last answer, and comes after the file was closed.
 */
export type SinkReply =
  /** For "mark" and "finish" with the digest, in lower-case hex. */
  | { readonly kind: "done"; readonly sha256?: string }
  | { readonly kind: "failed"; readonly message: string; readonly code: string | undefined };

declare const self: {
  onmessage: (event: MessageEvent<SinkRequest>) => void;
  postMessage: (reply: SinkReply) => void;
};

const ZEROS = new Uint8Array(PIECE_BYTES);

const hash = createHash("sha256");
let file = -1;
let ring: Uint8Array = new Uint8Array();
let slotBytes = 0;
let doneSlots: Int32Array = new Int32Array(1);
let offsetBytes = 0;
let hasFailed = false;

self.onmessage = ({ data }) => {
  if (hasFailed) return;
  try {
    handle(data);
  } catch (error) {
    hasFailed = true;
    close();
    self.postMessage({ kind: "failed", message: messageOf(error), code: systemCode(error) });
  }
};

function handle(request: SinkRequest): void {
  switch (request.kind) {
    case "open":
      ring = request.ring;
      slotBytes = request.slotBytes;
      doneSlots = new Int32Array(request.doneSlots);
      if (request.path !== undefined) file = openSync(request.path, "r+");
      return;
    case "slot": {
      const start = request.slot * slotBytes;
      for (let done = 0; done < request.sizeBytes; done += PIECE_BYTES) {
        const size = Math.min(PIECE_BYTES, request.sizeBytes - done);
        const piece = ring.subarray(start + done, start + done + size);
        hash.update(piece);
        if (!request.isWritten) writeAll(file, piece, offsetBytes);
        offsetBytes += size;
      }
      Atomics.add(doneSlots, 0, 1);
      self.postMessage({ kind: "done" });
      return;
    }
    case "hole":
      for (let left = request.sizeBytes; left > 0; left -= PIECE_BYTES) {
        hash.update(ZEROS.subarray(0, Math.min(left, PIECE_BYTES)));
      }
      offsetBytes += request.sizeBytes;
      return;
    case "mark":
      self.postMessage({ kind: "done", sha256: hash.copy().digest("hex") });
      return;
    case "finish":
      close();
      self.postMessage({ kind: "done", sha256: hash.digest("hex") });
  }
}

function close(): void {
  if (file >= 0) closeSync(file);
  file = -1;
}
