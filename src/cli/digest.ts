// SPDX-License-Identifier: MIT
/** Digests of images as text. */

import type { RecordedImage } from "../record/types.ts";

/** Returns the digest of an image, and says which of its bytes it is of. */
export function digestText(
  { sha256, blocksSha256, dataBytes, sizeBytes }: RecordedImage,
): string {
  if (sha256 === undefined) return `SHA-256 ${blocksSha256} of its blocks that are not zero`;
  return `SHA-256 ${sha256}` + (dataBytes < sizeBytes ? ` of the first ${dataBytes} bytes` : "");
}
