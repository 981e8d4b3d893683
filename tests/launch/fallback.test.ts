// SPDX-License-Identifier: MIT
/**
 * The decisions of runQemu(), tested with a stand-in for QEMU that fails on request.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { Buffer } from "node:buffer";
import { readFileSync, writeFileSync } from "node:fs";
import { UserError } from "../../src/errors.ts";
import { MONITOR_ARGS } from "../../src/launch/qmp.ts";
import { isAlive, pidsWith, run, script, tempDir } from "./guest.ts";

/** Writes a stand-in that records its arguments and pid, and runs one command per accelerator. */
function standIn(dir: ReturnType<typeof tempDir>, kvm: string, tcg: string): string {
  return script(
    dir.file("stand-in"),
    `echo "$$ $*" >>'${dir.file("calls")}'\n` +
      `case "$2" in\nkvm) ${kvm};;\ntcg) ${tcg};;\nesac\n`,
  );
}

const INTERNAL_ERROR =
  `printf 'on kvm'; printf 'KVM internal error. Suberror: 1\\nemulation failure\\n' >&2; exec sleep 60`;
const SERIAL = `printf 'on\\0tcg\\377\\n'; exit 0`;

describe("runQemu() with a stand-in", () => {
  const calls = (dir: ReturnType<typeof tempDir>) =>
    readFileSync(dir.file("calls"), "utf8").trimEnd().split("\n").map((line) => {
      const [pid, ...args] = line.split(" ");
      return { pid: Number(pid), args: args.join(" ").replace(`${MONITOR_ARGS.join(" ")} `, "") };
    });
  const device = (dir: ReturnType<typeof tempDir>) => {
    writeFileSync(dir.file("kvm"), "");
    return dir.file("kvm");
  };

  test("falls back to TCG after a KVM internal error, with both runs in the log", async () => {
    using dir = tempDir();
    writeFileSync(dir.file("disk"), "untouched");
    const { outcome, serial, notices } = await run(dir.file("log"), {
      command: standIn(dir, INTERNAL_ERROR, SERIAL),
      args: ["-m", "16"],
      accel: "auto",
      kvmDevice: device(dir),
      disks: [dir.file("disk")],
    });
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(calls(dir).map(({ args }) => args)).toEqual(["-accel kvm -m 16", "-accel tcg -m 16"]);
    expect(calls(dir).filter(({ pid }) => isAlive(pid))).toEqual([]);
    expect(Buffer.from(serial).toString("latin1")).toBe("on kvmon\0tcg\xff\n");
    expect(notices).toEqual([
      'KVM cannot run this guest ("KVM internal error. Suberror: 1"), starting again under TCG',
    ]);
    expect(readFileSync(dir.file("log"), "latin1")).toEndWith(
      "\n--- seedstrap: KVM cannot run this guest " +
        '("KVM internal error. Suberror: 1"), starting again under TCG ---\non\0tcg\xff\n',
    );
  });

  test("falls back to TCG where a guest under KVM prints nothing for a while", async () => {
    using dir = tempDir();
    const { outcome, notices } = await run(dir.file("log"), {
      command: standIn(dir, "printf 'a BIOS'; exec sleep 60", SERIAL),
      accel: "auto",
      kvmDevice: device(dir),
      aliveTexts: [" +> "],
      silenceMs: 500,
    });
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(notices).toHaveLength(1);
    expect(notices[0]).toContain("the guest has printed nothing for");
    expect(calls(dir).filter(({ pid }) => isAlive(pid))).toEqual([]);
  });

  test("waits for a guest that has shown to run under KVM, however long it is silent", async () => {
    using dir = tempDir();
    const { outcome, notices } = await run(dir.file("log"), {
      command: standIn(dir, "printf ' +'; printf '> cmd'; sleep 2; exit 0", "exit 1"),
      accel: "auto",
      kvmDevice: device(dir),
      aliveTexts: [" +> "],
      silenceMs: 500,
    });
    expect(outcome).toEqual({ accel: "kvm", code: 0 });
    expect(notices).toEqual([]);
  });

  test("ends a guest that prints a halt text, and fails", async () => {
    using dir = tempDir();
    const halts =
      "printf 'some words ** Safe to Po'; sleep 0.1; printf 'wer Off **'; exec sleep 60";
    const { error } = await run(dir.file("log"), {
      command: standIn(dir, "exit 1", halts),
      args: [],
      accel: "tcg",
      haltTexts: ["Kernel panic", "Safe to Power Off"],
    });
    expect(error).toMatchObject({
      kind: "crash",
      message: 'The guest has stopped: "Safe to Power Off"',
    });
    expect(calls(dir).filter(({ pid }) => isAlive(pid))).toEqual([]);
    expect(readFileSync(dir.file("log"), "latin1")).toBe("some words ** Safe to Power Off **");
  });

  test("falls back to TCG when QEMU cannot use KVM and exits", async () => {
    using dir = tempDir();
    const line = "qemu: -accel kvm: failed to initialize kvm: No such device";
    const { outcome, notices } = await run(dir.file("log"), {
      command: standIn(dir, `echo '${line}' >&2; exit 1`, SERIAL),
      accel: "auto",
      kvmDevice: device(dir),
    });
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(notices).toEqual([
      line,
      `KVM cannot run this guest ("${line}"), starting again under TCG`,
    ]);
  });

  test("does not even try KVM without the device", async () => {
    using dir = tempDir();
    const { outcome, notices } = await run(dir.file("log"), {
      command: standIn(dir, "exit 1", SERIAL),
      accel: "auto",
      kvmDevice: dir.file("missing"),
    });
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(calls(dir)).toHaveLength(1);
    expect(notices).toEqual([
      `KVM cannot be used (${dir.file("missing")} does not exist), starting under TCG`,
    ]);
  });

  test("does not start again when the first run has written to a disk", async () => {
    using dir = tempDir();
    const disk = dir.file("disk");
    writeFileSync(disk, "");
    const { error } = await run(dir.file("log"), {
      command: standIn(dir, `echo x >>'${disk}'; ${INTERNAL_ERROR}`, SERIAL),
      accel: "auto",
      kvmDevice: device(dir),
      disks: [disk],
    });
    expect(error).toMatchObject({ kind: "kvm" });
    expect((error as UserError).message).toContain(`it wrote to ${disk}`);
    expect(calls(dir)).toHaveLength(1);
  });

  test("does not start again after a failure that is not one of KVM, or under TCG", async () => {
    using dir = tempDir();
    const command = standIn(dir, "echo broken >&2; exit 2", INTERNAL_ERROR);
    const { error } = await run(dir.file("log"), {
      command,
      accel: "auto",
      kvmDevice: device(dir),
    });
    expect(error).toMatchObject({
      kind: "launch",
      message: `QEMU failed with exit code 2 (broken): ${command} -accel kvm`,
    });
    expect(calls(dir)).toHaveLength(1);
  });

  test("fails with a hint after a KVM internal error under a forced KVM", async () => {
    using dir = tempDir();
    const { error } = await run(dir.file("log"), {
      command: standIn(dir, INTERNAL_ERROR, SERIAL),
      accel: "kvm",
    });
    expect(error).toMatchObject({ kind: "kvm", hint: "Use --accel tcg" });
    expect(calls(dir)).toHaveLength(1);
    expect(calls(dir).filter(({ pid }) => isAlive(pid))).toEqual([]);
  });

  test("treats exit code 0 after an abort as an interrupt, and does not start again", async () => {
    using dir = tempDir();
    const controller = new AbortController();
    const { error } = await run(dir.file("log"), {
      command: standIn(dir, "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done", SERIAL),
      accel: "auto",
      kvmDevice: device(dir),
      signal: controller.signal,
      onSerial: () => controller.abort(),
    });
    expect(error).toMatchObject({ kind: "interrupt" });
    expect(calls(dir)).toHaveLength(1);
  });

  test("names a missing QEMU and how to get it", async () => {
    using dir = tempDir();
    const { error } = await run(dir.file("log"), { command: "qemu-none" });
    expect(error).toMatchObject({
      kind: "launch",
      hint: "Install qemu-none, or give its full path",
    });
  });

  test("fails before the guest starts when the log cannot be opened", async () => {
    using dir = tempDir();
    const command = standIn(dir, SERIAL, SERIAL);
    const { error } = await run(dir.file("no/log"), { command });
    expect(error).toMatchObject({ kind: "target" });
    expect(pidsWith(command)).toEqual([]);
  });

  test("reports once that the disk of the log is full, and lets the guest continue", async () => {
    using dir = tempDir();
    const { outcome, serial, notices } = await run("/dev/full", {
      command: standIn(dir, "", `echo one; sleep 0.1; echo two`),
    });
    expect(outcome).toEqual({ accel: "tcg", code: 0 });
    expect(Buffer.from(serial).toString()).toBe("one\ntwo\n");
    expect(notices).toHaveLength(1);
    expect(notices[0]).toContain("ENOSPC");
  });
});
