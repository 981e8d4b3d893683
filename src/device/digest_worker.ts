// SPDX-License-Identifier: MIT
/**
 * The worker that hashes what is written to a device, in a thread of its own.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { PIECE_BYTES } from "../hash/piece.ts";

/** A request to the thread, which answers "bytes" and "end", in their order. */
export type DigestRequest =
  /** The first request. */
  | {
    readonly kind: "open";
    /** Shared, not copied. */
    readonly ring: Uint8Array;
  }
  /** Hashes a range of the ring. */
  | { readonly kind: "bytes"; readonly offsetBytes: number; readonly sizeBytes: number }
  /** Hashes zeros. */
  | { readonly kind: "zeros"; readonly sizeBytes: number }
  /** Asks for the digest of all bytes since the last "end", in lower-case hex. */
  | { readonly kind: "end" };

declare const self: {
  onmessage: (event: MessageEvent<DigestRequest>) => void;
  postMessage: (sha256: string) => void;
};

const ZEROS = new Uint8Array(PIECE_BYTES);

let hash = createHash("sha256");
let ring: Uint8Array = new Uint8Array();

self.onmessage = ({ data }) => {
  switch (data.kind) {
    case "open":
      ring = data.ring;
      return;
    case "bytes":
      hash.update(ring.subarray(data.offsetBytes, data.offsetBytes + data.sizeBytes));
      self.postMessage("");
      return;
    case "zeros":
      for (let left = data.sizeBytes; left > 0; left -= PIECE_BYTES) {
        hash.update(ZEROS.subarray(0, Math.min(left, PIECE_BYTES)));
      }
      return;
    case "end":
      self.postMessage(hash.digest("hex"));
      hash = createHash("sha256");
  }
};
