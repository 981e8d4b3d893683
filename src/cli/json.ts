// SPDX-License-Identifier: MIT
/**
 * What `--json` prints: one object, whatever the command and however it ends. A command that takes
 * long prints a line for each event before it, and the object as the last line.
 *
 *   {
 *     "schema": 1,          another number where a field is gone, or means something else
 *     …                     the result; a list is an array in it
 *     "error": {            only where the command fails, also where it has a result
 *       "kind": "target",   a key of EXITS
 *       "code": 7,          the exit code
 *       "message": "…",
 *       "place": "…",       or null
 *       "hint": "…"         or null
 *     }
 *   }
 *
 * The end of the object is printed last of all: without it, the command was killed.
 *
 * @module
 */

import { once } from "node:events";
import process from "node:process";
import { EXIT, messageOf, UserError } from "../errors.ts";
import { printableJson } from "../text.ts";
import { writeOut } from "./output.ts";

const SCHEMA = 1;
const BLOCK_CHARS = 64 * 1024;

/** Whether the beginning of the object is printed. */
let isOpen = false;

/** How far the object is indented; 0 where it is a line. */
let indent = 2;

/** From now on everything is printed as a line: events, and the result. */
export function beginJsonLines(): void {
  indent = 0;
}

/** Prints an event as a line, after {@link beginJsonLines}. What a terminal obeys is escaped. */
export function printJsonLine(event: object): void {
  writeOut(process.stdout, `${printableJson(JSON.stringify(event))}\n`);
}

/** Prints the result of a command; {@link endJson} ends it. What a terminal obeys is escaped. */
export function printJson(result: object): void {
  const text = JSON.stringify({ schema: SCHEMA, ...result }, null, indent);
  writeOut(process.stdout, printableJson(text.slice(0, indent === 0 ? -1 : -"\n}".length)));
  isOpen = true;
}

/**
 * Prints a result that is a list of any length, an item a line, no faster than it is read.
 *
 * @param name The field that has the list.
 */
export async function printJsonList(
  name: string,
  items: Iterable<object> | AsyncIterable<object>,
): Promise<void> {
  printJson({});
  let block = `,\n  ${JSON.stringify(name)}: [`;
  let separator = "\n    ";
  try {
    for await (const item of items) {
      block += separator + printableJson(JSON.stringify(item));
      separator = ",\n    ";
      if (block.length < BLOCK_CHARS) continue;
      const isWritten = writeOut(process.stdout, block);
      block = "";
      if (!isWritten) await once(process.stdout, "drain");
    }
  } finally {
    writeOut(process.stdout, `${block}\n  ]`);
  }
}

/**
 * Ends the object, if there is one or an error.
 *
 * @param error What the command has failed with; undefined where it has not.
 */
export function endJson(error?: unknown): void {
  if (error !== undefined) {
    if (!isOpen) printJson({});
    const text = JSON.stringify(errorObject(error), null, indent);
    const field = indent === 0
      ? `,"error":${text}`
      : `,\n  "error": ${text.replaceAll("\n", "\n  ")}`;
    writeOut(process.stdout, printableJson(field));
  }
  if (isOpen) writeOut(process.stdout, indent === 0 ? "}\n" : "\n}\n");
  isOpen = false;
}

function errorObject(error: unknown): object {
  const isExpected = error instanceof UserError;
  return {
    kind: isExpected ? error.kind : "bug",
    code: isExpected ? error.exitCode : EXIT.bug,
    message: messageOf(error),
    place: (isExpected ? error.where : undefined) ?? null,
    hint: (isExpected ? error.hint : undefined) ?? null,
  };
}
