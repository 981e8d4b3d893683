// SPDX-License-Identifier: MIT
/** A file that looks like a Linux kernel. */

/** Returns a file with the magic of a bzImage, and with a text so that kernels can differ. */
export function kernelLike(text = "no kernel, but a file"): Uint8Array {
  const bytes = new Uint8Array(1024);
  const encoder = new TextEncoder();
  encoder.encodeInto("HdrS", bytes.subarray(0x202));
  encoder.encodeInto(text, bytes.subarray(0x300));
  return bytes;
}
