// SPDX-License-Identifier: MIT
/**
 * Checks and normalises the names in an archive.
 *
 * @module
 */

import { MAX_PAYLOAD_NAME_BYTES } from "../format/payload.ts";

/** A checked name, or the reason why it is refused. */
export type Checked = { readonly name: string } | { readonly fault: string };

/**
 * Checks the name of a member, or the target of a hard link.
 *
 * @returns The path without `./`, `//` and a trailing `/`; "" for the root itself.
 */
export function checkName(bytes: Uint8Array): Checked {
  const text = checkText(bytes, "name");
  if ("fault" in text) return text;
  if (text.name.startsWith("/")) return { fault: "its name is absolute" };
  const parts = text.name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) return { fault: 'its name contains ".."' };
  return { name: parts.join("/") };
}

/**
 * Checks the target of a symbolic link. Inside the new root, a `..` above it would stay in it, but
 * a program that follows the link from outside would leave it.
 *
 * @param path Checked path of the link.
 */
export function checkTarget(path: string, bytes: Uint8Array): Checked {
  const text = checkText(bytes, "target");
  if ("fault" in text) return text;
  let depth = text.name.startsWith("/") ? 0 : path.split("/").length - 1;
  for (const part of text.name.split("/")) {
    if (part === "" || part === ".") continue;
    depth += part === ".." ? -1 : 1;
    if (depth < 0) {
      return { fault: `its target ${JSON.stringify(text.name)} leads out of the root` };
    }
  }
  return text;
}

/** Returns the directory of a path, or undefined for the root. */
export function parentOf(path: string): string | undefined {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? undefined : path.slice(0, slash);
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function checkText(bytes: Uint8Array, what: "name" | "target"): Checked {
  if (bytes.length === 0) return { fault: `its ${what} is empty` };
  if (bytes.length > MAX_PAYLOAD_NAME_BYTES) {
    return {
      fault: `its ${what} has ${bytes.length} bytes, more than ${MAX_PAYLOAD_NAME_BYTES}`,
    };
  }
  if (bytes.includes(0)) return { fault: `its ${what} contains a NUL` };
  if (bytes.includes(0x0a)) return { fault: `its ${what} contains a newline` };
  try {
    return { name: decoder.decode(bytes) };
  } catch {
    return { fault: `its ${what} is not UTF-8` };
  }
}
