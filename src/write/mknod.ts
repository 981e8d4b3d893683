// SPDX-License-Identifier: MIT
/**
 * Makes device files with mknod(1), as neither runtime has a call for it.
 *
 * @module
 */

import { resolve } from "node:path";
import process from "node:process";
import type { SpecialFile } from "../archive/entries.ts";
import { throwIfInterrupted } from "../errors.ts";
import { findProgram, runProcess } from "../launch/process.ts";

/** The letters of mknod(1) and debugfs for the types. */
export const DEVICE_LETTERS = { char: "c", block: "b", fifo: "p" } as const;

/**
 * Makes a device or a fifo.
 *
 * @param mode Permissions; only the lowest 9 bits are used.
 * @returns The reason if it could not be made, else undefined. Root in a container may be refused.
 * @throws {UserError} "interrupt" when the signal is raised.
 */
export async function makeDevice(
  place: string,
  { type, major, minor }: Extract<SpecialFile, { kind: "device" }>,
  mode: number,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (process.geteuid?.() !== 0) return "only root can make devices";
  if (await findProgram("mknod") === undefined) return "mknod is missing";
  const numbers = type === "fifo" ? [] : [`${major}`, `${minor}`];
  const permissions = `--mode=${(mode & 0o777).toString(8)}`;
  let said = "";
  const decoder = new TextDecoder();
  const { code } = await runProcess({
    argv: ["mknod", permissions, resolve(place), DEVICE_LETTERS[type], ...numbers],
    stdin: "ignore",
    onStdout: () => {},
    onStderr: (chunk) => said += decoder.decode(chunk, { stream: true }),
    ...(signal && { signal }),
  });
  throwIfInterrupted(signal);
  return code === 0 ? undefined : said.trim().split("\n").at(-1) || `mknod exited with ${code}`;
}
