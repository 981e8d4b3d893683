// SPDX-License-Identifier: MIT
/**
 * Preloaded by a process whose memory is measured: at its end it writes the most that it had, in
 * bytes, to the file that PEAK_FILE names. What wait4(2) says of a child counts its parent, too.
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";

process.on("exit", () => {
  const kib = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1];
  writeFileSync(process.env["PEAK_FILE"]!, String(1024 * Number(kib)));
});
