// SPDX-License-Identifier: MIT
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkAccel, checkKvm, checkQemu, type MachineJob } from "../../src/doctor/machine.ts";
import { defaultOptions } from "../../src/plan/options.ts";
import { QEMU, script } from "../launch/guest.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

function job(qemuCommand = QEMU, more: Partial<MachineJob> = {}): MachineJob {
  return {
    options: { ...defaultOptions("qemu"), qemuCommand },
    scratch: temp.make(),
    kvmDevice: "/dev/kvm",
    signal: new AbortController().signal,
    ...more,
  };
}

/** A stand-in for QEMU. */
function standIn(body: string): string {
  return script(join(temp.make(), "qemu"), body);
}

/** A device that opens. */
function device(): string {
  const path = join(temp.make(), "kvm");
  writeFileSync(path, "");
  return path;
}

const testQemu = testWith(QEMU);

describe("checkQemu()", () => {
  testQemu("tells the version of QEMU", async () => {
    const { result, seen } = await checkQemu(job());
    expect(result).toBe("ok");
    expect(seen).toMatch(/^QEMU \d+\.\d+\S* with machine type pc$/);
  });

  test("says how to get a QEMU that is not installed", async () => {
    await expect(checkQemu(job("qemu-system-nowhere"))).rejects.toMatchObject({
      kind: "launch",
      hint: "On Debian: apt-get install qemu-system-x86",
    });
  });

  test("finds a QEMU without a PC", async () => {
    const command = standIn(`case $1 in --version) echo QEMU emulator version 9.9;;
*) echo "virt                 a virtual machine";; esac`);
    expect(await checkQemu(job(command))).toMatchObject({
      result: "missing",
      seen: `${command} has no machine type "pc"`,
    });
  });

  test("shows the last line of a QEMU that does not run", async () => {
    const command = standIn("echo a warning; echo 'libfdt.so.1: cannot open' >&2; exit 127");
    await expect(checkQemu(job(command))).rejects.toMatchObject({
      message: `${command} --version failed (exit code 127): libfdt.so.1: cannot open`,
    });
  });
});

describe("the guest", () => {
  testQemu("comes to its end under TCG", async () => {
    expect(await checkAccel("tcg", job())).toEqual({
      result: "ok",
      seen: "it runs 7 of 7 parts of a small bootstrap",
    });
  }, 60_000);

  testQemu("finds a QEMU whose disk does not return what is on it", async () => {
    // The image is cut after the program: the sectors that it reads are not there.
    const command = standIn(`for arg; do case $arg in file=*) disk=\${arg#file=};; esac; done
dd if=/dev/zero of="\${disk%%,*}" bs=512 seek=20 count=1 conv=notrunc 2>/dev/null
exec ${QEMU} "$@"`);
    expect(await checkAccel("tcg", job(command))).toMatchObject({
      result: "missing",
      seen: "the guest computed something else than it must; " +
        "it stopped at going to real mode and back for each sector",
    });
  }, 60_000);

  testQemu("finds a QEMU that cannot do what a run asks of it", async () => {
    const command = standIn(`exec ${QEMU} -device no-such-device "$@"`);
    const { result, seen } = await checkAccel("tcg", job(command));
    expect(result).toBe("missing");
    expect(seen).toContain("'no-such-device' is not a valid device model name");
    expect(seen).toEndWith("; nothing of the guest ran");
  }, 60_000);

  if (existsSync("/dev/kvm")) {
    testQemu("runs under KVM, or the check says where it stopped", async () => {
      const { result, seen, remedy } = await checkKvm(job(), false);
      if (result === "ok") expect(seen).toStartWith("it runs 7 of 7");
      else {
        expect(result).toBe("warning");
        expect(seen).toMatch(/; (?:it stopped at .+|nothing of the guest ran)$|\/dev\/kvm is not/);
        expect(remedy).toMatch(/--accel tcg|adduser/);
      }
    }, 90_000);
  } else console.log("skipped: the guest under KVM: there is no /dev/kvm here");
});

describe("checkKvm()", () => {
  test("warns where there is no device, and how to get it", async () => {
    const kvmDevice = join(temp.make(), "kvm");
    const found = await checkKvm(job(QEMU, { kvmDevice }), false);
    expect(found).toMatchObject({ result: "warning", seen: `${kvmDevice} does not exist` });
    expect(found.remedy).toContain("modprobe kvm_intel");
    expect((await checkKvm(job(QEMU, { kvmDevice }), true)).result).toBe("missing");
  });

  test("tells a KVM internal error, where it came, and to use TCG", async () => {
    // QEMU stops the machine, and stays.
    const command = standIn(`printf 'doctor: real\\r\\ndoctor: disk\\r\\ndoctor: protected\\r\\n'
printf 'KVM internal error. Suberror: 1\\nemulation failure\\n' >&2; exec sleep 60`);
    const found = await checkKvm(job(command, { kvmDevice: device() }), false);
    expect(found).toEqual({
      result: "warning",
      seen: "KVM internal error. Suberror: 1; " +
        "it stopped at going to real mode and back for each sector",
      remedy: "Use --accel tcg, which is slower: KVM cannot run a bootstrap on this machine",
    });
  }, 30_000);

  test("tells that the guest was reset", async () => {
    const found = await checkKvm(job(standIn("exit 0"), { kvmDevice: device() }), false);
    expect(found).toMatchObject({
      result: "warning",
      seen: "the guest was reset; nothing of the guest ran",
    });
  });
});

test("an interrupt ends the guest, and the check", async () => {
  const controller = new AbortController();
  const command = standIn("echo 'doctor: real'; exec sleep 60");
  const check = checkAccel("tcg", job(command, { signal: controller.signal }));
  setTimeout(() => controller.abort(), 300);
  await expect(check).rejects.toMatchObject({ kind: "interrupt" });
});
