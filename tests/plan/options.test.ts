// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import type { BuildOptions } from "../../src/plan/options.ts";
import { bootstrapConfig, servedMirrors } from "../../src/plan/config.ts";
import { parseCount, parseSizeMib } from "../../src/plan/options.ts";
import { planCommand } from "../../src/plan/plan.ts";
import { qemuArgs } from "../../src/plan/qemu.ts";
import { faultOf } from "../support/sources.ts";
import { buildOptions } from "../support/tree.ts";

test.each([
  ["512", 512],
  ["512M", 512],
  ["512m", 512],
  ["4G", 4096],
  ["4g", 4096],
  ["1", 1],
  ["16384G", 16777216],
  ["1T", 1048576],
  ["16t", 16777216],
])("parseSizeMib() reads %s as %d MiB", (text, mib) => {
  expect(parseSizeMib(text, "--x", 1)).toBe(mib);
});

test.each(
  [
    "0",
    "-1",
    "12x",
    "99999999999",
    "16385G",
    "17T",
    "",
    " 1",
    "1 ",
    "1.5",
    "1e3",
    "0x10",
    "G",
    "1K",
    "1GG",
  ],
)("parseSizeMib() refuses %j and names the option", (text) => {
  expect(faultOf(() => parseSizeMib(text, "--qemu-ram", 1))).toStartWith(
    `Cannot use ${JSON.stringify(text)} for --qemu-ram`,
  );
});

test("parseSizeMib() accepts 0 if that is the minimum", () => {
  expect(parseSizeMib("0", "--swap", 0)).toBe(0);
  expect(parseSizeMib("0G", "--swap", 0)).toBe(0);
});

test("parseCount() accepts whole numbers within its bounds", () => {
  expect(parseCount("1", "--cores", 1, 9)).toBe(1);
  expect(parseCount("9", "--cores", 1, 9)).toBe(9);
  for (const text of ["0", "10", "-1", "", "1.0", "1x", "9".repeat(20)]) {
    expect(faultOf(() => parseCount(text, "--cores", 1, 9))).toStartWith("Cannot use ");
  }
});

const config = (changes: Parameters<typeof buildOptions>[0], hasPayload = false) =>
  bootstrapConfig(buildOptions(changes), hasPayload).map(([name, value]) => `${name}=${value}`);

test("bootstrapConfig() has the variables of rootfs.py in its order, and PAYLOAD_REQUIRED", () => {
  expect(config({})).toEqual([
    "ARCH=x86",
    "ARCH_DIR=x86",
    "FORCE_TIMESTAMPS=False",
    "CHROOT=False",
    "UPDATE_CHECKSUMS=False",
    "JOBS=2",
    "SWAP_SIZE=0",
    "FINAL_JOBS=2",
    "INTERNAL_CI=False",
    "INTERACTIVE=False",
    "QEMU=True",
    "BARE_METAL=False",
    "DISK=sda",
    "KERNEL_BOOTSTRAP=True",
    "BUILD_KERNELS=False",
    "CONFIGURATOR=False",
    "MIRRORS_LEN=0",
    "PAYLOAD_REQUIRED=False",
  ]);
});

test.each(
  [
    [{ mode: "bare-metal" }, ["QEMU=False", "BARE_METAL=True", "DISK=sda"]],
    [{ interactive: true }, ["INTERACTIVE=True", "QEMU=True", "BARE_METAL=True"]],
    [{ mode: "bare-metal", interactive: true }, ["INTERACTIVE=True", "QEMU=False"]],
    [{ updateChecksums: true }, ["UPDATE_CHECKSUMS=True", "BUILD_KERNELS=True"]],
    [{ buildKernels: true }, ["UPDATE_CHECKSUMS=False", "BUILD_KERNELS=True"]],
    [{ arch: "amd64" }, ["ARCH=amd64", "ARCH_DIR=AMD64"]],
    [{ cores: 7, swapMib: 99 }, ["JOBS=7", "FINAL_JOBS=7", "SWAP_SIZE=99"]],
    [{ internalCi: "pass1" }, ["INTERNAL_CI=pass1"]],
    [{ configurator: true, forceTimestamps: true }, ["CONFIGURATOR=True", "FORCE_TIMESTAMPS=True"]],
  ] satisfies [Parameters<typeof buildOptions>[0], string[]][],
)("bootstrapConfig() for %j has %j", (changes, wanted) => {
  expect(config(changes)).toEqual(expect.arrayContaining(wanted));
});

const MIRRORS = [
  { kind: "http", url: "http://m" },
  { kind: "directory", path: "/a" },
  { kind: "directory", path: "/b" },
] as const;

test("bootstrapConfig() has the URLs of mirrors for the guest", () => {
  expect(config({ mirrors: MIRRORS })).toEqual(expect.arrayContaining([
    'MIRRORS="http://m http://10.0.2.2:24816 http://10.0.2.2:24817"',
    "MIRRORS_LEN=3",
  ]));
  expect(config({ mirrors: MIRRORS, mode: "bare-metal" })).toEqual(
    expect.arrayContaining(['MIRRORS="http://m"', "MIRRORS_LEN=1"]),
  );
  const external = config({ mirrors: MIRRORS, externalSources: true }, true);
  expect(external.join()).not.toContain("MIRRORS");
  expect(external.at(-1)).toBe("PAYLOAD_REQUIRED=True");
});

test("servedMirrors() returns the directories that a guest of QEMU downloads from", () => {
  expect(servedMirrors(buildOptions({ mirrors: MIRRORS, mirrorPort: 5000 }))).toEqual([
    { path: "/a", port: 5000 },
    { path: "/b", port: 5001 },
  ]);
  expect(servedMirrors(buildOptions({ mirrors: MIRRORS, externalSources: true }))).toEqual([]);
  expect(servedMirrors(buildOptions({ mirrors: MIRRORS, mode: "bare-metal" }))).toEqual([]);
});

test("qemuArgs() has the drives in order, and doubles commas in their paths", () => {
  const options = buildOptions({ cores: 3, qemuRamMib: 5000 });
  expect(qemuArgs(options, ["/a,b/init.img", "/c,,d=e"])).toEqual([
    "-m",
    "5000M",
    "-smp",
    "3",
    "-drive",
    "file=/a,,b/init.img,format=raw",
    "-drive",
    "file=/c,,,,d=e,format=raw",
    "-machine",
    "kernel-irqchip=split",
    "-nic",
    "user,ipv6=off,model=e1000",
    "-no-reboot",
    "-nographic",
  ]);
  expect(qemuArgs({ ...options, interactive: true }, [])).not.toContain("-nographic");
});

test("planCommand() returns no command for bare metal", () => {
  const options = buildOptions({ mode: "bare-metal" });
  expect(planCommand({ options, images: [] }, "/t")).toBeUndefined();
});

test("planCommand() starts a directory with an empty environment", () => {
  const command = (changes: Partial<BuildOptions>) =>
    planCommand({ options: buildOptions(changes), images: [] }, "/t")!.join(" ");
  const seed = "/bootstrap-seeds/POSIX/x86/kaem-optional-seed";
  expect(command({ mode: "chroot" })).toBe(`env -i PATH=/bin chroot /t ${seed}`);
  const devices = ["null", "zero", "random", "urandom", "ptmx", "tty"]
    .map((name) => `--dev-bind /dev/${name} /dev/${name}`).join(" ");
  const bwrap = (network: string) =>
    `env -i bwrap --unshare-user --uid 0 --gid 0 ${network}--setenv PATH /usr/bin --bind /t / ` +
    `--dir /dev ${devices} --tmpfs /dev/shm --proc /proc --bind /sys /sys --tmpfs /tmp ${seed}`;
  expect(command({ mode: "bwrap" })).toBe(bwrap(""));
  expect(command({ mode: "bwrap", externalSources: true })).toBe(bwrap("--unshare-net "));
});
