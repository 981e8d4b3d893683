// SPDX-License-Identifier: MIT
/** The digest of the pieces of an image, computed in the plainest way. */

import { readFileSync } from "node:fs";
import { readImage } from "../../src/image/linear.ts";
import { openImage } from "../../src/source/file.ts";
import { sha256 } from "../fetch/servers.ts";

/** Returns the digest of the pieces of an image, see `format/pieces.ts`. */
export function piecesOfFile(path: string, dataBytes: number): string {
  const bytes = readFileSync(path).subarray(0, dataBytes);
  const source = openImage(path);
  const ends = [0, dataBytes];
  for (const entry of readImage(source)) {
    if (entry.kind === "file") ends.push(entry.dataOffset, entry.dataOffset + entry.size);
  }
  source.close();
  const cuts = [...new Set(ends)].sort((a, b) => a - b);
  const lines = cuts.slice(1).map((end, index) =>
    `${end - cuts[index]!} ${sha256(bytes.subarray(cuts[index], end))}\n`
  );
  return sha256(Buffer.from(lines.join("")));
}
