// SPDX-License-Identifier: MIT
/**
 * Kills a run through the jump to Fiwix, and goes on from its checkpoints: after `jump: fiwix`,
 * while the importer restores the distfiles, and with a damaged checkpoint after that. At the end
 * every restored file has to have its checksum.
 *
 * usage: bun scripts/acceptance/resume_fiwix.ts SEEDSTRAP TARGET FILES
 *
 * TARGET is a target for QEMU that has not run, and begins right before the jump; after the import
 * the step check_restored has sha256sum check FILES files of /external/distfiles. Ends with 1 if
 * anything is not as it should be.
 */

import { resolve } from "node:path";
import process from "node:process";
import { flip } from "./damage.ts";
import { type End, Lives } from "./lives.ts";

const [seedstrap, place, files] = process.argv.slice(2);
if (seedstrap === undefined || place === undefined || files === undefined) {
  process.stderr.write("usage: resume_fiwix.ts SEEDSTRAP TARGET FILES\n");
  process.exit(2);
}
const RESTORED = /^\/external\/distfiles\/\S+: OK\s*$/gm;
/** Whatever follows upon the checks. */
const AFTER = "kaem --file /steps/improve/reconfigure.sh";

const lives = new Lives(seedstrap, resolve(place));
const faults: string[] = [];
const began = performance.now();
const shows = (text: string) => lives.log().includes(text);

async function live(what: string, word: "run" | "resume", until: () => End | undefined) {
  const end = await lives.live(word, until);
  const seconds = Math.round((performance.now() - began) / 1000);
  process.stdout.write(`${what}: ${end ?? "ended by itself"} after ${seconds} s; ${lives.last}\n`);
  if (end !== undefined) return true;
  faults.push(lives.said.slice(-2000));
  return false;
}

const isWhole = await live("kill of QEMU after the jump", "run", () => {
  return lives.saved.some(({ reason }) => reason === "jump") ? "qemu" : undefined;
}) && await live("kill of seedstrap while Fiwix restores", "resume", () => {
  return /payload-import: .*: payload, layout/.test(lives.log()) ? "seedstrap" : undefined;
}) && await live("kill of QEMU at the checks", "resume", () => {
  return lives.log().search(RESTORED) >= 0 ? "qemu" : undefined;
});
if (isWhole) {
  const damaged = flip(lives.target);
  await live("to the end of the checks", "resume", () => shows(AFTER) ? "end" : undefined);
  const isRefused = lives.said.includes(`checkpoint ${damaged} cannot be used`);
  process.stdout.write(`checkpoint ${damaged}, damaged: ${isRefused ? "refused" : "taken"}\n`);
  if (!isRefused) faults.push("a damaged checkpoint was taken");
}
const log = lives.log();
const restored = new Set(log.match(RESTORED)?.map((line) => line.trim())).size;
process.stdout.write(`${restored} of ${files} files are restored and OK\n${lives.table}\n`);
if (restored !== Number(files)) faults.push("not every file is OK");
if (/: FAILED\s*$/m.test(log)) faults.push("a checksum is wrong");
for (const fault of faults) process.stdout.write(`${fault}\n`);
process.exit(faults.length > 0 ? 1 : 0);
