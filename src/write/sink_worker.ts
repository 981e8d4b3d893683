// SPDX-License-Identifier: MIT
/**
 * The writing half of the image writer, in a thread of its own: writes what it is given to a file
 * and computes the SHA-256 of the whole, while the other half reads and verifies what comes next.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { closeSync, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { messageOf, systemCode } from "../errors.ts";

/** What the reading half says. */
export type SinkRequest =
  /** Creates the file; it must not exist. Slots are pieces of `ring`, `slotBytes` each. */
  | {
    readonly kind: "open";
    readonly path: string;
    readonly ring: SharedArrayBuffer;
    readonly slotBytes: number;
  }
  | { readonly kind: "data"; readonly slot: number; readonly length: number }
  /** Zeros as a hole. */
  | { readonly kind: "zeros"; readonly size: number }
  /** Extends the file to its size, makes it durable and closes it. */
  | { readonly kind: "finish"; readonly sizeBytes: number }
  | { readonly kind: "abandon" };

/** What the writing half answers. */
export type SinkReply =
  | { readonly kind: "free"; readonly slot: number }
  | { readonly kind: "finished"; readonly sha256: string }
  | { readonly kind: "abandoned" }
  | { readonly kind: "failed"; readonly message: string; readonly code: string | undefined };

declare const self: {
  onmessage: (event: MessageEvent<SinkRequest>) => void;
  postMessage: (reply: SinkReply) => void;
};

const ZEROS = new Uint8Array(1024 * 1024);
const hash = createHash("sha256");
let file = -1;
let ring: Uint8Array = new Uint8Array();
let slotBytes = 0;
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
      ring = new Uint8Array(request.ring);
      slotBytes = request.slotBytes;
      file = openSync(request.path, "wx", 0o644);
      return;
    case "data": {
      const start = request.slot * slotBytes;
      const bytes = ring.subarray(start, start + request.length);
      writeAll(bytes);
      hash.update(bytes);
      self.postMessage({ kind: "free", slot: request.slot });
      return;
    }
    case "zeros":
      for (let left = request.size; left > 0; left -= ZEROS.length) {
        hash.update(ZEROS.subarray(0, Math.min(left, ZEROS.length)));
      }
      position += request.size;
      return;
    case "finish":
      ftruncateSync(file, request.sizeBytes);
      fsyncSync(file);
      close();
      self.postMessage({ kind: "finished", sha256: hash.digest("hex") });
      return;
    case "abandon":
      close();
      self.postMessage({ kind: "abandoned" });
      return;
  }
}

function writeAll(bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) {
    const written = writeSync(file, bytes, done, bytes.length - done, position);
    done += written;
    position += written;
  }
}

function close(): void {
  if (file >= 0) closeSync(file);
  file = -1;
}
