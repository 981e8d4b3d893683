// SPDX-License-Identifier: MIT
/**
 * Likely causes of failures, as a table: what is seen of a failed run, why that happens, and what to
 * try. A cause is named only where its line, or the fact that it tells of, is seen.
 *
 * What is looked at is what {@link ./outcome.ts} keeps: some lines before the first that says that
 * something failed and some after it, or the last ones; and what the run has failed with.
 *
 * @module
 */

import type { RunFailure } from "./failure.ts";

/** The likely cause of a failure. */
export interface Cause {
  /** Its name in the table. */
  readonly name: string;
  /** One or two sentences. */
  readonly text: string;
  /** What to try, the best first: sentences, with commands in them. */
  readonly tries: readonly string[];
}

/** What is seen of a failed run. */
export interface Symptoms {
  readonly failure?: RunFailure | undefined;
  /** What it failed with, as in an outcome. */
  readonly why: string;
  /** As in an outcome: `NAME pass N`, "stage0-posix", or undefined before that. */
  readonly lastStep?: string | undefined;
  readonly lines: readonly string[];
  /** Memory of the machine in MiB, where that is known. */
  readonly memoryMib?: number | undefined;
  /** Titles of the limits that the plan broke. */
  readonly brokenLimits?: readonly string[] | undefined;
  /** Whether it is a directory that was run, by chroot or bwrap; a machine unless set. */
  readonly isDirectory?: boolean | undefined;
}

/** Names the target in what to try, which says TARGET. */
export function withTarget(cause: Cause, name: string): Cause {
  const filled = (text: string) => text.replaceAll(/\bTARGET\b/g, () => name);
  return { ...cause, tries: cause.tries.map(filled) };
}

/**
 * An entry of the table. `{1}` in its texts is what the first brackets of `line` match; in what to
 * try that may have no character that a shell obeys, as a guest prints it and a user pastes it.
 */
interface Entry extends Cause {
  /** The failures that it explains; any unless set. */
  readonly failures?: readonly RunFailure[];
  /** A line that shows it. */
  readonly line?: RegExp;
  /** Another line that has to be there as well. */
  readonly also?: RegExp;
  /** A fact that shows it; a text is `{1}`. */
  readonly fact?: (symptoms: Symptoms) => boolean | string;
}

/** builder-hex0 and live-bootstrap's first kernels use the memory up to here. */
const LEAST_MEMORY_MIB = 4096;

const CRASHES: readonly RunFailure[] = ["reset", "ended-early", "stall", "panic", "died"];
const MISSING_DISTFILE = /^(\S+) does not exist!$/;
/** What stage0-posix's tools say of a distfile that they cannot open. */
const MISSING_EARLY =
  /^(?:unable to open file: |Unable to open )(\S*\/distfiles\/\S+)$|^(\S*\/distfiles\/\S+): No such file or directory$/;

/** The last that kexec-fiwix prints. */
const FIWIX_JUMP = /^kexec-fiwix: jumping to trampoline\.\.\.$/;

/** The table; where several entries fit, the first counts. */
export const CAUSES: readonly Entry[] = [
  // What is around the guest.
  {
    name: "kvm-rights",
    line: /Could not access KVM kernel module: Permission denied/,
    text: "This user may not use /dev/kvm.",
    tries: [
      "sudo usermod -aG kvm $USER, and log in again",
      "Leave --accel at auto, or use --accel tcg, which is much slower",
    ],
  },
  {
    name: "kvm-absent",
    line:
      /Could not access KVM kernel module: No such (?:file|device)|failed to initialize kvm: No such/i,
    text:
      "This host has no KVM: its module is not loaded, or virtualization is off in the firmware.",
    tries: [
      "sudo modprobe kvm_intel, or kvm_amd",
      "Leave --accel at auto, or use --accel tcg, which is much slower",
    ],
  },
  {
    name: "kvm-cannot",
    failures: ["kvm"],
    line:
      /KVM internal error|kvm run failed|KVM: entry failed|KVM: unknown exit|printed nothing for \d+ s/,
    text:
      "The KVM of this host cannot run builder-hex0 or the jump to Fiwix: it fails to emulate " +
      "some code in real mode. Nested virtualization is where that is seen most.",
    tries: ["seedstrap run TARGET --accel tcg, which is much slower", "Run it on another host"],
  },
  {
    name: "host-memory",
    line: /cannot set up guest memory|Cannot allocate memory.*pc\.ram|unable to map guest RAM/i,
    text: "This host has not enough free memory for the guest.",
    tries: [
      "Close other programs, or add swap space: free -m shows what there is",
      "Not less than 4096 MiB with -qr: builder-hex0 needs that",
    ],
  },
  {
    name: "killed",
    failures: ["died"],
    line: /killed by SIGKILL|exit code 137\b/,
    text:
      "It was killed by SIGKILL: by somebody, or by the kernel of this host, which does that to " +
      "the largest process where memory runs out.",
    tries: [
      "sudo dmesg | grep -iE 'out of memory|oom-kill' says whether it was the kernel",
      "Free memory, or add swap space, before it is run again",
    ],
  },
  {
    name: "host-full",
    failures: ["host-disk-full"],
    fact: () => true,
    text: "The file system of the target is full. A guest fills up to 16 GiB (-qs), and a tmpfs " +
      "counts as memory.",
    tries: [
      "df -h TARGET, free some space, then build and run again",
      "Another --target, or a larger --tmpfs-size",
    ],
  },
  {
    name: "disk-in-use",
    line: /Failed to get (?:shared )?"\w+" lock|Is another process using the image \[/,
    text: "Another QEMU uses this disk image.",
    tries: ["pgrep -a qemu, and end the other one", "Build another --target"],
  },
  {
    name: "no-display",
    line:
      /(?:gtk|sdl) initialization failed|Could not initialize SDL|Display '(?:gtk|sdl)' is not available/i,
    text: "QEMU wants to open a window, and there is no display.",
    tries: ["Run it without --interactive", "seedstrap run TARGET -- -display curses"],
  },
  {
    name: "mirror-port",
    line: /^Cannot listen on 127\.0\.0\.1:(\d+): /,
    text: "Another process has port {1} of 127.0.0.1, from which the guest would download.",
    tries: [
      "ss -ltnp 'sport = :{1}' says by whom",
      "Build again: another port is taken, and it becomes part of the image",
    ],
  },
  {
    name: "no-namespaces",
    line:
      /^bwrap: (?:No permissions to create new namespace|setting up uid map: Permission denied|Creating new namespace failed)/,
    text: "This system lets no ordinary user make namespaces, which bwrap needs.",
    tries: [
      "sudo sysctl kernel.unprivileged_userns_clone=1, on Debian",
      "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, on Ubuntu",
      "--chroot, as root",
    ],
  },
  {
    name: "wrong-architecture",
    line: /Exec format error/,
    text: "This kernel does not run programs for x86 of 32 bits.",
    tries: ["--qemu runs it on a machine of its own"],
  },
  {
    name: "noexec",
    failures: ["not-started"],
    line: /^(?:chroot|env|bwrap): .*: Permission denied$/,
    text:
      "The first program may not be executed: the file system of the target is mounted noexec, or " +
      "a directory above it is closed to this user.",
    tries: ["findmnt -T TARGET shows the options", "Another --target"],
  },

  // Distfiles and the network.
  {
    name: "no-tls",
    line: /^curl: \(1\) .*\bhttps\b/,
    also: MISSING_DISTFILE,
    text:
      "The machine's curl has no TLS until it has built another one, and no source of {also} was " +
      "without https.",
    tries: [
      "seedstrap plan --all lists what the machine downloads, and how",
      "-m with a mirror over http://, or --external-sources, and build again",
    ],
  },
  {
    name: "clock",
    line: /^curl: \(60\) .*(?:not yet valid|has expired)/,
    also: MISSING_DISTFILE,
    text: "The clock of the machine is wrong, so that every certificate seems out of date.",
    tries: [
      "Set the clock of the machine, or of this host: QEMU takes it from there",
      "-m with a mirror over http://, and build again",
    ],
  },
  {
    name: "no-name-server",
    line: /^curl: \(6\) Could not resolve host: (\w[\w.-]*)/,
    also: MISSING_DISTFILE,
    text: "The machine could not resolve {1}: it has no network or no name server.",
    tries: [
      "--external-sources --air-gapped, which carries every distfile, and build again",
      "Look whether this host resolves {1}: getent hosts {1}",
    ],
  },
  {
    name: "mirror-not-served",
    line: /^curl: \(7\) Failed to connect to (?:10\.0\.2\.2|127\.0\.0\.1) port (\d+)/,
    also: MISSING_DISTFILE,
    text:
      "The mirror that seedstrap serves on port {1} did not answer: a run serves it, and QEMU that " +
      "is started by hand has none.",
    tries: ["Start it by the command that seedstrap build ends with, with its --serve"],
  },
  {
    name: "no-connection",
    line: /^curl: \((?:7|28|35|52|56)\) (.*)/,
    also: MISSING_DISTFILE,
    text: "A download of {also} failed: {1}.",
    tries: [
      "--external-sources --air-gapped, which carries every distfile, and build again",
      "-m with a mirror that is nearer, and build again",
    ],
  },
  {
    name: "not-on-mirror",
    line: /^curl: \(22\) The requested URL returned error: (\d+)/,
    also: MISSING_DISTFILE,
    text: "{also} was not where the machine looked for it: the server answered {1}.",
    tries: [
      "seedstrap plan -m MIRROR says what the mirrors do not have",
      "--external-sources, which fetches and checks every distfile here, and build again",
    ],
  },
  {
    name: "no-network",
    line: /^Timeout reached for internet to become accessible$/,
    text: "The machine waited two minutes for a network, and found none.",
    tries: [
      "--external-sources --air-gapped, where everything is on board, and build again",
      "Look whether this host reaches http://example.com, which is what the machine tries",
    ],
  },
  {
    name: "no-payload",
    line: /^payload-import: .*\b(?:no device in it has a payload|has no payload)/,
    text: "The payload was found on no disk: its disk is not attached, or has another image on it.",
    tries: [
      "Attach the disk with payload.img; seedstrap image verify /dev/sdX says whether it is that",
      "seedstrap preflight --bare-metal TARGET makes a stick that looks for it",
    ],
  },
  {
    name: "damaged-payload",
    line:
      /^payload-import: .*: (?:the payload is cut off here|cannot read|the file does not have its SHA-256)/,
    text: "The payload disk does not hold what was written to it, or cannot be read.",
    tries: [
      "seedstrap image verify --record TARGET /dev/sdX, and write it again with seedstrap write",
    ],
  },
  {
    name: "two-payloads",
    line: /^payload-import: (\S+ and \S+) hold different payloads/,
    text: "Two disks, {1}, hold payloads that differ: one is of another build.",
    tries: ["Detach the old one, or write zeros to its first MiB"],
  },
  {
    name: "missing-distfile",
    line: MISSING_DISTFILE,
    text: "{1} was not on the machine: it was neither carried nor downloaded.",
    tries: [
      "seedstrap plan --all says where it should have come from",
      "--external-sources, which carries every distfile, and build again",
    ],
  },
  {
    name: "missing-distfile-early",
    line: MISSING_EARLY,
    text:
      "{1} was not on the machine. A step before the jump to Fiwix needs it in the boot image; an " +
      "empty file is lost there, too.",
    tries: [
      "seedstrap image ls TARGET/init.img | grep distfiles",
      "seedstrap plan says where each distfile goes; build again",
    ],
  },

  // Checksums.
  {
    name: "known-unreproducible",
    failures: ["checksum"],
    line: /^(?:.*\/)?((?:gettext-0\.26|libtool-2\.2\.4)_\d+\.tar\.bz2): FAILED$/,
    text: "{1} is a package that is not always the same: live-bootstrap's own users report that " +
      "(issue 576, pull request 537).",
    tries: [
      "Run it again; a newer checkout may have it mended",
      "--update-checksums accepts what comes out, and build again",
    ],
  },
  {
    name: "different-package",
    failures: ["checksum"],
    line: /^(?:.*\/)?(\S+_\d+\.tar\.bz2): FAILED$/,
    text:
      "The package {1} is not, bit for bit, what SHA256SUMS.pkgs says. The step was changed, or it " +
      "is not reproducible on such a machine.",
    tries: [
      "git diff steps/ in the checkout: after a change, build with --update-checksums",
      "seedstrap preflight --qemu TARGET, which tests the memory, and run it again",
      "seedstrap harvest --compare shows what differs between two runs",
    ],
  },
  {
    name: "wrong-distfile",
    failures: ["checksum"],
    line: /^(\S*?\.(?:tar|tgz|tar\.\w+|zip|gz|patch|txt)): FAILED$/,
    text:
      "{1} is not what its sources file says: the mirror has another file of that name, or it was " +
      "damaged on the way.",
    tries: [
      "--external-sources, which checks every distfile before it is carried, and build again",
      "seedstrap image verify TARGET, and seedstrap preflight, which tests the memory",
    ],
  },
  {
    name: "different-program",
    failures: ["checksum"],
    line: /^(\S+): FAILED$/,
    text:
      "{1}, as it was built, is not what the step expects. Its sources were changed, or the machine " +
      "computes wrongly.",
    tries: [
      "git diff in the checkout: after a change, build with --update-checksums",
      "seedstrap preflight --qemu TARGET, which tests the memory, and run it again",
    ],
  },
  {
    name: "no-checksum",
    line: /^(\S+): no checksum stored!$/,
    text: "SHA256SUMS.pkgs has nothing on the package of {1}: the step is new.",
    tries: ["--update-checksums, and build again"],
  },

  // Disks of the machine.
  {
    name: "refused-disk",
    line: /^guard_disk: REFUSED: the system is not installed to (\S+): /,
    text:
      "The disk to install to, {1}, is not the one that was meant, and nothing was written to it.",
    tries: [
      "--disk NAME, the one that Linux gives to the right disk, and build again",
      "Detach the other disks, or clear this one: its first MiB has to be zeros",
      "--overwrite-disk, where what is on it may be lost",
    ],
  },
  {
    name: "refused-one-disk",
    line: /^one_disk: REFUSED: the system is not installed to (\S+): /,
    text: "The partition of the system could not be made after the payload on {1}.",
    tries: [
      "A larger disk, or --target-size in QEMU",
      "Build without --one-disk: the payload is on a disk of its own then",
    ],
  },
  {
    name: "no-disk",
    line: /^Timeout reached for disk to become accessible$/,
    text:
      "The disk to install to, DISK in bootstrap.cfg, is not there: its name is another one, or " +
      "this kernel has no driver for it.",
    tries: ["--disk NAME, and build again; fdisk -l on a Linux on that machine lists the names"],
  },
  {
    name: "no-root",
    line: /Kernel panic - not syncing: VFS: Unable to mount root fs/,
    text:
      "The kernel did not find its root: it has no driver for the disk or for ext3, or the disk has " +
      "another name than sda.",
    tries: [
      "With --kernel: a kernel with ATA_PIIX and EXT4_FS built in, not as modules",
    ],
  },
  {
    name: "disk-error",
    line: /(?:blk_update_request|end_request|print_req_error): I\/O error, dev (\w+)/,
    text: "The disk {1} of the machine could not be read or written.",
    tries: ["Another disk, cable or stick; smartctl -a says how it is"],
  },
  {
    name: "disk-full",
    line: /\bNo space left on device\b/,
    text: "A file system of the machine is full: its disk is too small.",
    tries: ["-qs 32G, or a larger drive, and build again", "seedstrap plan says what it needs"],
  },
  {
    name: "ramdisk-full",
    line: /^(ext4_(?:fwrite|open|mkfs|dir_mk|mknod|fclose) error: -?\d+)$/,
    text:
      "What goes into the ramdisk of Fiwix does not fit it: too many distfiles are in the boot " +
      "image, or too large ones.",
    tries: ["seedstrap plan --all shows the limits", "--payload always, and build again"],
  },

  // Memory and processors.
  {
    name: "little-memory",
    failures: [...CRASHES, "step"],
    fact: ({ memoryMib, lastStep = "" }) =>
      memoryMib !== undefined && memoryMib < LEAST_MEMORY_MIB &&
      / pass |^$|stage0/.test(lastStep) &&
      String(memoryMib),
    text: "The machine has {1} MiB of memory; builder-hex0 and Fiwix need 4096 MiB.",
    tries: ["-qr 4096, and build again"],
  },
  {
    name: "broken-limits",
    failures: [...CRASHES, "step"],
    fact: ({ brokenLimits = [] }) => brokenLimits.length > 0 && brokenLimits.join(", "),
    text:
      "The build went on although it breaks limits of the machine: {1}. Too many files overload " +
      "builder-hex0, and what is too large is lost at the jump to Fiwix.",
    tries: [
      "seedstrap plan --all shows them",
      "--payload always, without --force, and build again",
    ],
  },
  {
    name: "machine-memory",
    line: /Out of memory: Kill(?:ed)? process|oom-kill:|virtual memory exhausted/i,
    text: "The machine has run out of memory.",
    tries: ["-qr with more, --swap 4G, or fewer --cores, and build again"],
  },
  {
    name: "no-fork",
    line:
      /fork\(\) FAILED|fork: (?:retry: )?(?:Cannot allocate memory|Resource temporarily unavailable)/,
    text: "No process could be started: memory is short or, in a directory, the user's limit of " +
      "processes is reached.",
    tries: ["ulimit -u, and systemctl status for a limit of the session", "Fewer --cores"],
  },
  {
    name: "fiwix-jump",
    failures: CRASHES,
    fact: ({ lines }) => lines.slice(-3).some((line) => FIWIX_JUMP.test(line)),
    text:
      "The jump to Fiwix failed: its kernel has printed nothing. Some KVM hosts cannot do that jump.",
    tries: [
      "seedstrap run TARGET --accel tcg",
      "seedstrap plan --all shows the limits of the jump",
    ],
  },
  {
    name: "illegal-instruction",
    line: /\b(?:Illegal instruction|invalid opcode)\b|exitcode=0x00000004\b/,
    text: "A program used an instruction that this processor does not have.",
    tries: ["seedstrap run TARGET -- -cpu max", "--accel tcg"],
  },

  // The checkout.
  {
    name: "missing-file",
    line:
      /^(?:The file: (\S+) is not a valid input file name|Unable to open for reading file: (\S+))$/,
    text: "{1} is not in the image: a submodule is not cloned, or the checkout is not whole.",
    tries: ["git submodule update --init --recursive in the checkout, and build again"],
  },
  {
    name: "configurator",
    line: /^The configuration option .* is unset$|^\(\d\) \[MENU\] /,
    text: "The configurator waits for answers, and nobody can give them.",
    tries: [
      "Start it at a terminal",
      "Build it without --configurator and --no-create-config, with the options themselves",
    ],
  },
  {
    name: "damaged-archive",
    line:
      /^(?:bad header|incomplete gzip header|NOT DEFLATE COMPRESSION|Checksum failure)$|not in gzip format|unexpected end of file|Unexpected EOF in archive/,
    text:
      "An archive is not what its name says, or is damaged: a mirror's page in place of the file, or " +
      "memory or a disk that forgets.",
    tries: [
      "seedstrap image verify TARGET",
      "seedstrap preflight --qemu TARGET, which tests memory and disks",
      "Build again: every distfile is checked while it is written",
    ],
  },
  {
    name: "patch-fails",
    line: /^(?:\d+ out of \d+ hunks? (?:FAILED|failed)|Hunk #\d+ FAILED at)/,
    text: "A patch of the step does not fit its sources.",
    tries: ["git diff steps/ in the checkout: sources and patches belong together"],
  },
  {
    name: "missing-step",
    line: /^Cannot cd into (\S+?)!$/,
    text: "The step {1}, or what its archive should unpack to, is not there.",
    tries: ["seedstrap plan names what the manifest wants and the checkout does not have"],
  },
];

/** What is of no use where a directory is run. */
const FOR_MACHINES = /\bseedstrap (?:image|preflight) |--accel\b|^-q[rs]\b/;

/** The likely cause of a failure; undefined where none is seen. */
export function causeOf(symptoms: Symptoms): Cause | undefined {
  const { failure, why, lines } = symptoms;
  const seen = [why, ...lines];
  for (const { failures, line, also, fact, name, text, tries } of CAUSES) {
    if (failures !== undefined && (failure === undefined || !failures.includes(failure))) continue;
    const match = line === undefined ? undefined : lastMatch(line, seen);
    const other = also === undefined ? undefined : lastMatch(also, seen);
    if ((line && !match) || (also && !other)) continue;
    const known = fact?.(symptoms) ?? true;
    if (known === false) continue;
    const first = match?.slice(1).find((group) => group !== undefined) ??
      (typeof known === "string" ? known : "");
    const filled = (given: string) =>
      given.replaceAll(/\{(1|also)\}/g, (_, which) => which === "1" ? first : other?.[1] ?? "");
    const useful = tries.filter((text) => !symptoms.isDirectory || !FOR_MACHINES.test(text));
    return { name, text: filled(text), tries: useful.map(filled) };
  }
  return undefined;
}

function lastMatch(pattern: RegExp, lines: readonly string[]): RegExpExecArray | undefined {
  for (let at = lines.length - 1; at >= 0; at--) {
    const match = pattern.exec(lines[at]!);
    if (match !== null) return match;
  }
  return undefined;
}
