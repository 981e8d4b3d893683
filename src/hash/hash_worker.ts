// SPDX-License-Identifier: MIT
/**
 * A thread of the pool: digests files, one after the other.
 *
 * @module
 */

import { answer, type HashAnswer, type HashRequest, newPiece } from "./task.ts";

declare const self: {
  onmessage: (event: MessageEvent<HashRequest>) => void;
  postMessage: (answer: HashAnswer) => void;
};

const piece = newPiece();

self.onmessage = ({ data }) => self.postMessage(answer(data, piece));
