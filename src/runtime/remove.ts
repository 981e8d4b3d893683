// SPDX-License-Identifier: MIT
/**
 * Removes a file. Bun's rmSync without `recursive` says EFAULT for what may not be removed, and
 * ERR_FS_EISDIR for a directory; unlink says what the system does.
 *
 * @module
 */

import { unlinkSync } from "node:fs";
import { systemCode } from "../errors.ts";

/**
 * Removes a file or a link, if it is there.
 *
 * @throws The system's error, also for a directory.
 */
export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
