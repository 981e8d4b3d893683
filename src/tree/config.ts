// SPDX-License-Identifier: MIT
/**
 * The format of bootstrap.cfg: the variables of a bootstrap.
 *
 *   config = { NAME "=" VALUE "\n" }
 *
 * Every line has an equals sign; the value is the rest of the line, including quotes. There are no
 * comments and no empty lines. The in-system reader drops the last byte of each line as its
 * newline, so a last line without newline would lose a character: that is an error here. A line has
 * at most 2,046 bytes without its newline.
 *
 * Source: live-bootstrap, seed/script-generator.c, load_config.
 *
 * @module
 */

import { UserError } from "../errors.ts";

/** Longest line without its newline: the reader's buffer has 2,048 bytes for it, `\n` and NUL. */
export const MAX_CONFIG_LINE_BYTES = 2046;

/** Names and values in order. A name may occur more than once; the first one counts. */
export type Config = readonly (readonly [name: string, value: string])[];

/**
 * Parses a bootstrap.cfg.
 *
 * @param name Name of the file for messages.
 * @throws {UserError} "tree" with file and line.
 */
export function parseConfig(text: string, name: string): Config {
  if (text === "") return [];
  const lines = text.split("\n");
  if (lines.pop() !== "") {
    throw configError(name, lines.length + 1, "the last line has no newline", text);
  }
  return lines.map((line, index) => {
    const equals = line.indexOf("=");
    if (equals < 0) throw configError(name, index + 1, "expected NAME=VALUE", line);
    checkLine(line, name, index + 1);
    return [line.slice(0, equals), line.slice(equals + 1)] as const;
  });
}

/**
 * Formats a bootstrap.cfg.
 *
 * @throws {UserError} "tree" if the in-system reader could not read it back.
 */
export function formatConfig(config: Config): string {
  const name = "steps/bootstrap.cfg";
  return config.map(([key, value], index) => {
    const line = `${key}=${value}`;
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key) || line.includes("\n")) {
      throw configError(name, index + 1, "not a variable", line);
    }
    checkLine(line, name, index + 1);
    return `${line}\n`;
  }).join("");
}

/** Returns the value of a variable; empty if it is unset. */
export function configValue(config: Config, name: string): string {
  return config.find(([key]) => key === name)?.[1] ?? "";
}

function checkLine(line: string, name: string, number: number): void {
  const bytes = new TextEncoder().encode(line).length;
  if (bytes > MAX_CONFIG_LINE_BYTES || line.includes("\0")) {
    throw configError(
      name,
      number,
      `a line has at most ${MAX_CONFIG_LINE_BYTES} bytes and no NUL, this one has ${bytes}`,
      line,
    );
  }
}

function configError(name: string, line: number, what: string, text: string): UserError {
  const shown = text.length > 60 ? `${text.slice(0, 57)}...` : text;
  return new UserError("tree", `Cannot read bootstrap.cfg: ${what}: ${JSON.stringify(shown)}`, {
    where: `${name}:${line}`,
    hint: "Every line is NAME=VALUE; shorten a long list of mirrors",
  });
}
