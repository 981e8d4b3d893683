// SPDX-License-Identifier: MIT
/**
 * Every kind of target that rootfs.py prepares, as arguments for both programs.
 *
 * @module
 */

/** The files that the arguments of a case name. */
export interface Inputs {
  /** Directory of prebuilt packages. */
  readonly repo: string;
  /** One without directories, as a payload has none. */
  readonly flatRepo: string;
  /** A file given as kernel, which is never started. */
  readonly kernel: string;
  /** Archives of a root, one for each compression. */
  readonly preseeds: readonly string[];
  /**
   * An archive without `external/`. rootfs.py is meant to drop that directory of an archive, but
   * with a second disk it looks for it there and leaves it in the boot image; seedstrap drops it.
   */
  readonly plainRoot: string;
  /** Another name of the program that stands in for QEMU. */
  readonly qemu: string;
}

/** Runs of both programs, each in one target. */
export interface Case {
  /** Arguments of each run; later runs continue in the same target. */
  readonly runs: readonly (readonly string[])[];
  /** Whether both programs have to refuse it. */
  readonly isRefused?: boolean;
}

/**
 * Returns all cases.
 *
 * @param inputs Paths without spaces, as the strings here are split at them.
 */
export function allCases(inputs: Inputs): Case[] {
  const { repo, flatRepo, kernel } = inputs;
  const single = [
    "--chroot",
    "--chroot --external-sources",
    `--chroot --repo ${repo}`,
    "-bw",
    "--bwrap --external-sources",
    `--bwrap --external-sources -r ${repo}`,
    "--qemu",
    "--qemu --external-sources",
    `--qemu --external-sources --repo ${flatRepo}`,
    `--qemu --repo ${repo}`,
    `--qemu --kernel ${kernel}`,
    `--qemu --kernel ${kernel} --external-sources --repo ${repo}`,
    "--qemu -i",
    `--qemu -i -qk ${kernel}`,
    "--bare-metal",
    "--bare-metal --external-sources",
    `--bare-metal --repo ${repo}`,
    `--bare-metal --kernel ${kernel}`,
    ...preseedCases(inputs),
    ...optionCases(inputs),
  ];
  return [
    ...single.map((line) => ({ runs: [words(line)] })),
    ...passCases(),
    ...REFUSED.map((line) => ({ runs: [words(line)], isRefused: true })),
  ];
}

/** Options that exclude each other, or have no meaning. */
const REFUSED: readonly string[] = [
  "--external-sources",
  "--chroot --qemu",
  "--bwrap --tmpfs",
  "--qem",
  "--chroot --inter",
  "--chroot --cores 0",
  "--qemu -qs 0",
  "--qemu -qs 12x",
  "--bare-metal -s 4P",
];

function preseedCases({ preseeds, plainRoot, kernel, repo }: Inputs): string[] {
  const modes = ["--chroot", "--qemu", `--qemu --kernel ${kernel}`];
  const [first] = preseeds;
  return [
    ...modes.flatMap((mode) => preseeds.map((path) => `${mode} --early-preseed ${path}`)),
    `--bwrap --early-preseed ${first}`,
    `--qemu --external-sources --early-preseed ${plainRoot}`,
    `--bare-metal --repo ${repo} --early-preseed ${plainRoot}`,
  ];
}

function optionCases({ qemu, kernel }: Inputs): string[] {
  return [
    "-c -a amd64",
    "-c --cores 3",
    "-q --cores 3",
    "-c --force-timestamps",
    "-q --update-checksums",
    "-c --build-kernels",
    "-c --no-create-config",
    "-q --no-create-config",
    "-q --configurator",
    "-c --configurator -i",
    "-b -i",
    "-q -s 4G",
    "-q -s 512",
    "-b --swap=512M",
    "-c -s 4G",
    "-q -qr 6144",
    "-q -qr=6144",
    "-q -qr6144",
    "-q -qs 4G",
    "-q -qs=4096",
    `-q -qs 4G -qk ${kernel}`,
    `-q -qc ${qemu}`,
    "-qi",
    "-ci --cores=3",
    "--qemu --ext --cor 3 --conf",
    "--chr --forc --upd --build-k --no-c",
    "--bare-m --interac --sw 1g",
    `--qemu --kern ${kernel} --target-s 3g --qemu-r 1024`,
  ];
}

/** The passes of live-bootstrap's own CI: the first one prepares the target of the others. */
function passCases(): Case[] {
  const pass = (name: string, others = " --external-sources") =>
    words(`--bwrap --internal-ci ${name}${others}`);
  return [
    { runs: [pass("pass1", "")] },
    { runs: [pass("pass1"), pass("pass2")] },
    { runs: [pass("pass1"), pass("pass2"), pass("pass3")] },
    { runs: [pass("pass1", ""), pass("pass2", "")] },
  ];
}

function words(line: string): string[] {
  return line.split(" ");
}
