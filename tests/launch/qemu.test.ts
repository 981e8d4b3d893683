// SPDX-License-Identifier: MIT
import { describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { UserError } from "../../src/errors.ts";
import { kvmObstacle } from "../../src/launch/accel.ts";
import { findProgram } from "../../src/launch/process.ts";
import {
  code,
  firmware,
  guestArgs,
  isAlive,
  pidsWith,
  QEMU,
  roomPath,
  run,
  RUNTIMES,
  tempDir,
} from "./guest.ts";

const hasQemu = await findProgram(QEMU) !== undefined;
const hasKvm = hasQemu && await kvmObstacle("/dev/kvm") === undefined;
if (!hasQemu) console.log(`skipped: guests under QEMU, as there is no ${QEMU}`);
else if (!hasKvm) console.log(`skipped: guests under KVM: ${await kvmObstacle("/dev/kvm")}`);

/** All byte values, so also NUL, 0xff and invalid UTF-8. */
const ALL_BYTES = new Uint8Array(256).map((_, i) => i);

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const print = (word: string) => code.print(new TextEncoder().encode(word));

/** A firmware resets the guest so early that QEMU may be gone before it is asked to tell that. */
const RESET_LINE = /^(?:\n?--- seedstrap: the guest has reset itself ---\n)?$/;

describe.if(hasQemu)("runQemu() with QEMU under TCG", () => {
  test("succeeds when the guest resets, and streams and logs each byte", async () => {
    using dir = tempDir();
    writeFileSync(dir.file("rom"), firmware(code.print(ALL_BYTES), code.reset));
    writeFileSync(dir.file("log"), "an older and longer log ".repeat(100));
    const args = guestArgs(dir.file("rom"));
    const { outcome, serial, notices } = await run(dir.file("log"), { args });
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(notices).toEqual([]);
    expect(serial).toEqual(ALL_BYTES);
    const log = new Uint8Array(readFileSync(dir.file("log")));
    expect(log.subarray(0, ALL_BYTES.length)).toEqual(ALL_BYTES);
    expect(text(log.subarray(ALL_BYTES.length))).toMatch(RESET_LINE);
  });

  test("starts a QEMU again without its control channel where a wrapper closes that", async () => {
    using dir = tempDir();
    writeFileSync(dir.file("rom"), firmware(print("here\n"), code.reset));
    const command = dir.file("qemu");
    writeFileSync(command, `#!/bin/sh\nexec 3>&-\nexec ${QEMU} "$@"\n`, { mode: 0o755 });
    const args = guestArgs(dir.file("rom"));
    const { outcome, serial, notices } = await run(dir.file("log"), { command, args });
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(text(serial)).toBe("here\n");
    expect(notices).toHaveLength(1);
    expect(notices[0]).toStartWith("QEMU does not get its control channel");
  });

  test("runs a boot sector from a drive", async () => {
    using dir = tempDir();
    const sector = new Uint8Array(512);
    // The firmware's own output may still be in the serial port: give it time, by reading 0x80.
    const wait = [0xb9, 0xff, 0xff, 0xe4, 0x80, 0xe2, 0xfc];
    sector.set([...wait, ...print("booted\n"), ...code.reset]);
    sector.set([0x55, 0xaa], 510);
    writeFileSync(dir.file("disk"), sector);
    const args = ["-drive", `file=${dir.file("disk")},format=raw`];
    args.push("-nic", "none", "-m", "16", "-no-reboot", "-nographic");
    const { outcome, serial } = await run(dir.file("log"), { args });
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(text(serial)).toContain("booted");
  });

  test("ends a guest that hangs when it is aborted, and leaves no process", async () => {
    using dir = tempDir();
    const rom = dir.file("rom");
    writeFileSync(rom, firmware(print("here\n"), code.hang));
    const controller = new AbortController();
    let pids: number[] = [];
    const { error } = await run(dir.file("log"), {
      args: guestArgs(rom),
      signal: controller.signal,
      onSerial: () => {
        if (!controller.signal.aborted) pids = pidsWith(rom);
        controller.abort();
      },
    });
    expect(error).toMatchObject({ kind: "interrupt" });
    expect(pids).toHaveLength(1);
    expect(pids.filter(isAlive)).toEqual([]);
    expect(pidsWith(rom)).toEqual([]);
  });

  test.each([["SIGINT", "signal 2"], ["SIGQUIT", "SIGQUIT"]])(
    "treats a %s that only QEMU got as an interrupt, not as success",
    async (signal, told) => {
      using dir = tempDir();
      const rom = dir.file("rom");
      writeFileSync(rom, firmware(print("here\n"), code.hang));
      const { error } = await run(dir.file("log"), {
        args: guestArgs(rom),
        onSerial: () => pidsWith(rom).forEach((pid) => process.kill(pid, signal)),
      });
      expect(error).toMatchObject({ kind: "interrupt", message: `QEMU was ended by ${told}` });
    },
  );

  test.each(RUNTIMES)("ends on a Ctrl-C to the process group, under %s", async (_, runtime) => {
    using dir = tempDir();
    const rom = dir.file("rom");
    writeFileSync(rom, firmware(print("here\n"), code.hang));
    const [program, ...args] = runtime;
    writeFileSync(
      dir.file("main.mjs"),
      `import process from "node:process";
      import { runQemu } from ${JSON.stringify(roomPath("qemu.ts"))};
      import { withInterrupt } from ${JSON.stringify(roomPath("interrupt.ts"))};
      await withInterrupt((signal) => runQemu({
        command: ${JSON.stringify(QEMU)}, args: ${JSON.stringify(guestArgs(rom))}, accel: "tcg",
        logPath: ${JSON.stringify(dir.file("log"))}, interactive: false, signal,
        onSerial: (chunk) => process.stdout.write(chunk), onNotice: () => {},
      })).catch((error) => process.exit(error.exitCode ?? 1));`,
    );
    const main = spawn(program, [...args, dir.file("main.mjs")], {
      stdio: ["ignore", "pipe", "inherit"],
      detached: true, // a group of its own, as a shell gives to each job
    });
    main.stdout.on("data", (chunk: Uint8Array) => {
      if (text(chunk).includes("\n") && main.pid) process.kill(-main.pid, "SIGINT");
    });
    expect(await new Promise((resolve) => main.on("exit", resolve))).toBe(130);
    expect(pidsWith(rom)).toEqual([]);
  });

  test("shows a failed command quoted for a shell, and the message of QEMU", async () => {
    using dir = tempDir();
    const args = ["-drive", "file=/no such/disk.img,format=raw", "-nographic"];
    const { error, notices } = await run(dir.file("log"), { args });
    expect(error).toBeInstanceOf(UserError);
    const { kind, message } = error as UserError;
    expect(kind).toBe("launch");
    expect(message).toStartWith("QEMU failed with exit code 1 (");
    expect(message).toEndWith(
      `${QEMU} -accel tcg -drive 'file=/no such/disk.img,format=raw' -nographic`,
    );
    expect(notices.join()).toContain("Could not open '/no such/disk.img'");
    expect(readFileSync(dir.file("log"), "utf8")).toContain("Could not open");
  });
});

describe.if(hasKvm)("runQemu() with QEMU under KVM", () => {
  test("reports it and starts again under TCG when KVM dies", async () => {
    using dir = tempDir();
    const rom = dir.file("rom");
    writeFileSync(rom, firmware(print("one\n"), code.kvmCannot, print("two\n"), code.reset));
    const { outcome, serial, notices } = await run(dir.file("log"), {
      args: guestArgs(rom),
      accel: "auto",
    });
    if (notices.every((line) => !line.includes("KVM internal error"))) {
      console.log("skipped: a real KVM internal error, as this KVM runs the guest or none");
      return;
    }
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(text(serial)).toBe("one\none\ntwo\n");
    expect(notices.at(-1)).toContain("starting again under TCG");
    const log = readFileSync(dir.file("log"), "utf8");
    const [first, second] = log.split(/\n--- seedstrap: KVM cannot run .*---\n/);
    expect(first).toContain("KVM internal error");
    expect(second).toStartWith("one\ntwo\n");
    expect(second!.slice("one\ntwo\n".length)).toMatch(RESET_LINE);
    expect(pidsWith(rom)).toEqual([]);
  });

  test("fails when KVM dies and was forced", async () => {
    using dir = tempDir();
    const rom = dir.file("rom");
    writeFileSync(rom, firmware(print("one\n"), code.kvmCannot, code.reset));
    const { outcome, error } = await run(dir.file("log"), { args: guestArgs(rom), accel: "kvm" });
    if (outcome !== undefined) {
      console.log("skipped: a real KVM internal error, as this KVM runs the guest");
      return;
    }
    expect(error).toMatchObject({ kind: "kvm", hint: "Use --accel tcg" });
    expect(pidsWith(rom)).toEqual([]);
  });
});
