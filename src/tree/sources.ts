// SPDX-License-Identifier: MIT
/**
 * The format of steps/NAME/sources: the distfiles of a step.
 *
 *   line = ( "f" | "file" ) URL SHA256 [ FILE_NAME ]
 *        | ( "g" | "git" ) GIT_URL ( URL | "_" ) SHA256 [ FILE_NAME ]
 *
 * Fields are separated by single spaces; white space at the end of a line is ignored. If FILE_NAME
 * is absent, it is the part of the URL after its last slash; `_` (no HTTP snapshot) needs one.
 * A git URL is `scheme://host/path~REFERENCE`.
 *
 * Source: live-bootstrap, DEVEL.md "sources file", and the programs that read it.
 *
 * @module
 */

import { distfileNameFault } from "../fetch/distfile_name.ts";
import { UserError } from "../errors.ts";
import { controlIn, quoted } from "../text.ts";

/** One line of a sources file. */
export interface Source {
  /** HTTP URL, or `_` if there is none. */
  readonly url: string;
  /** Lower-case hex. */
  readonly sha256: string;
  /** File name in the distfiles directory. */
  readonly fileName: string;
  /** Repository and reference of a git source. */
  readonly git?: { readonly url: string; readonly reference: string };
  /** Line number, from 1. */
  readonly line: number;
}

/**
 * Parses a sources file.
 *
 * @param name Name of the file for messages.
 * @throws {UserError} "tree" with file and line.
 */
export function parseSources(text: string, name: string): Source[] {
  if (text === "") return [];
  const lines = text.split("\n");
  if (lines.pop() !== "") {
    // `while read line` on the booted machine ignores a last line without newline.
    throw sourcesError(
      name,
      lines.length + 1,
      "the last line has no newline, the booted machine would skip it",
    );
  }
  return lines.map((line, index) => {
    const parsed = parseSource(line.trimEnd(), index + 1);
    if (typeof parsed === "string") throw sourcesError(name, index + 1, parsed);
    return parsed;
  });
}

function parseSource(text: string, line: number): Source | string {
  const fields = text.split(" ");
  if (fields.includes("")) return text === "" ? "an empty line" : "one space too many";
  const control = controlIn(text);
  if (control !== undefined) return `the control character ${control} in ${quoted(text)}`;
  const type = fields.shift()!;
  let git: Source["git"];
  if (type === "g" || type === "git") {
    const gitUrl = fields.shift() ?? "";
    const tilde = gitUrl.lastIndexOf("~");
    if (!/^(git|https?):\/\/./.test(gitUrl) || tilde < 0 || tilde === gitUrl.length - 1) {
      return `expected git://host/path~REFERENCE, found ${quoted(gitUrl)}`;
    }
    git = { url: gitUrl.slice(0, tilde), reference: gitUrl.slice(tilde + 1) };
  } else if (type !== "f" && type !== "file") {
    return `expected f, file, g or git, found ${quoted(type)}`;
  }
  const [url, sha256, fileName, ...rest] = fields;
  if (url === undefined || sha256 === undefined || rest.length > 0) {
    return "expected URL SHA256 [FILE_NAME]";
  }
  if (url === "_" ? git === undefined : !/^https?:\/\/./.test(url)) {
    return `expected an http or https URL, found ${quoted(url)}`;
  }
  if (!/^[0-9a-f]{64}$/.test(sha256)) {
    return `expected a SHA-256 of 64 lower-case hex digits, found ${quoted(sha256)}`;
  }
  if (url === "_" && fileName === undefined) {
    return "a source without an HTTP URL needs a file name";
  }
  const chosen = fileName ?? url.slice(url.lastIndexOf("/") + 1);
  const fault = chosen === "_" ? '"_" stands for no URL' : distfileNameFault(chosen);
  if (fault !== undefined) return `${quoted(chosen)} cannot be a file name: ${fault}`;
  return { url, sha256, fileName: chosen, ...(git && { git }), line };
}

function sourcesError(name: string, line: number, what: string): UserError {
  return new UserError("tree", `Cannot read sources: ${what}`, {
    where: `${name}:${line}`,
    hint: "A line is: f URL SHA256 [FILE_NAME], or: g GIT_URL URL SHA256 [FILE_NAME]",
  });
}
