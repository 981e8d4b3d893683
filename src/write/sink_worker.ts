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
    /** One number: how many slots are done, ahead of the replies that say so. */
    readonly done: SharedArrayBuffer;
  }
  | {
    readonly kind: "slot";
    readonly slot: number;
    readonly length: number;
    /** The other end has written it, so that only the digest is left to do. */
    readonly isWritten: boolean;
  }
  /** Zeros that are not written: they become a hole. */
  | { readonly kind: "hole"; readonly size: number }
  /** Asks for the digest of what came so far. */
  | { readonly kind: "mark" }
  | { readonly kind: "finish" };

/** What it answers. */
export type SinkReply =
  /** The slot is free again, and what it held is in the file. */
  | { readonly kind: "written"; readonly slot: number }
  | { readonly kind: "marked"; readonly sha256: string }
  /** Everything is written, and the file closed at this end. */
  | { readonly kind: "finished"; readonly sha256: string }
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
let slotsDone: Int32Array = new Int32Array(1);
let position = 0;

self.onmessage = ({ data }) => {
  try {
    handle(data);
  } catch (error) {
    close();
    self.postMessage({ kind: "failed", message: messageOf(error), code: systemCode(error) });
  }
};

function handle(request: SinkRequest): void {
  switch (request.kind) {
    case "open":
      ring = request.ring;
      slotBytes = request.slotBytes;
      slotsDone = new Int32Array(request.done);
      if (request.path !== undefined) file = openSync(request.path, "r+");
      return;
    case "slot": {
      const start = request.slot * slotBytes;
      for (let done = 0; done < request.length; done += PIECE_BYTES) {
        const size = Math.min(PIECE_BYTES, request.length - done);
        const piece = ring.subarray(start + done, start + done + size);
        hash.update(piece);
        if (!request.isWritten) writeAll(file, piece, position);
        position += size;
      }
      Atomics.add(slotsDone, 0, 1);
      self.postMessage({ kind: "written", slot: request.slot });
      return;
    }
    case "hole":
      for (let left = request.size; left > 0; left -= PIECE_BYTES) {
        hash.update(ZEROS.subarray(0, Math.min(left, PIECE_BYTES)));
      }
      position += request.size;
      return;
    case "mark":
      self.postMessage({ kind: "marked", sha256: hash.copy().digest("hex") });
      return;
    case "finish":
      close();
      self.postMessage({ kind: "finished", sha256: hash.digest("hex") });
  }
}

function close(): void {
  if (file >= 0) closeSync(file);
  file = -1;
}
