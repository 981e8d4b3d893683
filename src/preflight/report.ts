// SPDX-License-Identifier: MIT
/**
 * Parses the report that the preflight boot program sends to COM1.
 *
 *   line    = "preflight: " topic { " " key "=" value }
 *           | "preflight: verdict ok"
 *           | "preflight: verdict failed " reason { "," reason }
 *
 * Lines end with CR LF. Other lines, such as those of the firmware, are for people and are ignored.
 * Later versions may add topics and keys.
 *
 * Source: steps/preflight-1.0/README.md, "The report".
 *
 * @module
 */

/** One line of the report. */
export interface ReportLine {
  readonly topic: string;
  readonly values: Readonly<Record<string, string>>;
}

/** A parsed report. */
export interface PreflightReport {
  readonly lines: readonly ReportLine[];
  /** Number of lines that are not as the program prints them: the serial line lost something. */
  readonly damagedLines: number;
  /** Absent if the guest ended without one: it crashed, or was ended early. */
  readonly verdict?: { readonly ok: boolean; readonly reasons: readonly string[] };
}

/** Longest log that is read: a real report has some 4,000 bytes. */
export const MAX_LOG_BYTES = 16 * 1024 * 1024;

/** Characters at the end of a log that are looked through. */
const MAX_LOG = 4 * 1024 * 1024;

/**
 * Parses a serial log. If the guest was started twice, the last report counts.
 *
 * @param log Any text, which may be hostile.
 */
export function parseReport(log: string): PreflightReport {
  let lines: ReportLine[] = [];
  let verdict: PreflightReport["verdict"];
  let damaged = 0;
  for (const line of log.slice(-MAX_LOG).split(/[\r\n]+/)) {
    const match = /^preflight: ([a-z0-9]+)( .*)?$/.exec(line);
    if (match === null) continue;
    const topic = match[1]!;
    const rest = (match[2] ?? "").trim();
    if (topic === "verdict") {
      const failed = /^failed ([a-z0-9,-]+)$/.exec(rest);
      if (rest === "ok") verdict = { ok: true, reasons: [] };
      else if (failed !== null) verdict = { ok: false, reasons: failed[1]!.split(",") };
      else damaged++;
      continue;
    }
    if (topic === "start") {
      lines = [];
      verdict = undefined;
      damaged = 0;
    }
    if (isDamaged(topic, rest)) damaged++;
    lines.push({ topic, values: parseValues(rest) });
  }
  return { lines, damagedLines: damaged, ...(verdict && { verdict }) };
}

/** Topics whose lines all have a state. */
const WITH_STATE: ReadonlySet<string> = new Set(["boot", "ram", "memory", "payload", "disk"]);
/** Keys whose values are decimal numbers. */
const NUMBERS: ReadonlySet<string> = new Set(
  "sectors entries commands bytes retries free spans places passes faults layout files of".split(
    " ",
  ),
);

/** Reports whether a line of the program has lost something on its way. */
function isDamaged(topic: string, text: string): boolean {
  const words = text === "" ? [] : text.split(" ");
  const pairs = words.map((word) => /^([a-z0-9-]+)=([!-~]+)$/.exec(word));
  if (pairs.some((pair) => pair === null || (NUMBERS.has(pair[1]!) && !isNumber(pair[2]!)))) {
    return true;
  }
  const keys = new Set(pairs.map((pair) => pair![1]!));
  return keys.size < pairs.length || (WITH_STATE.has(topic) && !keys.has("state"));
}

/** Reports whether a value is a decimal number that can be shown. */
export function isNumber(value: string): boolean {
  return /^\d{1,15}$/.test(value);
}

function parseValues(text: string): Record<string, string> {
  const pairs = text.split(" ").map((word) => /^([a-z0-9-]+)=(\S+)$/.exec(word));
  return Object.fromEntries(pairs.flatMap((pair) => pair === null ? [] : [[pair[1]!, pair[2]!]]));
}

/** Explains what a reason of the verdict means for a bootstrap, and what to do. */
export function explainReason(reason: string): string {
  return REASONS.get(reason) ?? "unknown reason; see the lines above";
}

const REASONS: ReadonlyMap<string, string> = new Map(Object.entries({
  "stage2": "the boot program on the disk is damaged: write the image again",
  "boot-read": "the boot disk has a sector that cannot be read: use another one",
  "boot-drive": "the BIOS cannot read the boot disk by sector number: try another port or stick",
  "boot-truncated": "the boot disk ends before its image does: use a larger one",
  "srcfs": "the image on the boot disk is damaged: write it again",
  "crc-absent": "the image on the boot disk is damaged or incomplete: write it again",
  "crc": "the boot disk does not return what was written to it: write it again, or use another",
  "boot-tail": "builder-hex0 reads ahead past the end of this disk: use a larger one",
  "a20": "the BIOS does not enable address line 20, and builder-hex0 tries nothing else",
  "memory-map":
    "memory that builder-hex0 uses is not free RAM on this machine: it needs 4 GiB, without a hole below 3 GiB",
  "memory": "the RAM does not keep what is written to it: test it thoroughly, replace it",
  "payload-missing": "the BIOS finds no disk with a payload: check cable, port and image",
  "payload-truncated": "a payload disk ends before its payload does: use a larger one",
  "payload-malformed": "a payload disk is damaged: write the image again",
  "payload-read": "a payload disk has a sector that cannot be read: use another one",
}));
