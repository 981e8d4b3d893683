// SPDX-License-Identifier: MIT
/**
 * The far end of a sink, in a thread of its own: digests what it is given and writes it.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { messageOf, systemCode } from "../errors.ts";
import { PIECE_BYTES, writeAll } from "./piece.ts";

/** What the thread is told. Slots are pieces of `ring`, `slotBytes` each. */
export type SinkRequest =
  /** The file is there already; without `path` there is none, and nothing to write. */
  | {
    readonly kind: "open";
    readonly path?: string;
    /** Shared, not copied. */
    readonly ring: Uint8Array;
    readonly slotBytes: number;
    /** One number: how many slots are done. It is there before the reply is. */
    readonly doneSlots: SharedArrayBuffer;
  }
  | {
    readonly kind: "slot";
    readonly slot: number;
    readonly sizeBytes: number;
    /** The other end has written it, so that only the digest is left to do. */
    readonly isWritten: boolean;
  }
  /** Zeros that are not written: they become a hole. */
  | { readonly kind: "hole"; readonly sizeBytes: number }
  /** Asks for the digest of what came so far. */
  | { readonly kind: "mark" }
  /** Closes the file, and asks for the digest of all. Nothing comes after it. */
  | { readonly kind: "finish" };

/**
 * What it answers to "slot", "mark" and "finish", in their order, and to any of them where something
 * fails: "failed" is its last answer, and the file is closed then.
 */
export type SinkReply =
  /** To "mark" and "finish" with the digest, in lower-case hex. */
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
