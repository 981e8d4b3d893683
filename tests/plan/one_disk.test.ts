// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { GIB, MIB, totalSize } from "../../src/format/segment.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import { planImages } from "../../src/plan/images.ts";
import { brokenLimits, makePlan } from "../../src/plan/plan.ts";
import type { Plan } from "../../src/plan/types.ts";
import { readTree } from "../../src/tree/model.ts";
import { TempDirs } from "../support/files.ts";
import { buildOptions, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Plans one disk with every distfile, each of this size. */
function plan(changes: Partial<BuildOptions>, options: MiniOptions = {}, size = 3000): Plan {
  const mini = miniTree({ movesToDisk: true, ramdiskKib: 4 * MIB, kexecKib: 4 * MIB, ...options });
  const tree = readTree(writeMiniTree(temp.make(), mini).tree);
  const sizes = new Map(Object.keys(mini.distfiles).map((name) => [name, size]));
  const base = { oneDisk: true, externalSources: true, targetSizeMib: 8192 } as const;
  return makePlan(tree, buildOptions({ ...base, ...changes }), sizes);
}

const MANIFEST_LINES = [
  { text: "improve: guard_disk ( KERNEL_BOOTSTRAP == True )", place: "before jump: move_disk" },
  { text: "improve: one_disk ( KERNEL_BOOTSTRAP == True )", place: "before jump: move_disk" },
];

test("one disk has the boot image, the payload after it, and the system from 1 GiB on", () => {
  const made = plan({}, {}, 100 * MIB);
  expect(made.images).toEqual(["init.img"]);
  expect(made.hasPayload).toBe(true);
  const { payloadStartBytes, payloadEndBytes, systemStartBytes, parts } = made.oneDisk!;
  expect(payloadEndBytes - payloadStartBytes).toBe(501 * MIB);
  expect(systemStartBytes).toBe(GIB);
  expect(made.overlay.manifestLines).toEqual(expect.arrayContaining(MANIFEST_LINES));
  expect(made.overlay.files).toContain("steps/improve/one_disk.sh");
  // Every byte is in one part.
  expect(parts[0]!.startBytes).toBe(0);
  for (const [index, { startBytes }] of parts.entries()) {
    expect(startBytes).toBe(index === 0 ? 0 : parts[index - 1]!.endBytes!);
  }
  expect(parts.at(-1)!.endBytes).toBeUndefined();
  expect(parts.map(({ what }) => what)).toEqual(
    ["boot sector", "builder-hex0, srcfs", "payload (partition 2)", "free", "system (partition 1)"],
  );
});

test("a payload that ends after 1 GiB moves the system, and the limits know it", () => {
  const made = plan({ targetSizeMib: 3500 }, {}, 500 * MIB);
  const { payloadEndBytes, systemStartBytes, parts } = made.oneDisk!;
  expect(systemStartBytes).toBe(payloadEndBytes);
  expect(payloadEndBytes).toBeGreaterThan(2 * GIB);
  expect(parts.map(({ what }) => what)).not.toContain("free");
  const limit = (id: string) => made.limits.find((limit) => limit.id === id);
  expect(limit("disk")).toMatchObject({ limit: payloadEndBytes / MIB + 1, broken: false });
  // There is no room for the distfiles that are installed.
  const systemBytes = 3500 * MIB - systemStartBytes!;
  expect(limit("system-disk")!.limit).toBeLessThan(systemBytes);
  expect(limit("system-disk")!.limit).toBeGreaterThan(systemBytes * 0.98);
  expect(brokenLimits(made).map(({ id }) => id)).toContain("system-disk");
  const small = plan({ targetSizeMib: 2000 }, {}, 500 * MIB);
  expect(brokenLimits(small).map(({ id }) => id)).toContain("disk");
});

test("the layout of a plan is that of its image", () => {
  const made = plan({}, {}, 70_000);
  const located = new Map(made.distfiles.map(({ name, size }) => [
    name,
    { path: `/${name}`, from: "store" as const, sizeBytes: size! },
  ]));
  const [image, ...others] = planImages(made, located);
  expect(others).toEqual([]);
  expect(image!.dataBytes).toBe(made.oneDisk!.payloadEndBytes);
  const magic = image!.segments.findIndex((segment) =>
    segment.kind === "bytes" && new TextDecoder().decode(segment.bytes) === "LBPAYLD1"
  );
  expect(totalSize(image!.segments.slice(0, magic))).toBe(made.oneDisk!.payloadStartBytes);
  expect(image!.contents.filter(({ path }) => path.startsWith("payload/"))).toHaveLength(6);
});

test("without a payload, or a disk to install to, nothing is added", () => {
  const none = plan({ payload: "never" });
  expect(none.oneDisk).toBeUndefined();
  expect(none.images).toEqual(["init.img"]);
  expect(none.advice.join("\n")).toContain("--one-disk changes nothing");
  expect(none.overlay.files).not.toContain("steps/improve/one_disk.sh");
  const stays = plan({}, { movesToDisk: false });
  expect(stays.oneDisk!.systemStartBytes).toBeUndefined();
  expect(stays.overlay.files).not.toContain("steps/improve/one_disk.sh");
  expect(stays.images).toEqual(["init.img"]);
});

test("one disk is refused where something else is the second, or nothing is booted", () => {
  const seed = {
    files: { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "the seed" },
  };
  expect(() => plan({ mode: "chroot" }, seed)).toThrow("Cannot use --one-disk with --chroot");
  expect(() => plan({ kernel: "/k" }, seed)).toThrow("Cannot use --one-disk with --kernel");
  expect(() => plan({ hasRepo: true, payload: "never" })).toThrow(
    "Cannot use --one-disk with --repo and --payload never",
  );
  // A partition is left to move_disk: sda2 is the payload, and no other is where the plan draws it.
  for (const disk of ["sda1", "sda2", "sdb1"]) {
    expect(() => plan({ disk })).toThrow(`Cannot use --one-disk with --disk ${disk}`);
  }
  expect(plan({ disk: "vda" }).oneDisk!.systemStartBytes).toBeDefined();
  // Two files of one path in a view of the image could not be told apart.
  const inTheWay = { files: { "seed/stage0-posix/payload/alpha": "of the tree" } };
  expect(() => plan({}, inTheWay)).toThrow("the boot image has ./payload/alpha");
  expect(() => plan({ payload: "never" }, inTheWay)).not.toThrow();
  expect(() => plan({}, { importsPayload: true })).toThrow("an importer of its own");
  expect(plan({ payload: "never" }, { importsPayload: true }).images).toEqual(["init.img"]);
});
