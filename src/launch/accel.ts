// SPDX-License-Identifier: MIT
/**
 * Finds out whether KVM can run a guest, before it starts and while it runs.
 *
 * @module
 */
import { open } from "node:fs/promises";
import process from "node:process";
import { messageOf, systemCode, UserError } from "../errors.ts";

/** The reason why KVM cannot run the guest. */
export interface KvmFailure {
  /**
   * `unusable`: QEMU cannot initialise KVM and exits.
   * `died`: KVM gave up on the running guest; QEMU stops the machine, prints its registers and
   * waits forever.
   */
  readonly kind: "unusable" | "died";
  /** The line of QEMU's output that says so. */
  readonly line: string;
}

/** QEMU accel/kvm/kvm-all.c `kvm_cpu_exec()`, target/i386/kvm/kvm.c `kvm_arch_handle_exit()`. */
const DIED = [
  /^KVM internal error[.:] /,
  /^error: kvm run failed /,
  /^KVM: entry failed, hardware error /,
  /^KVM: unknown exit/,
  /^KVM: exception \d+ exit /,
];

/** QEMU softmmu/vl.c, accel/kvm/kvm-all.c `kvm_init()`, target/i386/kvm/kvm.c. */
const UNUSABLE = [
  /Could not access KVM kernel module/,
  /failed to initialize kvm/i,
  /invalid accelerator kvm/,
  /kvm accelerator is not (?:supported|available)/i,
  /KVM is not supported|not built with KVM|requires KVM support/i,
  /kvm version (?:too old|not supported)/,
  /kvm does not support /,
  /ioctl\(KVM_\w+\) failed/,
  /kvm_init_vcpu(?:: \w+)? failed/,
  /error: failed to set MSR 0x/,
  /kvm_\w+: Assertion /,
];

/**
 * Finds a failure of KVM in the standard error of QEMU.
 *
 * An `unusable` line counts only if QEMU also exits with a failure: some of these lines are only
 * warnings about one feature.
 *
 * @param stderrText Whole lines; never the serial console, where a guest can write anything.
 * @returns The first `died`, else the first `unusable`, else undefined.
 */
export function classifyKvmFailure(stderrText: string): KvmFailure | undefined {
  const lines = stderrText.split(/\r?\n/);
  const find = (kind: KvmFailure["kind"], patterns: readonly RegExp[]) => {
    const line = lines.find((line) => patterns.some((pattern) => pattern.test(line)));
    return line === undefined ? undefined : { kind, line: line.trim() };
  };
  return find("died", DIED) ?? find("unusable", UNUSABLE);
}

/**
 * Returns the reason why KVM cannot be used on this machine.
 *
 * The device is opened, since its permission bits say nothing about a missing kernel module or a
 * container that forbids it.
 *
 * @param device The device node, /dev/kvm except in tests.
 * @returns A reason to print, or undefined if KVM may work.
 */
export async function kvmObstacle(device: string): Promise<string | undefined> {
  if (process.platform !== "linux") return "only Linux has it";
  try {
    await (await open(device, "r+")).close();
    return undefined;
  } catch (error) {
    switch (systemCode(error)) {
      case "ENOENT":
        return `${device} does not exist`;
      case "EACCES":
      case "EPERM":
        return `${device} is not readable and writable for this user`;
      default:
        return messageOf(error);
    }
  }
}

/**
 * Refuses the hypervisor of Apple silicon. That of an Intel Mac may do, and elsewhere QEMU says
 * that it has none.
 *
 * @throws {UserError} "launch"
 */
export function checkHypervisor(accel: string): void {
  if (accel !== "hvf" || process.platform !== "darwin" || process.arch !== "arm64") return;
  throw new UserError("launch", "Cannot use --accel hvf: this Mac has no x86 processor", {
    hint: "Use --accel tcg",
  });
}
