// SPDX-License-Identifier: MIT
/**
 * User names and passwords by host, from the file that curl and git read, too: `$NETRC`, else
 * `~/.netrc`.
 *
 * Its `default` entry is not used: a checkout names dozens of hosts, and each would get the
 * password. Its mode is not looked at, as curl and git do not either: a secret that is mounted into
 * a container often has 0644.
 *
 * @module
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { messageOf, systemCode, UserError } from "../errors.ts";
import { Secret } from "./secret.ts";

/** A user name and a password, as HTTP's Basic scheme joins them: `name:password`. */
export type Netrc = ReadonlyMap<string, Secret>;

/**
 * Reads the netrc file of the user.
 *
 * @returns By host in lower case; empty if there is no file.
 * @throws {UserError} "usage" for one that is there, or is named by NETRC, and cannot be read.
 */
export function readNetrc(env: Readonly<Record<string, string | undefined>>): Netrc {
  const named = env["NETRC"] || undefined;
  const path = named ?? join(env["HOME"] || homedir(), ".netrc");
  try {
    return parseNetrc(readFileSync(path, "utf8"));
  } catch (error) {
    const code = systemCode(error);
    if (code === undefined) throw error;
    if (named === undefined && (code === "ENOENT" || code === "ENOTDIR")) return new Map();
    throw new UserError("usage", `Cannot read passwords from ${path}: ${messageOf(error)}`, {
      where: path,
      hint: named === undefined ? "Let it be read, or set NETRC=/dev/null" : "Check NETRC",
      cause: error,
    });
  }
}

/**
 * Parses the text of a netrc file. What is not known is passed over; of two entries for a host the
 * first counts.
 */
export function parseNetrc(text: string): Netrc {
  const found = new Map<string, Secret>();
  // A macro ends at an empty line. A comment is a line of its own: a password may hold a "#".
  const plain = text.replaceAll(/^[ \t]*macdef\b.*(\n.+)*/gm, "").replaceAll(/^[ \t]*#.*$/gm, "");
  const words = [...plain.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, bare]) =>
    quoted === undefined ? bare! : quoted.replaceAll(/\\(.)/g, "$1")
  );
  let host: string | undefined;
  let [login, password] = ["", ""];
  const keep = () => {
    if (host !== undefined && login + password !== "" && !found.has(host)) {
      found.set(host, new Secret(`${login}:${password}`));
    }
    [host, login, password] = [undefined, "", ""];
  };
  const rest = words.values();
  for (const word of rest) {
    if (word === "machine") {
      keep();
      host = rest.next().value?.toLowerCase();
    } else if (word === "default") keep();
    else if (word === "login") login = rest.next().value ?? "";
    else if (word === "password") password = rest.next().value ?? "";
    else if (word === "account") rest.next();
  }
  keep();
  return found;
}
