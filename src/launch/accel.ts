// SPDX-License-Identifier: MIT
/**
 * Whether KVM can run a guest, before and while it runs.
 *
 * @module
 */
import { open } from "node:fs/promises";
import { messageOf, systemCode } from "../errors.ts";

/** What kept KVM from running the guest. */
export interface KvmFailure {
  /**
   * `unusable`: QEMU does not get KVM to work and exits.
   * `died`: KVM gave up on the running guest; QEMU stops the machine, prints its registers and
   * waits forever.
   */
  readonly kind: "unusable" | "died";
  /** The line of QEMU that says so. */
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
 * Finds a failure of KVM in what QEMU wrote to its standard error.
 *
 * A line that says `unusable` counts only when QEMU exits with a failure as well: some of them
 * are no more than complaints about one feature.
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
 * Why KVM cannot be used on this machine.
 *
 * The device is opened, for its permission bits say nothing about a missing kernel module or a
 * container that forbids it.
 *
 * @param device The device node, /dev/kvm but for tests.
 * @returns A reason to print, or undefined when KVM is worth a try.
 */
export async function kvmObstacle(device: string): Promise<string | undefined> {
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
