// SPDX-License-Identifier: MIT
/**
 * Device files, made by mknod(1): neither runtime has a call for it.
 *
 * @module
 */

import { resolve } from "node:path";
import process from "node:process";
import type { SpecialFile } from "../archive/entries.ts";
import { throwIfInterrupted } from "../errors.ts";
import { findProgram, runProcess } from "../launch/process.ts";

/** What mknod(1) and debugfs call the types. */
export const DEVICE_LETTERS = { char: "c", block: "b", fifo: "p" } as const;

/**
 * Makes a device or a fifo.
 *
 * @param mode The lowest 9 bits.
 * @returns Why that was not possible, or undefined. Root in a container may well be refused.
 * @throws {UserError} "interrupt" when the signal is raised.
 */
export async function makeDevice(
  place: string,
  { type, major, minor }: Extract<SpecialFile, { kind: "device" }>,
  mode: number,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (process.geteuid?.() !== 0) return "only root makes devices";
  if (await findProgram("mknod") === undefined) return "there is no mknod here";
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
  return code === 0 ? undefined : said.trim().split("\n").at(-1) || `mknod ended with ${code}`;
}
