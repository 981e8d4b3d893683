// SPDX-License-Identifier: MIT
/**
 * Runs guests with one option of QEMU changed at a time, alternating, and prints a table. Started by
 * qemu.sh, which describes it.
 *
 * usage: bun scripts/bench/qemu.ts DIR ROUNDS VARIANTS KERNEL TARGET
 *
 * Empty VARIANTS are all; without KERNEL or TARGET those guests are left out.
 */

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { LAYER_CLUSTER_BYTES, qcow2 } from "../../src/format/qcow2.ts";
import { layeredDriveArgs } from "../../src/plan/layers.ts";

const [dir, rounds = "3", only = "", kernel = "", target = ""] = process.argv.slice(2);
if (dir === undefined || kernel === "" && target === "") {
  process.stderr.write("usage: qemu.ts DIR ROUNDS VARIANTS KERNEL TARGET\n");
  process.exit(2);
}
/** Lines of the console of builder-hex0, which prints two for a file that it loads. */
const HEX_LINES = 400;
const USER_HZ = 100;
const LIMIT_MS = 600_000;

/** How QEMU is started: what differs from seedstrap's own way. */
interface Variant {
  readonly name: string;
  /** Appended to -accel tcg. */
  readonly tcg?: string;
  /** Appended to the -drive of a raw image. */
  readonly drive?: string;
  /** Layers over the images, with clusters of so many bytes. */
  readonly clusterBytes?: number;
  readonly extra?: readonly string[];
}

const VARIANTS: readonly Variant[] = [
  { name: "base" },
  { name: "cache=unsafe", drive: ",cache=unsafe" },
  { name: "cache=none", drive: ",cache=none" },
  { name: "cache=none aio=native", drive: ",cache=none,aio=native" },
  { name: "cache=none aio=io_uring", drive: ",cache=none,aio=io_uring" },
  { name: "aio=io_uring", drive: ",aio=io_uring" },
  { name: "tb-size=128", tcg: ",tb-size=128" },
  { name: "tb-size=2047", tcg: ",tb-size=2047" },
  { name: "thread=single", tcg: ",thread=single" },
  {
    name: "no huge pages",
    extra: ["-machine", "memory-backend=ram", "-object", "memory-backend-memfd,id=ram,size=RAM"],
  },
  { name: `layers ${LAYER_CLUSTER_BYTES / 1024}K`, clusterBytes: LAYER_CLUSTER_BYTES },
  { name: "layers 16K", clusterBytes: 16384 },
  { name: "layers 64K", clusterBytes: 65536 },
];

interface Guest {
  readonly name: string;
  readonly ram: string;
  readonly images: readonly string[];
  /** Whether the guest writes to the images themselves: each run has a new copy. */
  readonly isWritten: boolean;
  readonly args: readonly string[];
  readonly begin: (text: string) => boolean;
  readonly end: (text: string) => boolean;
}

interface Measured {
  readonly wallMs: number;
  readonly cpuMs: number;
}

const lines = (text: string) => text.split("\n").length - 1;
const guests: Guest[] = [];
if (kernel !== "") {
  guests.push({
    name: "linux",
    ram: "1024M",
    images: [join(dir, "linux.img")],
    isWritten: true,
    args: ["-kernel", kernel, "-initrd", join(dir, "initrd"), "-append", "console=ttyS0 quiet"],
    begin: (text) => text.includes("BENCH-BEGIN"),
    end: (text) => text.includes("BENCH-END"),
  });
}
if (target !== "") {
  guests.push({
    name: "hex",
    ram: "4096M",
    images: ["init.img", "payload.img"].map((name) => join(target, name)),
    isWritten: true,
    args: ["-machine", "kernel-irqchip=split"],
    begin: (text) => lines(text) >= 4,
    end: (text) => lines(text) >= HEX_LINES,
  });
}

/** The disks of a run, as arguments. Nothing of an earlier run is in them. */
function disks(guest: Guest, { drive = "", clusterBytes }: Variant): string[] {
  if (clusterBytes !== undefined) {
    return layeredDriveArgs(guest.images.map((image, index) => {
      const path = join(dir!, `layer${index}.qcow2`);
      rmSync(path, { force: true });
      const bytes = qcow2(statSync(image).size, { name: image, format: "raw" }, clusterBytes);
      writeFileSync(path, bytes);
      return { image, layers: [path] };
    }));
  }
  return guest.images.flatMap((image, index) => {
    const path = join(dir!, `copy${index}.img`);
    rmSync(path, { force: true });
    execFileSync("cp", ["--sparse=always", image, path]);
    execFileSync("sync", [path]);
    return ["-drive", `file=${path},format=raw${drive}`];
  });
}

/** Milliseconds of processor time that a process has had. */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 1000 / USER_HZ;
}

async function measure(guest: Guest, variant: Variant): Promise<Measured> {
  const args = [
    ...["-accel", `tcg${variant.tcg ?? ""}`, "-m", guest.ram, "-smp", "2", "-nic", "none"],
    ...[...guest.args, ...disks(guest, variant)],
    ...(variant.extra ?? []).map((arg) => arg.replace("RAM", guest.ram)),
    ...["-no-reboot", "-nographic"],
  ];
  const child = spawn("qemu-system-x86_64", args, { stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit");
  let [text, error] = ["", ""];
  let begun: Measured | undefined;
  const { pid } = child;
  const now = () => ({ wallMs: performance.now(), cpuMs: cpuMsOf(pid!) });
  child.stderr.on("data", (chunk: Uint8Array) => error += new TextDecoder().decode(chunk));
  const measured = new Promise<Measured>((done, fail) => {
    child.on("exit", () => fail(new Error(`${variant.name}: ${error || text.slice(-1000)}`)));
    setTimeout(() => fail(new Error(`${variant.name}: no end`)), LIMIT_MS).unref();
    child.stdout.on("data", (chunk: Uint8Array) => {
      text += new TextDecoder("latin1").decode(chunk);
      if (text.includes("BENCH-FAILED")) fail(new Error(text));
      if (begun === undefined && guest.begin(text)) begun = now();
      if (begun === undefined || !guest.end(text)) return;
      const ended = now();
      done({ wallMs: ended.wallMs - begun.wallMs, cpuMs: ended.cpuMs - begun.cpuMs });
    });
  });
  try {
    return await measured;
  } finally {
    child.kill("SIGKILL");
    await exited;
  }
}

const median = (values: readonly number[]) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
};
const names = only.split("|").filter((name) => name !== "");
const variants = VARIANTS.filter(({ name }) =>
  name === "base" || names.length === 0 || names.includes(name)
);
for (const guest of guests) {
  const results = new Map<string, Measured[]>(variants.map(({ name }) => [name, []]));
  for (let round = 1; round <= Number(rounds); round++) {
    for (const variant of variants) {
      const result = await measure(guest, variant);
      results.get(variant.name)!.push(result);
      process.stderr.write(
        `${guest.name} ${round} ${variant.name}: ${(result.wallMs / 1000).toFixed(2)} s, ` +
          `${(result.cpuMs / 1000).toFixed(2)} s of processor time\n`,
      );
    }
  }
  process.stdout.write(`| ${guest.name} | wall | of base | processor | of base |\n`);
  process.stdout.write("| --- | --- | --- | --- | --- |\n");
  const base = results.get("base")!;
  for (const [name, all] of results) {
    const cells = (["wallMs", "cpuMs"] as const).flatMap((key) => [
      `${(median(all.map((result) => result[key])) / 1000).toFixed(2)} s`,
      median(all.map((result, round) => result[key] / base[round]![key])).toFixed(2),
    ]);
    process.stdout.write(`| ${[name, ...cells].join(" | ")} |\n`);
  }
}
process.exit(0);
