// SPDX-License-Identifier: MIT
/**
 * The rules for the name of a distfile, which may come from a checkout, a server or a guest.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** NAME_MAX is 255 bytes on every Linux file system, and `.part` is appended to the name. */
export const MAX_NAME_BYTES = 250;

/**
 * Returns the reason why a name cannot be that of a distfile, or undefined if it can.
 *
 * A name comes from a checkout or from the network, and becomes a file name, part of a URL and
 * text on a terminal. So it must not contain a path separator of any system or a control
 * character, start with a dot (which covers `.` and `..`), or end like an unfinished download.
 */
export function distfileNameFault(name: string): string | undefined {
  if (name === "") return "it is empty";
  if (!name.isWellFormed()) return "it is not Unicode text";
  const sizeBytes = Buffer.byteLength(name);
  if (sizeBytes > MAX_NAME_BYTES) return `it has ${sizeBytes} bytes, more than ${MAX_NAME_BYTES}`;
  if (/[/\\]/.test(name)) return "it contains a path separator";
  if (/\p{Cc}/u.test(name)) return "it contains a control character";
  if (name.startsWith(".")) return "it starts with a dot";
  if (name.endsWith(".part")) return "it ends in .part, which marks an unfinished download";
  return undefined;
}
