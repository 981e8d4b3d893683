// SPDX-License-Identifier: MIT
/**
 * Ways to write options that rootfs.py has and no parser of today knows: short ones of several
 * letters, and long ones that are cut short.
 *
 * @module
 */

import { UserError } from "../errors.ts";

/** Longest first, so that none hides another. */
const LONG_FORMS: readonly (readonly [short: string, long: string])[] = [
  ["-bw", "--bwrap"],
  ["-qc", "--qemu-cmd"],
  ["-qk", "--kernel"],
  ["-qr", "--qemu-ram"],
  ["-qs", "--target-size"],
];

/**
 * Rewrites `-qr 4096`, `-qr4096` and `-qr=4096` to `--qemu-ram 4096`, and the like; and `-t=dir`,
 * whose value is `dir` to rootfs.py, to `-tdir`.
 *
 * @param args Arguments; what stands behind `--` is left alone.
 */
export function expandShortOptions(args: readonly string[]): string[] {
  const end = args.indexOf("--");
  const head = end < 0 ? args : args.slice(0, end);
  const expanded = head.flatMap((arg) => {
    const form = LONG_FORMS.find(([short]) => arg.startsWith(short));
    if (form === undefined) {
      if (/^-[a-z]=$/.test(arg)) return [arg.slice(0, 2), ""];
      return arg.replace(/^(-[a-z])=/, "$1");
    }
    const rest = arg.slice(form[0].length);
    if (rest === "") return form[1];
    return `${form[1]}=${rest.startsWith("=") ? rest.slice(1) : rest}`;
  });
  return end < 0 ? expanded : [...expanded, ...args.slice(end)];
}

/** Long options of rootfs.py, which takes any beginning of one that no other has. */
const ROOTFS_OPTIONS: readonly string[] = [
  "arch bare-metal build-kernels bwrap chroot configurator cores early-preseed external-sources",
  "force-timestamps interactive internal-ci kernel mirrors no-create-config qemu qemu-cmd qemu-ram",
  "repo swap target target-size tmpfs tmpfs-size update-checksums",
].flatMap((line) => line.split(" "));

/**
 * Rewrites beginnings of rootfs.py's long options to the whole, as argparse does.
 *
 * @param args Arguments; what stands behind `--` is left alone.
 * @param known Every long option there is: none of them is taken for the beginning of another.
 * @throws {UserError} "usage" for the beginning of several.
 */
export function expandAbbreviations(args: readonly string[], known: ReadonlySet<string>): string[] {
  const end = args.indexOf("--");
  const head = end < 0 ? args : args.slice(0, end);
  const expanded = head.map((arg) => {
    const match = /^--([a-z][a-z-]*)(=.*)?$/s.exec(arg);
    if (match === null || known.has(`--${match[1]}`)) return arg;
    const meant = ROOTFS_OPTIONS.filter((name) => name.startsWith(match[1]!));
    if (meant.length === 0) return arg;
    if (meant.length === 1) return `--${meant[0]}${match[2] ?? ""}`;
    const names = meant.map((name) => `--${name}`);
    throw new UserError("usage", `Cannot tell what --${match[1]} is`, {
      hint: `It could be ${names.slice(0, -1).join(", ")} or ${names.at(-1)}`,
    });
  });
  return end < 0 ? expanded : [...expanded, ...args.slice(end)];
}
