// SPDX-License-Identifier: MIT
/** Digests of images as text. */

import type { RecordedImage } from "../record/types.ts";

type Digests = Pick<
  RecordedImage,
  "piecesSha256" | "sha256" | "blocksSha256" | "dataBytes" | "sizeBytes"
>;

/** Returns the digests of an image, and says which of its bytes they are of. */
export function digestText(image: Digests): string {
  const { piecesSha256, blocksSha256 } = image;
  const whole = wholeDigestText(image);
  return [
    ...(whole === undefined ? [] : [whole]),
    ...(piecesSha256 === undefined ? [] : [`SHA-256 ${piecesSha256} of its pieces`]),
    ...(blocksSha256 === undefined
      ? []
      : [`SHA-256 ${blocksSha256} of its blocks that are not zero`]),
  ].join(", ");
}

/** Returns the digest of an image that other programs compute; undefined where it is not known. */
export function wholeDigestText({ sha256, dataBytes, sizeBytes }: Digests): string | undefined {
  if (sha256 === undefined) return undefined;
  return `SHA-256 ${sha256}` + (dataBytes < sizeBytes ? ` of the first ${dataBytes} bytes` : "");
}
