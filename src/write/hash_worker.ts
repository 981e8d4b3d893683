// SPDX-License-Identifier: MIT
/**
 * The SHA-256 of a whole image, in a thread of its own.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** What the thread is told. Slots are pieces of `ring`, `slotBytes` each. */
export type HashRequest =
  | { readonly kind: "ring"; readonly ring: SharedArrayBuffer; readonly slotBytes: number }
  | { readonly kind: "slot"; readonly slot: number; readonly length: number }
  | { readonly kind: "zeros"; readonly size: number }
  | { readonly kind: "finish" };

/** What it answers. */
export type HashReply =
  | { readonly kind: "hashed"; readonly slot: number }
  | { readonly kind: "digest"; readonly sha256: string };

declare const self: {
  onmessage: (event: MessageEvent<HashRequest>) => void;
  postMessage: (reply: HashReply) => void;
};

const ZEROS = new Uint8Array(1024 * 1024);
const hash = createHash("sha256");
let ring: Uint8Array = new Uint8Array();
let slotBytes = 0;

self.onmessage = ({ data }) => {
  switch (data.kind) {
    case "ring":
      ring = new Uint8Array(data.ring);
      slotBytes = data.slotBytes;
      return;
    case "slot": {
      const start = data.slot * slotBytes;
      hash.update(ring.subarray(start, start + data.length));
      self.postMessage({ kind: "hashed", slot: data.slot });
      return;
    }
    case "zeros":
      for (let left = data.size; left > 0; left -= ZEROS.length) {
        hash.update(ZEROS.subarray(0, Math.min(left, ZEROS.length)));
      }
      return;
    case "finish":
      self.postMessage({ kind: "digest", sha256: hash.digest("hex") });
  }
};
