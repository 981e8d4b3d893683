// SPDX-License-Identifier: MIT
/**
 * The log of a guest: the bytes of its serial console and the standard error of QEMU.
 *
 * @module
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { messageOf, UserError } from "../errors.ts";

const { O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_TRUNC, O_WRONLY } = constants;

/** An open log; close it. */
export interface GuestLog {
  /** Appends bytes as they are. Never throws. */
  write(bytes: Uint8Array): void;
  /** Appends a line of our own, apart from what the guest wrote. Never throws. */
  separator(text: string): void;
  close(): void;
}

/**
 * Opens a log and truncates it.
 *
 * If the log cannot be opened, the run fails before the guest starts. If it cannot be written later
 * (a full disk), that is reported once and logging stops: a guest that has built for hours is worth
 * more than its log. Writes are synchronous, so all output seen so far is in the file.
 *
 * @param path The file; its directory must exist.
 * @param onProblem Takes the one message about a failed write.
 * @param onWritten Told the size of the log in bytes, when it has become longer.
 * @throws {UserError} "target", if it cannot be opened.
 */
export function openLog(
  path: string,
  onProblem: (text: string) => void,
  onWritten: (sizeBytes: number) => void = () => {},
): GuestLog {
  let sizeBytes = 0;
  let fd: number | undefined;
  try {
    fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK, 0o666);
  } catch (cause) {
    throw new UserError("target", `Cannot open the log "${path}": ${messageOf(cause)}`, {
      where: path,
      hint: "Check its directory and the permissions",
      cause,
    });
  }
  let atLineStart = true;
  const close = () => {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
  };
  const write = (bytes: Uint8Array) => {
    if (fd === undefined || bytes.length === 0) return;
    try {
      for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
      atLineStart = bytes.at(-1) === 0x0a;
      sizeBytes += bytes.length;
    } catch (error) {
      try {
        close();
      } catch {
        fd = undefined; // the first failure is reported below; the descriptor is closed either way
      }
      onProblem(`The log "${path}" ends here, the guest continues: ${messageOf(error)}`);
      return;
    }
    onWritten(sizeBytes);
  };
  return {
    write,
    separator: (text) =>
      write(new TextEncoder().encode(`${atLineStart ? "" : "\n"}--- seedstrap: ${text} ---\n`)),
    close,
  };
}
