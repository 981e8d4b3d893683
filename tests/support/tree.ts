// SPDX-License-Identifier: MIT
/**
 * The miniature tree: the shape of a live-bootstrap checkout, with content of our own.
 *
 * @module
 */
import { join } from "node:path";
import { type BuildOptions, defaultOptions } from "../../src/plan/options.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { type FileTree, writeFiles } from "./files.ts";

/** A port on which nothing listens. */
const DEAD = "http://127.0.0.1:9";

export interface MiniTree {
  readonly files: FileTree;
  /** Distfiles by name. */
  readonly distfiles: Readonly<Record<string, Uint8Array>>;
}

export interface MiniOptions {
  /** Size of the distfiles in bytes, plus a little. */
  readonly distfileBytes?: number;
  /** Whether the manifest has `improve: import_payload`, one build after `jump: fiwix`. */
  readonly importsPayload?: boolean;
  readonly jumpsToFiwix?: boolean;
  readonly movesToDisk?: boolean;
  /** KiB of the Fiwix ramdisk, and of the kexec ramdisk. */
  readonly ramdiskKib?: number;
  readonly kexecKib?: number;
  /** More or other files of the checkout. */
  readonly files?: FileTree;
  /** Beginning of the URLs of distfiles, without a slash at the end. */
  readonly url?: string;
}

/** A boot sector as hex0 text: a jump to itself, zeros, 55 AA. */
export const STAGE1_TEXT = `# a boot sector\nEB FE ; loop\n${
  "00 00 00 00 00 00 00 00\n".repeat(63)
}00 00 00 00\n55 AA\n`;

export function miniTree(options: MiniOptions = {}): MiniTree {
  const { distfileBytes = 3000, url = DEAD } = options;
  const steps = ["alpha-1.0", "beta-2.0", "gamma-3.0", "linux-4.0", "delta-5.0", "omega-6.0"];
  const distfiles: Record<string, Uint8Array> = {};
  const files: Record<string, string | Uint8Array> = {
    "builder-hex0/builder-hex0-x86-stage1.hex0": STAGE1_TEXT,
    "builder-hex0/builder-hex0-x86-stage2.hex0": "# the second stage\n90 90 F4\n",
    "seed/seed.kaem": "exec true\n",
    "seed/after.kaem": "exec after\n",
    "seed/.gitignore": "not for the image\n",
    "seed/stage0-posix/after.kaem": "replaced by the one of seed\n",
    "seed/stage0-posix/bootstrap-seeds/POSIX/x86/hex0-seed": "left out",
    "seed/stage0-posix/x86/hex0_x86.hex0": "# hex0\n7F 45 4C 46\n",
    "seed/stage0-posix/x86/kaem-minimal.hex0": "# kaem\n7F 45 4C 46\n",
    "seed/stage0-posix/High Level Prototypes/a file.c": "int main() { return 0; }\n",
    "seed/stage0-posix/empty": "",
    "steps/manifest": manifest(options),
    "steps/helpers.sh": "true\n",
    "steps/jump/fiwix.sh": `# make_fiwix_initrd -s 1\nmake_fiwix_initrd -s ${
      options.ramdiskKib ?? 1024
    } /boot/fiwix.ext2\nkexec_args="kexec_size=${options.kexecKib ?? 512}"\n`,
    "steps/jump/linux.sh": "kexec-linux\n",
    "steps/improve/get_network.sh": "dhcpcd\n",
    "steps/alpha-1.0/pass2.kaem": "exec again\n",
    ...(options.movesToDisk && { "steps/jump/move_disk.sh": "sfdisk\n" }),
    ...(options.importsPayload && { "steps/improve/import_payload.sh": "payload-import\n" }),
    ...(options.movesToDisk && { "steps/improve/finalize_fhs.sh": "mount -t proc proc /proc\n" }),
  };
  steps.forEach((step, index) => {
    const name = `${step}.tar.gz`;
    const body = sampleBody(distfileBytes + index, index + 1);
    distfiles[name] = body;
    files[`steps/${step}/sources`] = `f ${url}/${name} ${sha256(body)}\n`;
    files[`steps/${step}/pass1.sh`] = `echo ${step}\n`;
    files[`steps/${step}/pass1.kaem`] = `exec ${step}\n`;
  });
  return { files: { ...files, ...options.files }, distfiles };
}

function manifest(options: MiniOptions): string {
  const { importsPayload = false, jumpsToFiwix = true, movesToDisk = false } = options;
  return [
    "# a miniature",
    "define: BUILD_FIWIX = ( KERNEL_BOOTSTRAP == True || BUILD_KERNELS == True )",
    "",
    "build: alpha-1.0",
    ...(jumpsToFiwix ? ["jump: fiwix ( BUILD_FIWIX == True ) # the first kernel"] : []),
    "build: beta-2.0",
    ...(importsPayload ? ["improve: import_payload ( PAYLOAD_REQUIRED == True )"] : []),
    "build: gamma-3.0",
    "build: linux-4.0 ( CHROOT == False )",
    "jump: linux ( CHROOT == False )",
    ...(movesToDisk
      ? ["jump: move_disk ( KERNEL_BOOTSTRAP == True )", "improve: finalize_fhs"]
      : []),
    "build: delta-5.0",
    "improve: get_network ( CHROOT == False )",
    "build: omega-6.0",
    "build: alpha-1.0",
    "",
  ].join("\n");
}

/** The miniature tree with two step directories beside steps/, as live-bootstrap's PR 578 has one. */
export function extraTree(options: MiniOptions = {}): MiniTree {
  const { url = DEAD } = options;
  const distfiles: Record<string, Uint8Array> = {};
  const files: Record<string, string> = {
    "steps/improve/after.sh": "extra_builds=${EXTRA_BUILDS:-}\n",
    "steps-guix/manifest": [
      "# after steps/manifest",
      "build: epsilon-7.0",
      "jump: linux64",
      "improve: get_network",
      "build: zeta-8.0 ( BUILD_FIWIX == True )",
      "build: zeta-8.0",
      "build: alpha-1.0",
      "",
    ].join("\n"),
    "steps-guix/jump/linux64.sh": "kexec\n",
    "steps-guix/improve/get_network.sh": "dhcpcd\n",
    "steps-guix/zeta-8.0/files/empty": "",
    "steps-other/manifest": "build: eta-9.0\n",
  };
  const steps = ["guix/epsilon-7.0", "guix/zeta-8.0", "guix/alpha-1.0", "other/eta-9.0"];
  steps.forEach((step, index) => {
    const name = `${step.replace("/", "-")}.tar.gz`;
    const body = sampleBody(4000 + index, index + 100);
    distfiles[name] = body;
    files[`steps-${step}/sources`] = `f ${url}/${name} ${sha256(body)}\n`;
    files[`steps-${step}/pass1.sh`] = `echo ${step}\n`;
  });
  const tree = miniTree({ ...options, files: { ...files, ...options.files } });
  return { files: tree.files, distfiles: { ...tree.distfiles, ...distfiles } };
}

/** Writes a checkout to `DIR/tree` and its distfiles to `DIR/mirror`. */
export function writeMiniTree(
  dir: string,
  tree: MiniTree = miniTree(),
): { tree: string; mirror: string } {
  writeFiles(join(dir, "tree"), tree.files);
  writeFiles(join(dir, "mirror"), { "./": "", ...tree.distfiles });
  return { tree: join(dir, "tree"), mirror: join(dir, "mirror") };
}

/** Returns options of a build: the defaults of the command line, but a smaller disk. */
export function buildOptions(changes: Partial<BuildOptions> = {}): BuildOptions {
  const { mode = "qemu" } = changes;
  return { ...defaultOptions(mode), ...(mode === "qemu" && { targetSizeMib: 64 }), ...changes };
}
