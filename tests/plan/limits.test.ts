// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { GIB, MIB } from "../../src/format/segment.ts";
import { limitError } from "../../src/job/check.ts";
import {
  computeLimits,
  FILE_STORE_BYTES,
  type Limit,
  type LimitInput,
  MAX_FILES,
} from "../../src/plan/limits.ts";

const FINE: LimitInput = {
  entries: [{ path: ".", size: 0 }, { path: "./steps/a/x", size: 100 }],
  seedFiles: 6,
  restored: [{ name: "r", amount: 10 }],
  restoredEnd: 100,
  unknown: { entries: 0, restored: 0, surviving: 0, installed: 0 },
  surviving: [{ name: "s", amount: 10 }],
  fiwix: { ramdiskBytes: 1000 * MIB, kexecBytes: 100 * MIB },
  installed: [],
  movesToDisk: true,
  ramMib: 4096,
  disk: { sizeBytes: 16 * GIB, dataBytes: 2 * MIB },
  costs: undefined,
  payloadHelps: true,
};

/** Returns the limits that an input breaks. */
const broken = (changes: Partial<LimitInput>): Limit[] =>
  computeLimits({ ...FINE, ...changes }).filter((limit) => limit.broken);
/** Returns the only limit that an input breaks. */
function only(changes: Partial<LimitInput>): Limit {
  const limits = broken(changes);
  expect(limits.map(({ id }) => id)).toHaveLength(1);
  return limits[0]!;
}
const files = (count: number, dir = "./steps/big") =>
  Array.from({ length: count }, (_, i) => ({ path: `${dir}/${i}`, size: 1 }));

test("computeLimits() returns every limit if all apply, and none is broken", () => {
  expect(computeLimits(FINE).map(({ id }) => id)).toEqual([
    "files",
    "file-store",
    "path",
    "memory",
    "fiwix-ramdisk",
    "kexec-ramdisk",
    "fiwix-disk",
    "disk",
    "system-disk",
  ]);
  expect(broken({})).toEqual([]);
});

test("computeLimits() leaves out limits that do not apply", () => {
  const limits = computeLimits({
    ...FINE,
    fiwix: undefined,
    ramMib: undefined,
    disk: undefined,
    restoredEnd: 0,
  });
  expect(limits.map(({ id }) => id)).toEqual(["files", "file-store", "path"]);
  expect(limits[1]!.limit).toBe(FILE_STORE_BYTES);
  expect(FILE_STORE_BYTES).toBe(1_811_939_328);
});

test("at most 14,332 files are possible, including those of the seeds", () => {
  expect(MAX_FILES).toBe(14_332);
  expect(broken({ entries: files(MAX_FILES - 6) })).toEqual([]);
  const entries = [...files(14_000), ...files(326, "./x"), { path: ".", size: 0 }];
  const limit = only({ entries });
  expect(limit).toMatchObject({ id: "files", used: MAX_FILES + 1, limit: MAX_FILES });
  expect(limit.contributors).toEqual([
    { name: "./steps/big", amount: 14_000 },
    { name: "./x", amount: 326 },
    { name: ".", amount: 1 },
  ]);
  expect(limit.remedy).toStartWith("Use --payload always");
  expect(only({ entries, payloadHelps: false }).remedy).toStartWith("Remove files that do not");
});

test("the limit of the file store is reduced by the Fiwix ramdisk", () => {
  const fiwix = { ramdiskBytes: 1_381_376 * 1024, kexecBytes: 199_680 * 1024 };
  const room = 397_410_304;
  const of = (size: number) => ({
    fiwix,
    entries: [{ path: "./a", size }, { path: "./b", size: 1 }],
  });
  expect(broken(of(room - 1))).toEqual([]);
  expect(only(of(room))).toMatchObject({
    id: "file-store",
    used: room + 1,
    limit: room,
    contributors: [{ name: "./a", amount: room }, { name: "./b", amount: 1 }],
  });
});

test("with a ramdisk larger than the file store its limit is 0, not negative", () => {
  const fiwix = { ramdiskBytes: 4 * GIB, kexecBytes: MIB };
  expect(only({ fiwix })).toMatchObject({ id: "file-store", limit: 0 });
});

test("a path has at most 1,024 bytes with its NUL", () => {
  const of = (length: number) => ({ entries: [{ path: "x".repeat(length), size: 1 }] });
  expect(broken(of(1023))).toEqual([]);
  expect(only(of(1024))).toMatchObject({ id: "path", used: 1025, remedy: "Shorten the name" });
  expect(only({ entries: [{ path: "ä".repeat(512), size: 1 }] }).used).toBe(1025);
});

test("builder-hex0 needs 4 GiB", () => {
  expect(only({ ramMib: 4095 })).toMatchObject({
    id: "memory",
    used: 4095,
    limit: 4096,
    remedy: "Use --qemu-ram 4096 or more",
  });
});

test("what is installed has to fit the partition after the first GiB, without its inodes", () => {
  const disk = { sizeBytes: 2 * GIB, dataBytes: MIB };
  const room = GIB - GIB / 64;
  const installed = [{ name: "late.tar", amount: room - 5 }, { name: "/swapfile", amount: 5 }];
  expect(broken({ disk, installed })).toEqual([]);
  const more = [...installed, { name: "a", amount: 1 }];
  expect(only({ disk, installed: more })).toMatchObject({
    id: "system-disk",
    used: room + 1,
    limit: room,
    remedy: expect.stringContaining("--target-size"),
  });
  expect(broken({ disk, installed: more, movesToDisk: false })).toEqual([]);
});

test("what is imported under Fiwix has to fit its ramdisk, beside the boot image", () => {
  const restored = [{ name: "r1", amount: 600 * MIB }, { name: "r2", amount: 400 * MIB }];
  expect(broken({ restored, entries: [] })).toEqual([]);
  const limit = only({ restored });
  expect(limit).toMatchObject({ id: "fiwix-ramdisk", used: 1000 * MIB + 100 });
  expect(limit.contributors.map(({ name }) => name)).toEqual(["r1", "r2", "./steps/a/x"]);
});

test("distfiles that clean_sources keeps have to fit the kexec ramdisk", () => {
  const surviving = [{ name: "s", amount: 100 * MIB }];
  expect(broken({ surviving })).toEqual([]);
  expect(only({ surviving: [...surviving, { name: "t", amount: 1 }] })).toMatchObject({
    id: "kexec-ramdisk",
    used: 100 * MIB + 1,
  });
});

test("all data that Fiwix reads has to be in the first 4 GiB of the payload", () => {
  expect(broken({ restoredEnd: 4 * GIB })).toEqual([]);
  expect(only({ restoredEnd: 4 * GIB + 1 })).toMatchObject({ id: "fiwix-disk", limit: 4 * GIB });
});

test("the boot disk has to contain the boot image, and a partition that starts at 1 GiB", () => {
  const disk = { sizeBytes: GIB, dataBytes: 2 * MIB };
  expect(only({ disk })).toMatchObject({ id: "disk", used: 1024, limit: 1025, unit: "MiB" });
  expect(broken({ disk, movesToDisk: false })).toEqual([]);
  const small = { sizeBytes: MIB, dataBytes: 2 * MIB };
  expect(only({ disk: small, movesToDisk: false })).toMatchObject({ used: 1, limit: 2 });
});

test("a limit is near if only the estimate for the steps breaks it", () => {
  const near = (changes: Partial<LimitInput>) =>
    computeLimits({ ...FINE, ...changes }).filter((limit) => limit.near).map(({ id }) => id);
  const costs = { files: 100, bytes: 10 * MIB, kexecBytes: 50 * MIB };
  expect(near({ costs })).toEqual([]);
  expect(near({ costs, entries: files(MAX_FILES - 6 - 100) })).toEqual([]);
  expect(near({ costs, entries: files(MAX_FILES - 6 - 99) })).toEqual(["files"]);
  expect(near({ entries: files(MAX_FILES - 6) })).toEqual([]);
  const restored = [{ name: "r", amount: 995 * MIB }];
  const surviving = [{ name: "s", amount: 51 * MIB }];
  expect(near({ costs, restored, surviving })).toEqual(["fiwix-ramdisk", "kexec-ramdisk"]);
  expect(broken({ costs, restored, surviving })).toEqual([]);
});

test("a limit names the five largest contributors, largest first, then by name", () => {
  const restored = [3, 9, 1, 9, 4, 7, 0].map((size, i) => ({
    name: `r${i}`,
    amount: size * 100 * MIB,
  }));
  expect(only({ restored }).contributors.map(({ name }) => name))
    .toEqual(["r1", "r3", "r5", "r4", "r0"]);
});

test("limitError() has every broken limit with its contributors, and each remedy once", () => {
  const error = limitError(broken({ ramMib: 1, restoredEnd: 5 * GIB }));
  expect(error.kind).toBe("limit");
  expect(error.exitCode).toBe(8);
  expect(error.message).toBe(
    "Cannot bootstrap with this plan\n" +
      "  memory that builder-hex0 needs: 1 MiB, the minimum is 4,096 MiB\n" +
      "  end of the data that Fiwix reads from the payload disk: 5.00 GiB, " +
      "the maximum is 4.00 GiB\n" +
      "      10 B  r",
  );
  expect(error.hint).toBe(
    "Use --qemu-ram 4096 or more. Use fewer or smaller distfiles before jump: move_disk. " +
      "--force continues anyway",
  );
});
