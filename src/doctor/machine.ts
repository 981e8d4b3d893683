// SPDX-License-Identifier: MIT
/**
 * Checks QEMU and its accelerators, by booting a program of our own as a bootstrap is booted.
 *
 * @module
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { classifyKvmFailure, kvmObstacle } from "../launch/accel.ts";
import { installHint, requireProgram, runProcess, shellQuote } from "../launch/process.ts";
import { type Accel, runQemu } from "../launch/qemu.ts";
import type { BuildOptions } from "../plan/options.ts";
import { qemuArgs } from "../plan/qemu.ts";
import { VERDICT_CODES } from "../preflight/qemu.ts";
import { writing } from "../refused.ts";
import { absent, doubtful, type Finding, good } from "./check.ts";
import { GUEST_STAGES, guestImage } from "./guest.ts";

const INSTALL_QEMU = installHint("qemu-system-x86", "qemu");
/** The program takes less than a second; a machine under load may be slow. */
const LIMIT_MS = 60_000;
/** The machine type of a real run, by its own name and that of its version. */
const MACHINE = /^pc(?:-i440fx-\S+)? /m;

/** What to check, and where its files go. */
export interface MachineJob {
  readonly options: BuildOptions;
  /** A directory of ours. */
  readonly scratch: string;
  readonly kvmDevice: string;
  readonly signal: AbortSignal;
}

/**
 * Checks that QEMU is there and has the machine type.
 *
 * @throws {UserError} "launch" where it cannot be run.
 */
export async function checkQemu({ options, signal }: MachineJob): Promise<Finding> {
  const command = options.qemuCommand;
  await requireProgram(command, { hint: INSTALL_QEMU });
  const version = /version (\d[\w.]*)/.exec(await outputOf([command, "--version"], signal))?.[1];
  const machines = await outputOf([command, "-machine", "help"], signal);
  if (!MACHINE.test(machines)) {
    return absent(`${command} has no machine type "pc"`, INSTALL_QEMU);
  }
  return good(`QEMU ${version ?? "of an unknown version"} with machine type pc`);
}

async function outputOf(argv: readonly string[], signal: AbortSignal): Promise<string> {
  let text = "";
  const take = (chunk: Uint8Array) => text += new TextDecoder().decode(chunk);
  const { code, signal: ended } = await runProcess({
    argv,
    stdin: "ignore",
    onStdout: take,
    onStderr: take,
    signal: AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]),
  });
  throwIfInterrupted(signal);
  if (code === 0) return text;
  const end = ended === null ? `exit code ${code}` : ended;
  throw new UserError("launch", `${shellQuote(argv)} failed (${end}): ${lastLine(text)}`, {
    hint: INSTALL_QEMU,
  });
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}

/** Checks that TCG, or another accelerator than KVM, runs the program. */
export async function checkAccel(accel: Accel, job: MachineJob): Promise<Finding> {
  const { fault, done } = await bootGuest(accel, job);
  if (fault === undefined) return good(`it runs ${summary()}`);
  return absent(`${fault}; ${stopped(done)}`, INSTALL_QEMU);
}

/**
 * Checks that KVM runs the program.
 *
 * @param isDemanded False: without it a bootstrap goes on under TCG, so that anything wrong is only a
 * warning.
 */
export async function checkKvm(job: MachineJob, isDemanded: boolean): Promise<Finding> {
  const wrong = isDemanded ? absent : doubtful;
  const obstacle = await kvmObstacle(job.kvmDevice);
  if (obstacle !== undefined) return wrong(obstacle, kvmRemedy(obstacle));
  const { fault, done } = await bootGuest("kvm", job);
  if (fault === undefined) return good(`it runs ${summary()}`);
  const remedy = "Use --accel tcg, which is slower: KVM cannot run a bootstrap on this machine";
  return wrong(`${fault}; ${stopped(done)}`, remedy);
}

function kvmRemedy(obstacle: string): string {
  if (process.platform !== "linux") return "Use --accel tcg";
  return obstacle.endsWith("does not exist")
    ? "As root: modprobe kvm_intel || modprobe kvm_amd; virtualisation has to be on in the firmware"
    : 'Join its group and log in again: sudo adduser "$USER" kvm';
}

function summary(): string {
  return `${GUEST_STAGES.length} of ${GUEST_STAGES.length} parts of a small bootstrap`;
}

/** Says how far the program came. */
function stopped(done: number): string {
  const [next] = GUEST_STAGES.slice(done);
  if (done === 0) return "nothing of the guest ran";
  return next === undefined ? "at the very end" : `it stopped at ${next[1]}`;
}

/** How the program ended. */
interface GuestEnd {
  /** Why it did not come to its end, as a phrase; undefined where it did. */
  readonly fault: string | undefined;
  /** Number of stages that it has done. */
  readonly done: number;
}

/**
 * Boots the program with the arguments of a real run, its memory, network and all.
 *
 * @throws {UserError} "interrupt", "target"
 */
async function bootGuest(
  accel: Accel,
  { options, scratch, signal }: MachineJob,
): Promise<GuestEnd> {
  const image = join(scratch, `guest-${accel}.img`);
  const logPath = join(scratch, `guest-${accel}.log`);
  writing(image, () => writeFileSync(image, guestImage()), "TMPDIR");
  const late = AbortSignal.timeout(LIMIT_MS);
  const notices: string[] = [];
  const end = await runQemu({
    command: options.qemuCommand,
    args: [
      ...qemuArgs({ ...options, interactive: false, kernel: undefined }, [image]),
      ...["-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
    ],
    accel,
    interactive: false,
    logPath,
    goodCodes: [VERDICT_CODES.ok, VERDICT_CODES.failed, 0],
    signal: AbortSignal.any([signal, late]),
    onSerial: () => {},
    onNotice: (text) => notices.push(text),
  }).then(({ code }) => code, (error: unknown) => error);
  throwIfInterrupted(signal);
  const log = readFileSync(logPath, "latin1");
  const done = GUEST_STAGES.findIndex(([word]) => !log.includes(`doctor: ${word}\r`));
  const stages = done < 0 ? GUEST_STAGES.length : done;
  return { done: stages, fault: faultOf(end, late.aborted, log, notices) };
}

function faultOf(
  end: unknown,
  isLate: boolean,
  log: string,
  notices: readonly string[],
): string | undefined {
  if (end === VERDICT_CODES.ok) return undefined;
  if (end === VERDICT_CODES.failed) return "the guest computed something else than it must";
  if (end === 0) return "the guest was reset";
  if (isLate) return `no end within ${LIMIT_MS / 1000} s`;
  if (!(end instanceof UserError)) throw end;
  if (["target", "host-disk-full"].includes(end.kind)) throw end;
  const kvm = classifyKvmFailure(log);
  return kvm?.line ?? notices.at(-1) ?? end.message;
}
