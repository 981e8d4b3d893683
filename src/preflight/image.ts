// SPDX-License-Identifier: MIT
/**
 * Makes the preflight boot image: our boot program instead of builder-hex0, followed by the srcfs
 * of the real boot image, so that the same sectors are read.
 *
 * @module
 */

import { STEPS } from "../assets.gen.ts";
import { bootImage, readBootHeader } from "../format/boot.ts";
import { assembleHex0 } from "../format/hex0.ts";
import { closingRecord, type PreflightOrders } from "../format/preflight.ts";
import type { ByteSource } from "../format/reader.ts";
import type { Segment } from "../format/segment.ts";
import { readSrcfs, srcfs } from "../format/srcfs.ts";

/** Directory of the boot program among the embedded steps. */
const PREFLIGHT_STEP = "preflight-1.0";

/** Returns the hex0 text of a stage of the boot program. */
export function preflightText(stage: "stage1" | "stage2"): string {
  return STEPS[`${PREFLIGHT_STEP}/${stage}.hex0`]!;
}

/**
 * Returns the segments of a preflight image.
 *
 * @param boot The boot image of the real run; without it, the srcfs is almost empty.
 * @throws {UserError} "format" if `boot` is not a boot image.
 */
export function preflightImage(orders: PreflightOrders, boot?: ByteSource): Segment[] {
  const encoder = new TextEncoder();
  return bootImage({
    stage1: assembleHex0(encoder.encode(preflightText("stage1")), `${PREFLIGHT_STEP}/stage1.hex0`),
    stage2: { kind: "bytes", bytes: encoder.encode(preflightText("stage2")) },
    srcfs: [
      ...(boot === undefined ? srcfs([{ path: "." }], []) : [srcfsOf(boot)]),
      ...closingRecord(orders),
    ],
  });
}

/** Returns the srcfs of a boot image without the zeros after it. */
function srcfsOf(boot: ByteSource): Segment {
  const { srcfsOffset } = readBootHeader(boot);
  for (const record of readSrcfs(boot, srcfsOffset)) {
    if (record.kind === "end") {
      const size = record.offsetBytes - srcfsOffset;
      return { kind: "file", path: boot.name, offsetBytes: srcfsOffset, sizeBytes: size };
    }
  }
  throw new Error("a srcfs has an end");
}
