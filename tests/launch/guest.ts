// SPDX-License-Identifier: MIT
/**
 * Tiny guests for QEMU, stand-ins for programs, and other helpers of the tests in this directory.
 *
 * @module
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type QemuOptions, type QemuOutcome, runQemu } from "../../src/launch/qemu.ts";
import { DENO } from "../support/run.ts";

/** The QEMU that the tests run. */
export const QEMU = "qemu-system-x86_64";

/** The command that runs a program under each runtime available; the tests run under Bun. */
export const RUNTIMES: readonly (readonly [name: string, argv: readonly [string, ...string[]]])[] =
  (() => {
    if (existsSync(DENO)) {
      return [["Bun", [process.execPath]], ["Deno", [DENO, "run", "--quiet", "-A"]]];
    }
    console.log("skipped: programs under Deno, as it is not in node_modules");
    return [["Bun", [process.execPath]]];
  })();

/** The path of a module of the room, for programs that import it. */
export function roomPath(fileName: string): string {
  return new URL(`../../src/launch/${fileName}`, import.meta.url).pathname;
}

/** Makes a temporary directory that `using` removes. */
export function tempDir(): Disposable & { readonly path: string; file(name: string): string } {
  const path = mkdtempSync(join(tmpdir(), "seedstrap-launch-"));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Writes an executable script of /bin/sh. */
export function script(path: string, body: string): string {
  writeFileSync(path, `#!/bin/sh\n${body}`, { mode: 0o755 });
  return path;
}

/** Reports whether a process exists; a zombie does. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Returns the pids of the processes that have `path` in their command line; from /proc. */
export function pidsWith(path: string): number[] {
  return readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name)).map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(path);
    } catch {
      return false; // gone meanwhile
    }
  });
}

/** The result of {@link runQemu}: its `outcome`, or the `error` that it threw. */
export interface Collected {
  readonly outcome: QemuOutcome | undefined;
  readonly error: unknown;
  readonly serial: Uint8Array;
  readonly notices: readonly string[];
}

/** Runs QEMU or a stand-in, under TCG by default, and collects its output. */
export async function run(logPath: string, options: Partial<QemuOptions>): Promise<Collected> {
  const serial: number[] = [];
  const notices: string[] = [];
  let outcome: QemuOutcome | undefined;
  let error: unknown;
  try {
    outcome = await runQemu({
      command: QEMU,
      args: [],
      accel: "tcg",
      logPath,
      interactive: false,
      signal: new AbortController().signal,
      onSerial: (chunk) => void serial.push(...chunk),
      onNotice: (text) => void notices.push(text),
      ...options,
    });
  } catch (thrown) {
    error = thrown;
  }
  return { outcome, error, serial: Uint8Array.from(serial), notices };
}

/** Polls until `condition` holds; returns false if it does not within `limitMs`. */
export async function eventually(condition: () => boolean, limitMs = 30_000): Promise<boolean> {
  for (const end = performance.now() + limitMs; performance.now() < end;) {
    if (condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return condition();
}

/** Machine code for real mode, the mode after reset. */
export const code = {
  /** Writes bytes to COM1: `mov dx, 0x3f8`, then `mov al, n; out dx, al` for each. */
  print: (bytes: Uint8Array): number[] => [
    0xba,
    0xf8,
    0x03,
    ...[...bytes].flatMap((byte) => [0xb0, byte, 0xee]),
  ],
  /** `cli; hlt; jmp` back to the hlt. */
  hang: [0xfa, 0xf4, 0xeb, 0xfd],
  /** Reset through the keyboard controller: `mov al, 0xfe; out 0x64, al; hlt; jmp` back. */
  reset: [0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd],
  /**
   * A floating-point load from video memory: `mov ax, 0xa000; mov ds, ax; fld dword [0]`. KVM has
   * to emulate an access to a device, and cannot emulate this one.
   */
  kvmCannot: [0xb8, 0x00, 0xa0, 0x8e, 0xd8, 0xd9, 0x06, 0x00, 0x00],
};

/**
 * Makes a firmware of 64 KiB that only runs the given code, so that nothing else writes to the
 * serial console. Execution starts at its last 16 bytes: `jmp 0xf000:0`.
 */
export function firmware(...parts: (readonly number[])[]): Uint8Array {
  const rom = new Uint8Array(65536).fill(0xff);
  rom.set(parts.flat(), 0);
  rom.set([0xea, 0x00, 0x00, 0x00, 0xf0], 0xfff0);
  return rom;
}

/** Returns the arguments of QEMU for a guest that is a firmware. */
export function guestArgs(romPath: string): string[] {
  const machine = ["-machine", "kernel-irqchip=split", "-nic", "none"];
  return ["-m", "16", "-smp", "2", "-bios", romPath, ...machine, "-no-reboot", "-nographic"];
}
