// SPDX-License-Identifier: MIT
/**
 * The format of steps/NAME/sources: the distfiles of a step.
 *
 *   line = ( "f" | "file" ) URL SHA256 [ FILE_NAME ]
 *        | ( "g" | "git" ) GIT_URL ( URL | "_" ) SHA256 [ FILE_NAME ]
 *
 * Before October 2025 (release 1.0) lines had no type: `git://` as the first field makes a line one
 * of git, everything else one of a file.
 *
 * Fields are separated by white space, and what follows FILE_NAME is not read. If FILE_NAME is
 * absent, it is the part of the URL after its last slash; `_` (no HTTP snapshot) needs one. A git
 * URL is `scheme://host/path~REFERENCE`. Any other type is read like a file, as the booted machine
 * does. Neither comments nor empty lines exist there; here both are left out with a remark.
 *
 * `while read line` ignores a last line without a newline. A single line is unpacked nevertheless, by
 * `head -n 1`: it needs the file there. Pull request 578 has such a line.
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
  /** Set for a line without a type. */
  readonly isUntyped?: true;
  /** Set for a line that the booted machine neither downloads nor checks: it has no newline. */
  readonly isUnread?: true;
}

/** Called with what is odd but readable: place as `file:line`, and a phrase. */
export type OnRemark = (where: string, what: string) => void;

/**
 * Parses a sources file.
 *
 * @param name Name of the file for messages.
 * @throws {UserError} "tree" with file and line.
 */
export function parseSources(
  text: string,
  name: string,
  onRemark: OnRemark = () => {},
): Source[] {
  if (text === "") return [];
  const lines = text.split("\n");
  const isUnread = lines.at(-1) !== "";
  if (!isUnread) lines.pop();
  if (isUnread && lines.length > 1) {
    throw sourcesError(
      name,
      lines.length,
      "the last line has no newline, the booted machine would skip it",
    );
  }
  if (isUnread) {
    onRemark(`${name}:1`, "the line has no newline: the booted machine does not download its file");
  }
  return lines.flatMap((line, index) => {
    const parsed = parseSource(
      line,
      index + 1,
      (what) => onRemark(`${name}:${index + 1}`, what),
    );
    if (typeof parsed === "string") throw sourcesError(name, index + 1, parsed);
    if (parsed === undefined) return [];
    const { fileName } = parsed;
    const fault = fileName === "_" ? '"_" stands for no URL' : distfileNameFault(fileName);
    if (fault === undefined) return [isUnread ? { ...parsed, isUnread } : parsed];
    const what = `${quoted(fileName)} cannot be a file name: ${fault}`;
    throw sourcesError(name, index + 1, what, NAME_HINT);
  });
}

const SHA256 = /^[0-9a-f]{64}$/;

/** Returns a source, nothing for a line without one, or a phrase that says what is wrong. */
function parseSource(
  text: string,
  line: number,
  onRemark: (what: string) => void,
): Source | undefined | string {
  const all = text.split(/[ \t]+/).filter((field) => field !== "");
  const comment = all.findIndex((field) => field.startsWith("#"));
  const fields = comment < 0 ? all : all.slice(0, comment);
  if (fields.length === 0) {
    const what = comment < 0 ? "an empty line" : "a comment";
    onRemark(`${what}: the booted machine takes it for a distfile if it reads this file`);
    return undefined;
  }
  const control = controlIn(fields.join(" "));
  if (control !== undefined) return `the control character ${control} in ${quoted(text)}`;
  const [first = ""] = fields;
  const isUntyped = first.includes("://");
  const type = isUntyped ? (first.startsWith("git://") ? "g" : "f") : fields.shift();
  let git: Source["git"];
  if (type === "g" || type === "git") {
    const gitUrl = fields.shift() ?? "";
    const tilde = gitUrl.lastIndexOf("~");
    if (!/^(git|https?):\/\/./.test(gitUrl) || tilde < 0 || tilde === gitUrl.length - 1) {
      return `expected git://host/path~REFERENCE, found ${quoted(gitUrl)}`;
    }
    git = { url: gitUrl.slice(0, tilde), reference: gitUrl.slice(tilde + 1) };
  } else if (type !== "f" && type !== "file") {
    const digest = fields.findIndex((field) => SHA256.test(field));
    if (digest < 1) return `expected f, file, g or git, found ${quoted(first)}`;
    onRemark(`the type ${quoted(first)} is not known: read by its URL and SHA-256`);
    fields.splice(0, digest - 1);
  }
  const [url, sha256, fileName] = fields;
  if (url === undefined || sha256 === undefined) return "expected URL SHA256 [FILE_NAME]";
  if (url === "_" ? git === undefined : !/^https?:\/\/./.test(url)) {
    return `expected an http or https URL, found ${quoted(url)}`;
  }
  if (!SHA256.test(sha256)) {
    return `expected a SHA-256 of 64 lower-case hex digits, found ${quoted(sha256)}`;
  }
  if (url === "_" && fileName === undefined) {
    return "a source without an HTTP URL needs a file name";
  }
  if (comment >= 0 && fileName === undefined) {
    onRemark(
      `a comment after the SHA-256: the booted machine takes ${
        quoted(all[comment]!)
      } for the file name if it reads this file`,
    );
  }
  const chosen = fileName ?? url.slice(url.lastIndexOf("/") + 1);
  return {
    url,
    sha256,
    fileName: chosen,
    ...(git && { git }),
    line,
    ...(isUntyped && { isUntyped }),
  };
}

const SYNTAX_HINT = "A line is: f URL SHA256 [FILE_NAME], or: g GIT_URL URL SHA256 [FILE_NAME]";
const NAME_HINT = "Give another FILE_NAME, after the SHA-256, and use that in the step";

function sourcesError(name: string, line: number, what: string, hint = SYNTAX_HINT): UserError {
  return new UserError("tree", `Cannot read sources: ${what}`, {
    where: `${name}:${line}`,
    hint,
  });
}
