// SPDX-License-Identifier: MIT
/**
 * The options that `plan`, `build` and the default command share: those of rootfs.py, with the
 * same names, short forms and defaults, and seedstrap's own.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { resolve } from "node:path";
import process from "node:process";
import { type Mirror, mirrorDirectories, parseMirror, withPlainHttp } from "../fetch/mirror.ts";
import { UserError } from "../errors.ts";
import { defaultStore } from "../fetch/store.ts";
import { GROUPS } from "./help.ts";
import type { PlanRequest } from "../job/build.ts";
import { statIfThere } from "../runtime/stat.ts";
import { parseAdded } from "../plan/added.ts";
import {
  type BuildOptions,
  CI_PASSES,
  type CiPass,
  isArchName,
  isDiskName,
  MIRROR_PORT,
  type Mode,
  parseCount,
  parseSizeMib,
  usesRunningKernel,
} from "../plan/options.ts";
import { isForAirGap } from "../tree/bundled.ts";
import { isExtraName } from "../tree/extra.ts";

/** Declares a command with the options that describe a build. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function planCommandBase(name: string) {
  return new Command(name)
    .allowExcessArguments(false)
    .optionsGroup(GROUPS.place)
    .addOption(treeOption())
    .optionsGroup(GROUPS.mode)
    .option("-q, --qemu", "for QEMU")
    .option("-b, --bare-metal", "for a real machine")
    .option("-c, --chroot", "in a directory, by chroot")
    .option("--bwrap", "in a directory, in a sandbox of bwrap (-bw)")
    .option("--container", "in a container of podman or docker")
    .optionsGroup(GROUPS.bootstrap)
    .option("-a, --arch <name>", "architecture to bootstrap", "x86")
    .option("--cores <n>", "cores to build with", "2")
    .option("--force-timestamps", "set all timestamps of files to 0")
    .option("--update-checksums", "update checksum files instead of checking them")
    .option("--build-kernels", "also build kernels where none is needed")
    .option("--no-create-config", "leave bootstrap.cfg empty")
    .option("-i, --interactive", "open a shell where something fails, show a QEMU window")
    .option("--configurator", "run the interactive configurator")
    .addOption(extraBuildsOption())
    .option("--internal-ci <pass>", "for live-bootstrap's own CI: pass1, pass2 or pass3")
    .optionsGroup(GROUPS.distfiles)
    .option("--external-sources", "carry every distfile, not only those needed before the network")
    .addOption(mirrorsOption())
    .addOption(plainHttpOption())
    .option(
      "--mirror-credentials",
      "write user names, passwords and queries of mirrors to bootstrap.cfg, for the machine",
    )
    .optionsGroup(GROUPS.bootstrap)
    .option("--early-preseed <archive>", "tar of the root of an earlier bootstrap to begin from")
    .option("-r, --repo <dir>", "directory of prebuilt packages to include")
    .addOption(addOption())
    .option("-s, --swap <size>", "swap space under Linux in MiB, or 4G", "0")
    .optionsGroup(GROUPS.machine)
    .option("--qemu-cmd <program>", "QEMU to run (-qc)", "qemu-system-x86_64")
    .option("--qemu-ram <size>", "memory of the guest in MiB, or 4G (-qr)", "4096")
    .option("--kernel <file>", "Linux kernel to boot instead of builder-hex0 (-qk)")
    .option("--target-size <size>", "size of the boot disk under QEMU in MiB, or 16G (-qs)", "16G")
    .optionsGroup(GROUPS.distfiles)
    .addOption(
      new Option("--payload <when>", "carry distfiles on a disk of their own")
        .choices(["auto", "always", "never"] as const).default("auto" as const),
    )
    .addOption(
      new Option(
        "--payload-layout <bits>",
        "width of the numbers in the payload; 32 for older importers",
      )
        .choices(["auto", "64", "32"] as const).default("auto" as const),
    )
    .addOption(
      new Option("--payload-phases <how>", "restore it at once, or in part after jump: move_disk")
        .choices(["auto", "one", "two"] as const).default("auto" as const),
    )
    .option("--one-disk", "carry the payload on the boot disk, which the system is installed to")
    .option("--disk <name>", "what the system is installed to, as Linux names it (default: sda)")
    .option("--overwrite-disk", "let the machine install to a disk that has something on it")
    .option("--air-gapped", "do not let the booted machine wait for a network")
    .option("--no-air-gapped", "let it, although the bundle was made with --air-gapped")
    .option(
      "--mirror-port <port>",
      `port on which file:// mirrors are served to the guest (default: ${MIRROR_PORT}, or a free one)`,
    )
    .addOption(storeOption())
    .addOption(olderStoreOption())
    .addOption(offlineOption())
    .optionsGroup(GROUPS.place);
}

/** Declares `--add`, which can be given more than once. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function addOption() {
  return new Option("--add <dir>", "a directory to include, as /external/add/NAME, or DIR=/PATH")
    .argParser((text, earlier: string[] | undefined) => [...earlier ?? [], text]);
}

/** Declares `--extra-builds`, for every command that reads the manifests of a checkout. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function extraBuildsOption() {
  return new Option(
    "--extra-builds <names>",
    "step directories beside steps/ to include: guix for steps-guix/, a list with commas",
  ).argParser(parseExtraBuilds);
}

/**
 * Parses a list of extra builds, each once, as the rootfs.py of pull request 578.
 *
 * @throws {UserError} "usage"
 */
function parseExtraBuilds(text: string): readonly string[] {
  const names = [...new Set(text.split(",").map((name) => name.trim()))].filter(Boolean);
  const wrong = names.find((name) => !isExtraName(name));
  if (wrong === undefined) return names;
  throw new UserError("usage", `Cannot use ${JSON.stringify(wrong)} for --extra-builds`, {
    hint:
      "It takes names with commas in between, of letters, digits, - and _: guix for steps-guix/",
  });
}

/** Declares `--offline`, for every command that may download. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function offlineOption() {
  return new Option("--offline", "download nothing: every distfile has to be on this machine");
}

/** Declares `--store`, for every command that reads or downloads distfiles. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function storeOption() {
  return new Option("--store <dir>", "where downloads are kept (default: the user's cache)");
}

/** Declares the name that `--store` had before. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function olderStoreOption() {
  return new Option("--distfiles <dir>").hideHelp();
}

/** Returns the store that a command uses. */
export function chosenStore(
  { store, distfiles }: {
    readonly store?: string | undefined;
    readonly distfiles?: string | undefined;
  },
): string {
  return store ?? distfiles ?? defaultStore();
}

/** Declares `--mirrors`, for every command that may download. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function mirrorsOption() {
  return new Option(
    "-m, --mirrors <url...>",
    "asked before the distfiles' own URLs: http(s)://…, oci://HOST/REPO, s3+https://HOST/BUCKET, " +
      "or a directory: /dir, ./dir, file:///dir",
  );
}

/** Declares `--plain-http`, for every command that may ask a registry. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function plainHttpOption() {
  return new Option(
    "--plain-http",
    "ask registries (oci://) over http, also where they are not on this machine",
  );
}

/** Declares `--tree`, for every command that reads a checkout. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function treeOption() {
  return new Option(
    "--tree <checkout>",
    "the live-bootstrap checkout, or a bundle of one: a file, oci://HOST/REPO:TAG (default: .)",
  );
}

/** The options as commander parses them. */
export type RawOptions = ReturnType<ReturnType<typeof planCommandBase>["opts"]>;

/**
 * Checks the options of a command line and returns them as data.
 *
 * @throws {UserError} "usage" for a value that is not valid, or options that exclude each other.
 */
export function parsePlanRequest(given: RawOptions): PlanRequest {
  const raw = withoutEmpty(given);
  const mode = chosenMode(raw);
  checkTogether(mode, raw);
  const tree = raw.tree ?? process.cwd();
  const added = (raw.add ?? []).map(parseAdded);
  const isForMachine = !usesRunningKernel(mode);
  const options: BuildOptions = {
    mode,
    arch: checkedArch(raw.arch),
    cores: parseCount(raw.cores, "--cores", 1, 4096),
    forceTimestamps: raw.forceTimestamps === true,
    updateChecksums: raw.updateChecksums === true,
    buildKernels: raw.buildKernels === true,
    createConfig: raw.createConfig,
    interactive: raw.interactive === true,
    configurator: raw.configurator === true,
    internalCi: raw.internalCi === undefined ? undefined : checkedPass(raw.internalCi),
    ...(raw.extraBuilds !== undefined && raw.extraBuilds.length > 0 &&
      { extraBuilds: raw.extraBuilds }),
    externalSources: raw.externalSources === true,
    mirrors: parseMirrorOption(raw.mirrors ?? [], raw.plainHttp),
    ...(raw.mirrorCredentials === true && { mirrorCredentials: true }),
    // As in rootfs.py, a directory has no swap, whatever is asked for; nor has a container.
    swapMib: isForMachine ? parseSizeMib(raw.swap, "--swap", 0) : 0,
    qemuCommand: raw.qemuCmd,
    qemuRamMib: parseSizeMib(raw.qemuRam, "--qemu-ram", 1),
    kernel: raw.kernel === undefined ? undefined : resolve(raw.kernel),
    hasRepo: raw.repo !== undefined,
    ...(added.length > 0 && { addedPaths: added.map(({ path }) => path) }),
    hasPreseed: raw.earlyPreseed !== undefined,
    targetSizeMib: mode === "qemu" ? parseSizeMib(raw.targetSize, "--target-size", 1) : 0,
    payload: raw.payload,
    payloadLayout: raw.payloadLayout === "auto" ? "auto" : raw.payloadLayout === "32" ? 32 : 64,
    payloadPhases: raw.payloadPhases,
    ...(raw.disk !== undefined && { disk: checkedDisk(raw.disk) }),
    ...(raw.overwriteDisk === true && { overwriteDisk: true }),
    ...(raw.oneDisk === true && { oneDisk: true }),
    airGapped: raw.airGapped ?? isForAirGap(resolve(tree)),
    mirrorPort: raw.mirrorPort === undefined
      ? MIRROR_PORT
      : parseCount(raw.mirrorPort, "--mirror-port", 1, 65000),
    bootProgram: "builder-hex0",
  };
  return {
    tree,
    options,
    store: chosenStore(raw),
    repo: raw.repo,
    added,
    preseed: raw.earlyPreseed,
    isOffline: raw.offline === true,
    isPortChosen: raw.mirrorPort !== undefined,
  };
}

/**
 * Drops options with an empty value. It comes from an empty variable in a script, and counts as no
 * value, as in rootfs.py, not as the current directory.
 */
function withoutEmpty(raw: RawOptions): RawOptions {
  const { kernel, repo, earlyPreseed, internalCi, ...others } = raw;
  return {
    ...others,
    ...(kernel && { kernel }),
    ...(repo && { repo }),
    ...(earlyPreseed && { earlyPreseed }),
    ...(internalCi && { internalCi }),
  };
}

/**
 * Refuses options that exclude each other, before anything is read.
 *
 * @throws {UserError} "usage"
 */
function checkTogether(mode: Mode, { kernel, disk, overwriteDisk }: RawOptions): void {
  if ((disk !== undefined || overwriteDisk) && (kernel !== undefined || usesRunningKernel(mode))) {
    const option = disk === undefined ? "--overwrite-disk" : "--disk";
    throw new UserError("usage", `Cannot use ${option} with --${kernel ? "kernel" : mode}`, {
      hint: "It is for machines that boot builder-hex0: elsewhere nothing is installed to a disk",
    });
  }
  if (kernel !== undefined && usesRunningKernel(mode)) {
    throw new UserError("usage", `Cannot use --kernel with --${mode}`, {
      hint: "The running kernel is used there: leave the option out, or use --qemu or --bare-metal",
    });
  }
}

function checkedPass(text: string): CiPass {
  const pass = CI_PASSES.find((name) => name === text);
  if (pass !== undefined) return pass;
  throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for --internal-ci`, {
    hint: `It takes ${CI_PASSES.join(", ")}`,
  });
}

/**
 * Returns the one mode that is chosen.
 *
 * @throws {UserError} "usage" for none or several.
 */
function chosenMode(raw: RawOptions): Mode {
  const modes: readonly (readonly [Mode, true | undefined])[] = [
    ["qemu", raw.qemu],
    ["bare-metal", raw.bareMetal],
    ["chroot", raw.chroot],
    ["bwrap", raw.bwrap],
    ["container", raw.container],
  ];
  const chosen = modes.flatMap(([mode, isChosen]) => isChosen ? [mode] : []);
  const [mode] = chosen;
  if (mode !== undefined && chosen.length === 1) return mode;
  throw new UserError(
    "usage",
    mode === undefined
      ? "Cannot go on without a mode"
      : `Cannot use ${chosen.map((name) => `--${name}`).join(" and ")} together`,
    {
      hint: "Choose one: --qemu (-q), --bare-metal (-b), --chroot (-c), --bwrap (-bw) or " +
        "--container; seedstrap --help lists the commands, and seedstrap demo is a first try",
    },
  );
}

/**
 * Parses the values of `--mirrors`.
 *
 * @param isPlain Whether `--plain-http` is given.
 * @throws {UserError} "usage", naming one that is neither a server nor a directory that is there.
 */
export function parseMirrorOption(texts: readonly string[], isPlain = false): Mirror[] {
  const mirrors = texts.map(parseMirror).map((one) => isPlain ? withPlainHttp(one) : one);
  for (const path of mirrorDirectories(mirrors)) {
    const stat = statIfThere(path, { kind: "usage" });
    if (stat?.isDirectory() === true) continue;
    const what = stat === undefined ? "there is no such directory" : "it is not a directory";
    throw new UserError("usage", `Cannot use mirror file://${path}: ${what}`, {
      where: path,
      hint: "Name a directory that holds distfiles, or a server",
    });
  }
  return mirrors;
}

function checkedDisk(text: string): string {
  const name = text.replace(/^\/dev\//, "");
  if (isDiskName(name)) return name;
  throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for --disk`, {
    hint:
      "It takes a whole disk such as sda, of which the name has no digit, or a partition with " +
      "a file system such as sdb1 or nvme0n1p2",
  });
}

function checkedArch(text: string): string {
  if (isArchName(text)) return text;
  throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for --arch`, {
    hint: "It takes letters, digits, dot, dash and underscore",
  });
}
