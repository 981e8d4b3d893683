// SPDX-License-Identifier: MIT
/**
 * hex0: bytes as hexadecimal text, the first language of the bootstrap.
 *
 *   hex0    = { digit digit | space | comment }
 *   comment = ( "#" | ";" ) any* newline
 *   space   = tab | newline | form feed | vertical tab | return | " "
 *
 * White space and comments between the two digits of a byte do not matter, nor does the case of
 * digits. Anything else, and an odd number of digits, is an error here, although the assemblers on
 * the booted machine skip it: text for them should not rely on that.
 *
 * Source: builder-hex0 README, "The Hex0 Language".
 *
 * @module
 */

import { UserError } from "../errors.ts";

const NEWLINE = 0x0a;
const HASH = 0x23;
const SEMICOLON = 0x3b;

/**
 * Assembles hex0 text.
 *
 * @param text The file as bytes; comments may contain any bytes.
 * @param name Name of the file for messages.
 * @returns The assembled bytes.
 * @throws {UserError} "format", with file, line and column (both from 1, the column in bytes), for
 * a character that is neither a digit, white space nor in a comment, and for an odd number of
 * digits.
 */
export function assembleHex0(text: Uint8Array, name: string): Uint8Array {
  const out = new Uint8Array(text.length >> 1);
  let size = 0;
  let high = -1;
  let highAt = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === HASH || char === SEMICOLON) {
      const end = text.indexOf(NEWLINE, at);
      if (end < 0) break;
      at = end;
      continue;
    }
    if (char === 0x20 || (char >= 0x09 && char <= 0x0d)) continue;
    const digit = digitOf(char);
    if (digit < 0) {
      throw new UserError("format", `Cannot assemble hex0: ${describe(char)} is not a hex digit`, {
        where: place(text, at, name),
        hint: "Comments begin with # or ; and end with the line",
      });
    }
    if (high < 0) {
      high = digit;
      highAt = at;
    } else {
      out[size++] = high * 16 + digit;
      high = -1;
    }
  }
  if (high >= 0) {
    throw new UserError("format", "Cannot assemble hex0: the number of hex digits is odd", {
      where: place(text, highAt, name),
      hint: "Every byte has two hex digits",
    });
  }
  return out.subarray(0, size);
}

function digitOf(char: number): number {
  if (char >= 0x30 && char <= 0x39) return char - 0x30;
  if (char >= 0x61 && char <= 0x66) return char - 0x61 + 10;
  if (char >= 0x41 && char <= 0x46) return char - 0x41 + 10;
  return -1;
}

function describe(char: number): string {
  return char > 0x20 && char < 0x7f
    ? `"${String.fromCharCode(char)}"`
    : `byte 0x${char.toString(16).padStart(2, "0")}`;
}

function place(text: Uint8Array, at: number, name: string): string {
  let line = 1;
  let lineStart = 0;
  for (let i = text.indexOf(NEWLINE); i >= 0 && i < at; i = text.indexOf(NEWLINE, i + 1)) {
    line++;
    lineStart = i + 1;
  }
  return `${name}:${line}:${at - lineStart + 1}`;
}
