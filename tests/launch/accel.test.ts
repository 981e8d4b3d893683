// SPDX-License-Identifier: MIT
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { classifyKvmFailure, kvmObstacle } from "../../src/launch/accel.ts";
import { tempDir } from "./guest.ts";

/** What QEMU 7.2 wrote on an AMD machine; the dump is shortened. */
const EMULATION_FAILURE = `\
qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]
KVM internal error. Suberror: 1
extra data[0]: 0x0000000000000000
extra data[1]: 0x0000000000001000
emulation failure
EAX=000000ff EBX=00000000 ECX=00000000 EDX=000003f8
`;

describe("classifyKvmFailure()", () => {
  test.each([
    [EMULATION_FAILURE, "KVM internal error. Suberror: 1"],
    ["error: kvm run failed Bad address\nEAX=00000000\n", "error: kvm run failed Bad address"],
    ["error: kvm run failed Function not implemented\r\n", ""],
    ["KVM: entry failed, hardware error 0x80000021\n\nIf you're running a guest on an Intel", ""],
    ["KVM: unknown exit, hardware reason 31\n", ""],
    ["KVM internal error: Unexpected notify VM exit\n", ""],
  ])("detects that KVM has died: %j", (text, line) => {
    const failure = classifyKvmFailure(text);
    expect(failure?.kind).toBe("died");
    if (line !== "") expect(failure?.line).toBe(line);
  });

  test.each([
    "Could not access KVM kernel module: No such file or directory",
    "Could not access KVM kernel module: Permission denied",
    "qemu-system-x86_64: failed to initialize kvm: No such file or directory",
    "qemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied",
    "qemu-system-aarch64: -accel kvm: invalid accelerator kvm",
    "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy",
    "qemu-system-x86_64: kvm_init_vcpu: kvm_get_vcpu failed (0): Operation not permitted",
    "qemu-system-x86_64: error: failed to set MSR 0x48f to 0x7fffff00036dfb",
  ])("detects that KVM is unusable: %s", (line) => {
    expect(classifyKvmFailure(`some warning\n${line}\n`)).toEqual({ kind: "unusable", line });
  });

  test.each([
    "",
    "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]",
    "qemu-system-x86_64: -drive file=kvm.img: Could not open 'kvm.img': No such file or directory",
    "qemu-system-x86_64: terminating on signal 15 from pid 1 (init)",
  ])("ignores other text: %j", (line) => {
    expect(classifyKvmFailure(line)).toBeUndefined();
  });

  test("prefers `died` to `unusable`", () => {
    const text = `ioctl(KVM_X) failed: 1\n${EMULATION_FAILURE}`;
    expect(classifyKvmFailure(text)?.kind).toBe("died");
  });
});

describe("kvmObstacle()", () => {
  test("names a device that is missing", async () => {
    expect(await kvmObstacle("/nonexistent/kvm")).toBe("/nonexistent/kvm does not exist");
  });

  test("accepts a device that opens for reading and writing", async () => {
    using dir = tempDir();
    writeFileSync(dir.file("kvm"), "");
    expect(await kvmObstacle(dir.file("kvm"))).toBeUndefined();
  });

  test("returns a reason for a path that does not open", async () => {
    expect(await kvmObstacle("/")).toBeString();
  });
});
