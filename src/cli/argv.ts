// SPDX-License-Identifier: MIT
/**
 * Short options of several letters, which rootfs.py has and no parser of today knows.
 *
 * @module
 */

/** Longest first, so that none hides another. */
const LONG_FORMS: readonly (readonly [short: string, long: string])[] = [
  ["-bw", "--bwrap"],
  ["-qc", "--qemu-cmd"],
  ["-qk", "--kernel"],
  ["-qr", "--qemu-ram"],
  ["-qs", "--target-size"],
];

/**
 * Rewrites `-qr 4096`, `-qr4096` and `-qr=4096` to `--qemu-ram 4096`, and the like.
 *
 * @param args Arguments; what stands behind `--` is left alone.
 */
export function expandShortOptions(args: readonly string[]): string[] {
  const end = args.indexOf("--");
  const head = end < 0 ? args : args.slice(0, end);
  const expanded = head.map((arg) => {
    const form = LONG_FORMS.find(([short]) => arg.startsWith(short));
    if (form === undefined) return arg;
    const rest = arg.slice(form[0].length);
    if (rest === "") return form[1];
    return `${form[1]}=${rest.startsWith("=") ? rest.slice(1) : rest}`;
  });
  return end < 0 ? expanded : [...expanded, ...args.slice(end)];
}
