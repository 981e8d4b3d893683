// SPDX-License-Identifier: MIT
/**
 * What a distfile may be called, whoever names it: a checkout, a server, a guest.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** NAME_MAX of every Linux file system is 255 bytes, and `.part` has to fit behind the name. */
export const MAX_NAME_BYTES = 250;

/**
 * Why a name cannot be that of a distfile, or undefined if it can.
 *
 * A name comes from a checkout or from the network, and becomes a file name, part of a URL and
 * text on a terminal. So it holds no separator of any system and no control character, does not
 * start with a dot (which covers `.` and `..`), and does not end like an unfinished download.
 */
export function distfileNameFault(name: string): string | undefined {
  if (name === "") return "it is empty";
  if (!name.isWellFormed()) return "it is not Unicode text";
  const sizeBytes = Buffer.byteLength(name);
  if (sizeBytes > MAX_NAME_BYTES) return `it has ${sizeBytes} bytes, above ${MAX_NAME_BYTES}`;
  if (/[/\\]/.test(name)) return "it holds a path separator";
  if (/\p{Cc}/u.test(name)) return "it holds a control character";
  if (name.startsWith(".")) return "it starts with a dot";
  if (name.endsWith(".part")) return "it ends in .part, which marks an unfinished download";
  return undefined;
}
