// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { type Config } from "../../src/tree/config.ts";
import { evaluateManifest, parseManifest } from "../../src/tree/manifest.ts";
import { findRestPlace, overlayManifest, type OverlayRequest } from "../../src/plan/overlay.ts";

const MANIFEST = [
  "# a comment",
  "build: tcc-0.9.27",
  "jump: fiwix ( KERNEL_BOOTSTRAP == True ) # the first kernel",
  "build: gamma-3.0",
  "jump: move_disk ( KERNEL_BOOTSTRAP == True )",
  "improve: finalize_job_count",
  "improve: finalize_fhs",
  "improve: get_network ( CHROOT == False || A == b )",
  "build: omega-6.0",
  "improve: more_network",
  "",
].join("\n");
const PROC = ["make_bootable", "finalize_fhs"];

const overlay = (request: Partial<OverlayRequest>, text = MANIFEST) =>
  overlayManifest(
    parseManifest(text, "steps/manifest"),
    {
      payloadPhases: 0,
      restoresEmpty: false,
      guardsDisk: false,
      oneDisk: false,
      airGapped: false,
      ...request,
    },
    PROC,
  );
/** Returns the lines that the booted machine executes, in short form. */
const active = (text: string, config: Config) =>
  evaluateManifest(parseManifest(text, "m"), [
    ["ARCH", "x86"],
    ["KERNEL_BOOTSTRAP", "True"],
    ...config,
  ])
    .map(({ line }) => `${line.kind} ${line.name}`);

test("overlayManifest() leaves a manifest unchanged if nothing is requested", () => {
  expect(overlay({})).toEqual({ text: MANIFEST, changes: [] });
});

test("overlayManifest() builds the importer before the jump and runs it right after", () => {
  const { text, changes } = overlay({ payloadPhases: 1 });
  const lines = text.split("\n");
  expect(lines.slice(1, 5)).toEqual([
    "build: tcc-0.9.27",
    "build: payload-import-1.0 ( PAYLOAD_REQUIRED == True )",
    "jump: fiwix ( KERNEL_BOOTSTRAP == True ) # the first kernel",
    "improve: import_payload ( PAYLOAD_REQUIRED == True )",
  ]);
  expect(lines.filter((line) => !line.includes("PAYLOAD_REQUIRED")).join("\n")).toBe(MANIFEST);
  expect(changes.map(({ place }) => place)).toEqual([
    "before jump: fiwix",
    "after jump: fiwix",
  ]);
});

test("overlayManifest() creates empty files again right after the jump, if there is one", () => {
  const { text } = overlay({ payloadPhases: 1, restoresEmpty: true });
  const at = text.split("\n").findIndex((line) => line.startsWith("jump: fiwix"));
  expect(text.split("\n").slice(at + 1, at + 3)).toEqual([
    "improve: restore_empty ( KERNEL_BOOTSTRAP == True )",
    "improve: import_payload ( PAYLOAD_REQUIRED == True )",
  ]);
  const without = "build: a-1\n";
  expect(overlay({ restoresEmpty: true }, without)).toEqual({ text: without, changes: [] });
});

test("lines that overlayManifest() adds are only executed if a payload is required", () => {
  const { text } = overlay({ payloadPhases: 2 });
  const without = active(MANIFEST, []);
  expect(active(text, [["PAYLOAD_REQUIRED", "False"]])).toEqual(without);
  expect(active(text, [])).toEqual(without);
  const required = active(text, [["PAYLOAD_REQUIRED", "True"]]);
  expect(required).toEqual([
    "build tcc-0.9.27",
    "build payload-import-1.0",
    "jump fiwix",
    "improve import_payload",
    "build gamma-3.0",
    "jump move_disk",
    "improve finalize_job_count",
    "improve finalize_fhs",
    "improve import_payload_rest",
    "build omega-6.0",
    "improve more_network",
  ]);
});

test("overlayManifest() restores packages and tars after the disk is there, in any number of phases", () => {
  const added = (request: Partial<OverlayRequest>) =>
    active(overlay(request).text, [["PAYLOAD_REQUIRED", "True"]])
      .filter((line) => /import_payload_|add_files/.test(line));
  for (const payloadPhases of [1, 2] as const) {
    expect(added({ payloadPhases, extras: "packages" })).toEqual(["improve import_payload_rest"]);
    expect(added({ payloadPhases, extras: "tars" })).toEqual([
      "improve import_payload_rest",
      "improve add_files",
    ]);
  }
  expect(added({ payloadPhases: 1 })).toEqual([]);
});

test("overlayManifest() looks at the disk right before each jump to it, under its conditions", () => {
  const second = "jump: move_disk ( A == b ) # again";
  const { text, changes } = overlay(
    { guardsDisk: true },
    `${MANIFEST}${second}\njump: move_disk\n`,
  );
  const lines = text.split("\n");
  const at = lines.findIndex((line) => line.startsWith("jump: move_disk"));
  expect(lines[at - 1]).toBe("improve: guard_disk ( KERNEL_BOOTSTRAP == True )");
  expect(lines.slice(-5)).toEqual([
    "improve: guard_disk ( A == b ) # again",
    second,
    "improve: guard_disk",
    "jump: move_disk",
    "",
  ]);
  expect(changes.map(({ place }) => place)).toEqual(Array(3).fill("before jump: move_disk"));
  const both = overlay({ guardsDisk: true, oneDisk: true }, "jump: move_disk ( A == b )\n");
  expect(both.text).toBe(
    "improve: guard_disk ( A == b )\nimprove: one_disk ( A == b )\njump: move_disk ( A == b )\n",
  );
  const without = "build: a-1\n";
  expect(overlay({ guardsDisk: true }, without)).toEqual({ text: without, changes: [] });
});

test("overlayManifest() gates every wait for a network, whatever its predicate", () => {
  const { text, changes } = overlay({ airGapped: true });
  expect(changes.map((change) => change.text)).toEqual([
    "improve: get_network ( AIR_GAPPED != True && CHROOT == False || A == b )",
    "improve: more_network ( AIR_GAPPED != True )",
  ]);
  const waits = (...config: Config) =>
    active(text, config).filter((line) => line.includes("network"));
  const chroot = ["CHROOT", "False"] as const;
  expect(waits(chroot, ["AIR_GAPPED", "True"])).toEqual([]);
  expect(waits(["A", "b"], ["AIR_GAPPED", "True"])).toEqual([]);
  expect(waits(chroot)).toEqual(["improve get_network", "improve more_network"]);
  expect(waits(["A", "b"])).toEqual(["improve get_network", "improve more_network"]);
  expect(waits(["CHROOT", "True"])).toEqual(["improve more_network"]);
});

test("overlayManifest() refuses a manifest without a line that it needs, and names it", () => {
  const without = (line: string) =>
    MANIFEST.split("\n").filter((text) => !text.startsWith(line)).join("\n");
  expect(() => overlay({ payloadPhases: 1 }, without("jump: fiwix"))).toThrow(
    'the manifest has no "jump: fiwix"',
  );
  expect(() => overlay({ payloadPhases: 2 }, without("jump: move_disk"))).toThrow(
    'the manifest has no "jump: move_disk"',
  );
  expect(() => overlay({ payloadPhases: 2 }, without("improve: finalize_fhs"))).toThrow(
    'the manifest has no "improve: that mounts proc, after jump: move_disk"',
  );
});

test("findRestPlace() returns the first improve after jump: move_disk that mounts proc", () => {
  const text = MANIFEST.replace("build: gamma-3.0", "improve: make_bootable");
  const place = findRestPlace(parseManifest(text, "m"), PROC);
  expect(place).toMatchObject({ name: "finalize_fhs" });
});
