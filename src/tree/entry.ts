// SPDX-License-Identifier: MIT
/** A file or directory of a checkout, which may be a directory or in a bundle. */

import type { BundledFile, FileIdentity } from "../format/segment.ts";

/** A file or directory below the checkout. */
export interface TreeEntry {
  /** Path relative to the directory that was walked, with `/`. */
  readonly path: string;
  readonly kind: "file" | "directory";
  /** Path of the file on this machine; in a bundle, the path of the bundle and that of the file. */
  readonly source: string;
  /** Set for a file in a bundle. */
  readonly bundled?: BundledFile;
  /** The file that `source` led to; absent for a directory, and in a bundle. */
  readonly identity?: FileIdentity;
  /** 0 for a directory. */
  readonly sizeBytes: number;
  /** Whether its owner may execute the file; true for a directory. */
  readonly isExecutable: boolean;
}
