// SPDX-License-Identifier: MIT
/**
 * Consoles of runs, in the shape of real ones: of a machine that goes through builder-hex0, Fiwix
 * and Linux, and of a chroot. Names and programs are made up.
 *
 * @module
 */

import type { RunPlan } from "../../src/console/position.ts";

/** Lines as a serial line has them. */
function serial(...lines: string[]): string {
  return lines.map((line) => `${line}\r\n`).join("");
}

const BIOS = `\x1bc\x1b[?7l\x1b[2J\x1b[0m${
  serial("SeaBIOS (version 1.0)", "", "", "Booting from Hard Disk...")
}`;

/** The screen of the BIOS ends a line after 80 columns. */
function onScreen(...lines: string[]): string {
  return serial(...lines.flatMap((line) => line.match(/.{1,80}/g) ?? [""]));
}

/** Entries of the srcfs: a directory, files, and one with a long path. */
const LONG_PATH = `./steps/beta-2.0/patches/${"long-".repeat(12)}.patch`;
export const LOADED: readonly (readonly [path: string, sizeBytes: number])[] = [
  [".", 0],
  ["./steps", 0],
  ["./steps/manifest", 300],
  [LONG_PATH, 70],
  ["/bootstrap-seeds", 0],
  ["./src", 5],
];

const LOAD = onScreen(...LOADED.flatMap(([path]) => ["src", path])) +
  onScreen("hex0", "/x86/hex0_x86.hex0 /bootstrap-seeds/POSIX/x86/hex0-seed");

const STAGE0 = onScreen(
  " +> ./bootstrap-seeds/POSIX/x86/kaem-optional-seed ./x86/mescc-tools-seed-kaem.kaem ",
  " +> ./x86/artifact/hex0 ./x86/hex1_x86.hex0 ./x86/artifact/hex1 ",
  " +> ./x86/bin/sha256sum -c x86.answers ",
  "./x86/bin/M1: OK",
  " +> kaem --file /steps/0.sh ",
);

const KAEM_STEPS = onScreen(
  " +> set -ex",
  " +> pkg=alpha-1.0 ",
  " +> cd alpha-1.0 ",
  " +> kaem --file pass1.kaem ",
  "/external/distfiles/alpha-1.0.tar.gz: OK",
  " +> tcc -c alpha.c ",
  "/usr/bin/alpha: OK",
  " +> cd .. ",
  " +> pkg=kexec-1.0 ",
  " +> kaem --file pass1.kaem ",
  "/usr/bin/kexec: OK",
);

const FIWIX = serial(
  " +> kaem --file /steps/jump/fiwix.sh ",
  "",
  "                    Fiwix kernel v1.0 for i386 architecture",
  "",
  "DEVICE    ADDRESS         IRQ   COMMENT",
);

const IMPORT = serial(
  " +> kaem --file /steps/improve/import_payload.sh ",
  " +> payload-import --list /steps/payload-import-1.0/fiwix.list /external/distfiles ",
  "payload-import: /dev/hda: passed over: no payload",
  "payload-import: /dev/hdb: payload, layout 64, 3 files",
  "payload-import: 1/3 beta-2.0.tar.gz, 1000 bytes, restored",
  "payload-import: 2/3 gamma, and delta.tar.gz, 24 bytes, kept",
  "payload-import: 3/3 empty, 500 bytes, restored",
  "payload-import: done: 2 files restored, 1 kept, 1500 bytes written",
);

/** A step in bash, with all its phases. */
export function bashStep(name: string, pass: number, script = `pass${pass}.sh`): string {
  return serial(
    `${name}: beginning build using script ${script}`,
    `${name}: getting sources.`,
    `${name}.tar.gz: OK`,
    `${name}: unpacking source.`,
    `${name}: preparing source.`,
    `${name}: configuring source.`,
    "checking for a compiler... \x1b[32myes\x1b[0m",
    `${name}: compiling source.`,
    "caf\xe9 \xff\xfe other: text",
    `${name}: install to fakeroot.`,
    `${name}: postprocess binaries.`,
    `${name}: creating package.`,
    `${name}: checksumming created package.`,
    `${name}_${pass - 1}.tar.bz2: OK`,
    `${name}: cleaning up.`,
    `${name}: installing package.`,
    `${name}: build successful`,
  );
}

const LINUX = serial(
  "[    0.000000] Linux version 4.0 (root@localhost) (gcc version 4) #1",
  "[    0.100000] Run /init as init process",
);

const POWER_DOWN = serial("[  123.456789] reboot: Power down");

/** What the machine goes through. */
export const MACHINE_PLAN: RunPlan = {
  steps: [
    { name: "alpha-1.0", pass: 1 },
    { name: "kexec-1.0", pass: 1 },
    { name: "beta-2.0", pass: 1 },
    { name: "bash-5", pass: 1 },
    { name: "beta-2.0", pass: 2 },
    { name: "omega-1", pass: 1 },
  ],
  loadSizes: LOADED.map(([, sizeBytes]) => sizeBytes),
};

/** Parts of the console of a machine, in order. */
export const MACHINE_PARTS = {
  bios: BIOS,
  load: LOAD,
  stage0: STAGE0,
  kaem: KAEM_STEPS,
  fiwix: FIWIX,
  import: IMPORT,
  fiwixSteps: serial(" +> pkg=beta-2.0 ", " +> kaem --file pass1.kaem ", "/usr/bin/beta: OK") +
    serial(" +> pkg=bash-5 ", " +> kaem --file pass1.kaem ", " +> bash /steps/2.sh "),
  linux: LINUX,
  linuxSteps: bashStep("beta-2.0", 2) + bashStep("omega-1", 1),
  end: POWER_DOWN,
} as const;

/** The console of a machine from the BIOS to its end. */
export const MACHINE: string = Object.values(MACHINE_PARTS).join("");

/** The console of a chroot: no kernel of its own, and LF at the end of lines. */
export const CHROOT: string = (STAGE0 + KAEM_STEPS +
  MACHINE_PARTS.fiwixSteps.replace("+> pkg=beta-2.0 ", "+> if match x x ") +
  bashStep("beta-2.0", 1))
  .replaceAll("\r\n", "\n");

/** The bytes of a console: each character is one. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
