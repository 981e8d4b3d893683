// SPDX-License-Identifier: MIT
/**
 * SHA256SUMS: the format that sha256sum(1) prints and `sha256sum -c` reads.
 *
 *   line = [ "\\" ] digest{64} " " ( " " | "*" ) path "\n"
 *
 * A backslash at the beginning says that a backslash, newline or return in the path is written as
 * `\\`, `\n` or `\r`.
 *
 * @module
 */

const ESCAPES = new Map([["\\", "\\\\"], ["\n", "\\n"], ["\r", "\\r"]]);
const UNESCAPES = new Map([...ESCAPES].map(([plain, escaped]) => [escaped, plain]));

/**
 * Formats the lines for files.
 *
 * @param files Paths with their SHA-256 in lower-case hex.
 */
export function formatSums(
  files: readonly { readonly path: string; readonly sha256: string }[],
): string {
  return files.map(({ path, sha256 }) => {
    const escaped = path.replace(/[\\\n\r]/g, (char) => ESCAPES.get(char)!);
    return `${escaped === path ? "" : "\\"}${sha256}  ${escaped}\n`;
  }).join("");
}

/** Parses lines into SHA-256 by path; ignores lines of another form. */
export function parseSums(text: string): Map<string, string> {
  const sums = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, escape, sha256, path] = /^(\\?)([0-9a-f]{64}) [ *](.+)$/s.exec(line) ?? [];
    if (sha256 === undefined || path === undefined) continue;
    const plain = escape === "" ? path : path.replace(/\\[\\nr]/g, (pair) => UNESCAPES.get(pair)!);
    sums.set(plain, sha256);
  }
  return sums;
}
