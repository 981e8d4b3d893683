// SPDX-License-Identifier: MIT
/**
 * Checks whether this machine has what a bootstrap needs, by trying it.
 *
 * @module
 */

import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { type Finding, good, type HostCheck, look, type Subject } from "../doctor/check.ts";
import { commitTimeMs } from "../doctor/clock.ts";
import { checkEngine } from "../doctor/container.ts";
import { checkDirectory, namespaceSettings } from "../doctor/directory.ts";
import { checkDisk } from "../doctor/disk.ts";
import {
  checkClock,
  checkFileSize,
  checkLoop,
  checkMemory,
  checkMounts,
  checkOpenFiles,
  checkPorts,
  checkSetpriv,
  checkWriting,
  hostMemory,
  processLimits,
} from "../doctor/host.ts";
import { checkAccel, checkKvm, checkQemu, type MachineJob } from "../doctor/machine.ts";
import { checkServers, serversOf } from "../doctor/servers.ts";
import {
  checkInodes,
  checkSpaceFor,
  checkStoreSpace,
  nearestDirectory,
  spaceAt,
  type SpaceNeed,
  spaceNeed,
} from "../doctor/space.ts";
import { servedMirrors } from "../plan/config.ts";
import {
  hasExternalDisk,
  type Mode,
  startOf,
  startsInDirectory,
  usesRunningKernel,
} from "../plan/options.ts";
import { writing } from "../refused.ts";
import { makeScratch, SCRATCH_PREFIX } from "../runtime/scratch.ts";
import { planBuild, type PlannedBuild, type PlanRequest } from "./build.ts";
import { checkLimits, checkMissing, checkTargetDirectory } from "./check.ts";
import type { AccelChoice } from "./run_request.ts";

/** What to check. */
export interface DoctorRequest {
  /** A plan for each mode, as a build would get it, with the same options but the mode. */
  readonly plans: readonly [PlanRequest, ...PlanRequest[]];
  /** Whether there is a checkout to plan with. */
  readonly hasTree: boolean;
  readonly target: string;
  readonly accel: AccelChoice;
  /** Whether servers are asked. */
  readonly isOnline: boolean;
  /** /dev/kvm if absent. */
  readonly kvmDevice?: string;
}

/** What was found. */
export interface DoctorReport {
  /** The modes that were asked for, and whether this machine has all that they need. */
  readonly modes: readonly { readonly mode: Mode; readonly isReady: boolean }[];
  readonly checks: readonly HostCheck[];
}

/** Told what is looked at. */
export interface DoctorEvents {
  readonly onCheck?: (name: string) => void;
}

/** What the groups of checks share. */
interface Examination {
  readonly request: DoctorRequest;
  readonly modes: readonly Mode[];
  /** A directory of ours for temporary files. */
  readonly scratch: string;
  readonly signal: AbortSignal;
  readonly add: (
    subject: Subject,
    run?: () => Finding | Promise<Finding>,
  ) => Promise<HostCheck>;
}

/**
 * Looks at everything, whatever is missing. Nothing is left behind.
 *
 * @throws {UserError} "target" where no temporary directory can be made; "interrupt".
 */
export async function examineHost(
  request: DoctorRequest,
  events: DoctorEvents,
  signal: AbortSignal,
): Promise<DoctorReport> {
  const prefix = join(tmpdir(), "seedstrap-doctor-");
  const scratch = writing(tmpdir(), () => makeScratch(prefix), "TMPDIR");
  const checks: HostCheck[] = [];
  const modes = request.plans.map(({ options }) => options.mode);
  const add: Examination["add"] = async (subject, run) => {
    throwIfInterrupted(signal);
    events.onCheck?.(subject.name);
    const check = await look(subject, run);
    checks.push(check);
    return check;
  };
  const examination = { request, modes, scratch, signal, add };
  try {
    await examineMachine(examination);
    await examineSystem(examination);
    const jobs = await examinePlans(examination);
    await examineTarget(examination, jobs);
    await examineServers(examination, jobs);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const isReady = (mode: Mode) =>
    !checks.some(({ result, modes }) => result === "missing" && modes.includes(mode));
  return { modes: modes.map((mode) => ({ mode, isReady: isReady(mode) })), checks };
}

/**
 * Turns what is missing into an error.
 *
 * @throws {UserError} "launch"
 */
export function checkReady({ checks, modes }: DoctorReport): void {
  const unready = modes.flatMap(({ mode, isReady }) => isReady ? [] : [mode]);
  if (unready.length === 0) return;
  const names = checks.flatMap(({ name, result }) => result === "missing" ? [name] : []);
  throw new UserError(
    "launch",
    `This machine is not ready for ${unready.join(", ")}: ${names.join(", ")}`,
    { hint: "What is missing has its remedy in the list" },
  );
}

/** QEMU, and what it takes of the machine. */
async function examineMachine(examination: Examination): Promise<void> {
  const { request, scratch, signal, add } = examination;
  const { kvmDevice = "/dev/kvm" } = request;
  const options = request.plans.find(({ options }) => options.mode === "qemu")?.options;
  if (options === undefined) return;
  const job: MachineJob = { options, scratch, kvmDevice, signal };
  const modes: Mode[] = ["qemu"];
  const qemu = await add(
    { name: "QEMU", modes, needs: "the program, and the machine of a PC" },
    () => checkQemu(job),
  );
  if (qemu.result === "ok") await examineAccels(examination, job);
  await add(
    { name: "memory", modes, needs: "what the guest gets (-qr)" },
    () => checkMemory(hostMemory(), options),
  );
  await add({
    name: "setpriv",
    modes,
    needs: "to end QEMU where seedstrap is killed",
    unneeded: process.platform === "linux" ? undefined : "only on Linux",
  }, () => checkSetpriv(signal));
}

async function examineAccels({ request, add }: Examination, job: MachineJob): Promise<void> {
  const { accel } = request;
  const modes: Mode[] = ["qemu"];
  const isKvm = accel === "kvm" || accel === "auto" && process.platform === "linux";
  const unneeded = accel === "auto" ? "only on Linux" : `--accel ${accel} is asked for`;
  await add({
    name: "KVM",
    modes,
    needs: "a KVM that runs real mode and the kernels of a bootstrap; without it, all is slow",
    ...!isKvm && { unneeded },
  }, isKvm ? () => checkKvm(job, accel === "kvm") : undefined);
  if (accel === "hvf") {
    await add(
      { name: "HVF", modes, needs: "the hypervisor of macOS" },
      () => checkAccel("hvf", job),
    );
  }
  const isTcg = accel === "auto" || accel === "tcg";
  await add({
    name: "TCG",
    modes,
    needs: "QEMU's own emulation, where KVM does not work",
    ...!isTcg && { unneeded },
  }, isTcg ? () => checkAccel("tcg", job) : undefined);
}

/** What depends neither on the target nor on a checkout. */
async function examineSystem({ request, modes, scratch, signal, add }: Examination): Promise<void> {
  const { plans } = request;
  const [{ options }] = plans;
  const onMachines = modes.filter((mode) => !usesRunningKernel(mode));
  const makesRoot = plans.some(({ options }) => startOf(options) === "disk");
  if (onMachines.length > 0) {
    await add({
      name: "mke2fs",
      modes: onMachines,
      needs: "to make disks with a file system",
      unneeded: makesRoot || hasExternalDisk(options) ? undefined : "only for --kernel and --repo",
    }, () => checkDisk(scratch, false, signal));
    await add({
      name: "debugfs",
      modes: onMachines,
      needs: "to make the devices of an archive on such a disk",
      unneeded: makesRoot && options.hasPreseed
        ? undefined
        : "only for --kernel with --early-preseed",
    }, () => checkDisk(scratch, true, signal));
  }
  await add(
    { name: "temporary files", modes, needs: "some room for them (TMPDIR)" },
    () => checkWriting(scratch, "TMPDIR"),
  );
  await add(
    { name: "open files", modes, needs: "enough of them at once" },
    () => checkOpenFiles(processLimits()),
  );
  await add({
    name: "loop devices",
    modes: [],
    needs: "nothing: disks are made and read without them",
    unneeded: "no mode needs them",
  }, checkLoop);
  const serving = plans.find(({ options }) => servedMirrors(options).length > 0);
  await add({
    name: "mirror ports",
    modes: serving === undefined ? [] : modes.filter((mode) => mode !== "bare-metal"),
    needs: "ports on which the machine gets distfiles from mirrors that are directories",
    unneeded: serving === undefined ? "no mirror is a directory" : undefined,
  }, serving && (() => checkPorts(serving.options, serving.isPortChosen ?? true)));
}

type Jobs = ReadonlyMap<Mode, PlannedBuild>;

/** The checkout: its plan for each mode, and its commit, which is older than now. */
async function examinePlans(examination: Examination): Promise<Jobs> {
  const { request, modes, scratch, signal, add } = examination;
  const { plans, hasTree, isOnline, target } = request;
  const jobs = new Map<Mode, PlannedBuild>();
  for (const plan of plans) {
    const { mode } = plan.options;
    await add(
      {
        name: nameFor("plan", mode, modes),
        modes: [mode],
        needs: "a checkout whose plan keeps all limits",
        unneeded: hasTree ? undefined : "no checkout is given",
      },
      !hasTree ? undefined : async () => {
        const isOffline = !isOnline || plan.isOffline === true;
        const job = await planBuild({ ...plan, isOffline }, signal);
        jobs.set(mode, job);
        checkMissing(job.plan, false, {});
        checkLimits(job.plan, false, {});
        checkTargetDirectory(target, job.tree);
        return good("it breaks no limit");
      },
    );
  }
  await add({ name: "clock", modes, needs: "the right time" }, async () => {
    const root = resolve(plans[0].tree);
    return checkClock(Date.now(), hasTree ? await commitTimeMs(root, scratch, signal) : undefined);
  });
  return jobs;
}

/** Returns the name of a check that is made for each mode. */
function nameFor(name: string, mode: Mode, modes: readonly Mode[]): string {
  return modes.length === 1 ? name : `${name}, ${mode}`;
}

/** The file system of the target: whether it can be written to, its room, what can start on it. */
async function examineTarget(examination: Examination, jobs: Jobs): Promise<void> {
  const { request, modes, add } = examination;
  const target = resolve(request.target);
  const dir = nearestDirectory(target);
  let scratch: string | undefined;
  try {
    await add({ name: "target", modes, needs: "a directory that can be written to" }, () => {
      scratch = writing(dir, () => makeScratch(join(dir, SCRATCH_PREFIX)), "--target");
      return checkWriting(scratch, "--target");
    });
    await add({
      name: "mounts",
      modes: modes.filter(startsInDirectory),
      needs: "a target with nothing mounted in it",
      unneeded: modes.some(startsInDirectory) ? undefined : "only for chroot and bwrap",
    }, () => checkMounts(target));
    for (const plan of request.plans) {
      const { options, store } = plan;
      const need = spaceNeed(options, jobs.get(options.mode), { dir, store: resolve(store) });
      await examineRoom(examination, plan, need, dir);
      if (scratch !== undefined) await examineStart(examination, plan, need, scratch);
    }
  } finally {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
  }
}

/** The room for a bootstrap of one mode. */
async function examineRoom(
  { modes, add }: Examination,
  { options, store }: PlanRequest,
  need: SpaceNeed,
  dir: string,
): Promise<void> {
  const { mode } = options;
  const subject = (name: string, needs: string) => ({
    name: nameFor(name, mode, modes),
    modes: [mode],
    needs,
  });
  const isKnown = need.buildBytes + need.runBytes > 0;
  await add({
    ...subject("space", "room for what is built, and for what the run adds"),
    unneeded: isKnown ? undefined : "no checkout is given",
  }, isKnown ? () => checkSpaceFor(spaceAt(dir), need) : undefined);
  if (need.storeBytes > 0) {
    await add(
      subject("store", "room for what is downloaded"),
      () => checkStoreSpace(spaceAt(nearestDirectory(resolve(store))), need),
    );
  }
  if (startsInDirectory(mode) && need.files > 0) {
    await add(subject("inodes", "one for each file"), () => checkInodes(spaceAt(dir), need));
  }
}

/** What a mode does on the file system of the target. */
async function examineStart(
  { modes, signal, add }: Examination,
  { options }: PlanRequest,
  { largestBytes }: SpaceNeed,
  scratch: string,
): Promise<void> {
  const { mode } = options;
  if (mode === "chroot") {
    await add({
      name: mode,
      modes: [mode],
      needs: "root or sudo; 32-bit programs, devices and proc in the target",
    }, () => checkDirectory({ options, scratch, signal }));
  } else if (mode === "bwrap") {
    const settings = namespaceSettings();
    const shown = settings.length === 0 ? "" : ` (${settings.join(", ")})`;
    await add({
      name: mode,
      modes: [mode],
      needs: `user namespaces${shown}; 32-bit programs in the target`,
    }, () => checkDirectory({ options, scratch, signal }));
  } else if (mode === "container") {
    await add(
      { name: mode, modes: [mode], needs: "podman or docker, to run what is built" },
      () => checkEngine(signal),
    );
  } else if (largestBytes > 0) {
    await add({
      name: nameFor("file size", mode, modes),
      modes: [mode],
      needs: "files as large as the images",
    }, () => checkFileSize(scratch, largestBytes, processLimits()));
  }
}

/** Mirrors, or the hosts of distfiles. */
async function examineServers(
  { request, modes, signal, add }: Examination,
  jobs: Jobs,
): Promise<void> {
  const [{ options }] = request.plans;
  const urls = serversOf(options, jobs.get(options.mode)?.plan);
  const isAsked = request.isOnline && urls.length > 0;
  await add({
    name: "servers",
    modes,
    needs: "an answer of the mirrors, or of the hosts that have most distfiles",
    unneeded: isAsked
      ? undefined
      : request.isOnline
      ? "no server is known: see --mirrors and --tree"
      : "only with --online",
  }, isAsked ? () => checkServers(urls, signal) : undefined);
}
