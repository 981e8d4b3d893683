// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import fc from "fast-check";
import { readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Checkpoint,
  checkpointFault,
  checkpointsDir,
  formatCheckpoint,
  hasCheckpoints,
  layersOf,
  listCheckpoints,
  makeCheckpointsDir,
  nextNumbers,
  parseCheckpoint,
  putCheckpoint,
  putLayers,
  removeAllCheckpoints,
  removeCheckpoints,
  removeUnneeded,
  settleFile,
} from "../../src/record/checkpoints.ts";
import { TempDirs } from "../support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const name = fc.stringMatching(/^[a-z][\w.+-]{0,30}$/);
const sizeBytes = fc.nat();
const digest = fc.stringMatching(/^[0-9a-f]{64}$/);
const file = fc.record({ name, sizeBytes, sha256: digest });
const checkpoints: fc.Arbitrary<Omit<Checkpoint, "format">> = fc.record({
  number: fc.integer({ min: 1, max: 999_999_999 }),
  saved: fc.constant("2026-11-26T20:30:00.000Z"),
  reason: fc.constantFrom("jump" as const, "step" as const, "time" as const, "interrupt" as const),
  at: fc.string(),
  accel: fc.constantFrom("kvm" as const, "hvf" as const, "tcg" as const),
  qemu: fc.string(),
  machine: fc.array(fc.string()),
  disks: fc.array(fc.record({ image: name, sizeBytes, built: digest, layers: fc.array(file) })),
  memory: file,
  log: fc.record({ name, sizeBytes }),
});

test("parseCheckpoint() returns what was written", () =>
  fc.assert(
    fc.property(checkpoints, (checkpoint) => {
      expect(parseCheckpoint(formatCheckpoint(checkpoint))).toEqual({
        format: "seedstrap-checkpoint/1",
        ...checkpoint,
      });
    }),
  ));

test("parseCheckpoint() finds every byte that is another, and every cut", () =>
  fc.assert(
    fc.property(checkpoints, fc.nat(), fc.integer({ min: 1, max: 255 }), (checkpoint, at, flip) => {
      const bytes = new TextEncoder().encode(formatCheckpoint(checkpoint));
      const cut = bytes.slice(0, at % bytes.length);
      bytes[at % bytes.length]! ^= flip;
      for (const damaged of [cut, bytes]) {
        expect(typeof parseCheckpoint(new TextDecoder("latin1").decode(damaged))).toBe("string");
      }
    }),
  ));

/** A target with checkpoints 1 to `count`, each with a layer more, as a guest leaves them. */
async function target(count: number): Promise<string> {
  const dir = temp.make();
  const place = makeCheckpointsDir(dir);
  const layers = [];
  for (let number = 1; number <= count; number++) {
    writeFileSync(join(place, `disk.img.${number}.qcow2`), `layer ${number}`);
    writeFileSync(join(place, `${number}.memory`), `memory ${number}`);
    layers.push(await settleFile(dir, `disk.img.${number}.qcow2`));
    putCheckpoint(dir, {
      number,
      saved: "2026-11-26T20:30:00.000Z",
      reason: "time",
      at: "stage0-posix",
      accel: "tcg",
      qemu: "7.2.22",
      machine: [],
      disks: [{ image: "disk.img", sizeBytes: 512, built: "0".repeat(64), layers: [...layers] }],
      memory: await settleFile(dir, `${number}.memory`),
      log: { name: "1.log", sizeBytes: 3 },
    });
  }
  return dir;
}

/** The faults of all checkpoints of a target. */
async function faults(dir: string): Promise<(string | undefined)[]> {
  return await Promise.all(
    listCheckpoints(dir).map(({ read }) =>
      typeof read === "string" ? read : checkpointFault(dir, read)
    ),
  );
}

test("a checkpoint that was put is found, with all that it needs", async () => {
  const dir = await target(2);
  expect(await faults(dir)).toEqual([undefined, undefined]);
  expect(nextNumbers(dir)).toEqual({ checkpoint: 3, layer: 3 });
  expect(layersOf(dir, "disk.img")).toEqual([]);
  putLayers(dir, [{ image: "disk.img", layers: ["disk.img.1.qcow2", "disk.img.2.qcow2"] }]);
  const paths = [1, 2].map((number) => join(checkpointsDir(dir), `disk.img.${number}.qcow2`));
  expect(layersOf(dir, "disk.img")).toEqual(paths);
  expect(layersOf(dir, "disk")).toEqual([]);
  expect(hasCheckpoints(dir)).toBe(true);
  removeAllCheckpoints(dir);
  expect(hasCheckpoints(dir)).toBe(false);
  expect(nextNumbers(dir)).toEqual({ checkpoint: 1, layer: 1 });
});

test("only the checkpoints that need a damaged file have a fault", async () => {
  const dir = await target(3);
  const at = (name: string) => join(checkpointsDir(dir), name);
  truncateSync(at("3.memory"), 7);
  expect(await faults(dir)).toEqual([
    undefined,
    undefined,
    "3.memory has 7 bytes, and was saved with 8",
  ]);
  writeFileSync(at("disk.img.2.qcow2"), "layer 3");
  const isNot = "disk.img.2.qcow2 is not as it was saved";
  expect((await faults(dir)).slice(0, 2)).toEqual([undefined, isNot]);
  removeCheckpoints(dir, [3]);
  writeFileSync(at("2.json"), readFileSync(at("2.json"), "utf8").replace("time", "step"));
  expect(await faults(dir)).toEqual([undefined, "it is not as it was written"]);
  writeFileSync(at("1.json"), "");
  expect(await faults(dir)).toEqual(["it is not JSON", "it is not as it was written"]);
});

test("a checkpoint under the number of another one is refused", async () => {
  const dir = await target(1);
  const at = (name: string) => join(checkpointsDir(dir), name);
  writeFileSync(at("5.json"), readFileSync(at("1.json")));
  expect((await faults(dir))[1]).toBe("it is checkpoint 1");
  expect(nextNumbers(dir).checkpoint).toBe(6);
});

test("what no checkpoint needs is removed, and nothing else", async () => {
  const dir = await target(3);
  const place = checkpointsDir(dir);
  for (const name of ["9.memory", "4.json.part", "disk.img.9.qcow2", "disk.img.10.qcow2", "note"]) {
    writeFileSync(join(place, name), "12345");
  }
  removeCheckpoints(dir, [1, 3]);
  putLayers(dir, [{ image: "disk.img", layers: ["disk.img.10.qcow2"] }]);
  const freed = removeUnneeded(dir);
  expect(readdirSync(place).sort()).toEqual([
    "2.json",
    "2.memory",
    "disk.img.1.qcow2",
    "disk.img.10.qcow2",
    "disk.img.2.qcow2",
    "layers.json",
    "note",
  ]);
  expect(freed).toBe(5 + 5 + 5 + 2 * 8 + 7);
  expect(await faults(dir)).toEqual([undefined]);
});

test("where a checkpoint cannot be understood, no memory and no layer is removed", async () => {
  const dir = await target(2);
  writeFileSync(join(checkpointsDir(dir), "1.json"), "{}");
  removeCheckpoints(dir, [2]);
  expect(removeUnneeded(dir)).toBe(0);
  expect(readdirSync(checkpointsDir(dir))).toHaveLength(5);
});

test("layers elsewhere are refused", async () => {
  const dir = await target(1);
  putLayers(dir, [{ image: "disk.img", layers: ["../../etc/passwd"] }]);
  expect(() => layersOf(dir, "disk.img")).toThrow(
    /disks.0.layers.0 is "..\/..\/etc\/passwd", not a name/,
  );
});

test("a link in place of the directory of checkpoints is refused", async () => {
  const dir = await target(1);
  const other = temp.make();
  makeCheckpointsDir(other);
  removeAllCheckpoints(other);
  symlinkSync(checkpointsDir(dir), checkpointsDir(other));
  expect(() => listCheckpoints(other)).toThrow(/it is a symbolic link/);
  expect(() => removeAllCheckpoints(other)).toThrow(/it is a symbolic link/);
  expect(await faults(dir)).toEqual([undefined]);
});
