// SPDX-License-Identifier: MIT
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/format/segment.ts";
import { mergeableAt } from "../../src/job/layer_merge.ts";
import { type SavedCheckpoint, Saver } from "../../src/job/saver.ts";
import { findProgram } from "../../src/launch/process.ts";
import { runQemu } from "../../src/launch/qemu.ts";
import { layeredDriveArgs } from "../../src/plan/layers.ts";
import { type Checkpoint, checkpointFault, listCheckpoints } from "../../src/record/checkpoints.ts";
import type { RecordedImage } from "../../src/record/types.ts";
import { openLayers } from "../../src/source/layers.ts";
import { TempDirs } from "../support/files.ts";
import { eventually, QEMU } from "../launch/guest.ts";
import { counter, countsIn } from "./counter.ts";

const temp = new TempDirs();
/** The guests of the test that runs. */
const guests: Guest[] = [];
afterEach(endGuests);
afterAll(() => temp.release());

async function endGuests(): Promise<void> {
  for (const guest of guests.splice(0)) await guest.end();
}

const hasQemu = await findProgram(QEMU) !== undefined;
if (!hasQemu) console.log(`skipped: checkpoints of guests, as there is no ${QEMU}`);

const canMount = hasQemu && process.geteuid?.() === 0;
if (!canMount) console.log("skipped: checkpoints on a full disk, as only root can mount one");
const testAsRoot = canMount ? test : test.skip;

const MACHINE = ["-m", "32M", "-nic", "none", "-no-reboot", "-nographic"];
const IMAGES: readonly RecordedImage[] = [
  {
    name: "boot.img",
    role: "boot",
    sizeBytes: 8 * MIB,
    dataBytes: 512,
    sha256: "0".repeat(64),
    files: [],
  },
  {
    name: "init.img",
    role: "payload",
    sizeBytes: 4 * MIB,
    dataBytes: 0,
    sha256: "0".repeat(64),
    files: [],
  },
];

/** A target with images, the first of which counts. */
function target(dir: string = temp.make()): string {
  for (const { name, sizeBytes } of IMAGES) {
    const bytes = new Uint8Array(sizeBytes);
    if (name === "boot.img") bytes.set(counter({ text: "a text\n" }));
    writeFileSync(join(dir, name), bytes);
  }
  return dir;
}

/** A guest that runs. */
class Guest {
  readonly saved: SavedCheckpoint[] = [];
  readonly notices: string[] = [];
  readonly failures: string[] = [];
  readonly saver: Saver;
  readonly ended: Promise<unknown>;
  printed = "";
  pid = 0;
  readonly #stop = new AbortController();

  constructor(dir: string, from?: Checkpoint, { keep = 3, extra = [] as string[] } = {}) {
    guests.push(this);
    this.saver = new Saver({
      dir,
      images: IMAGES,
      machine: MACHINE,
      keep,
      from,
      at: () => `count ${countsIn(this.printed).at(-1)}`,
      log: () => ({ name: "1.log", sizeBytes: this.printed.length }),
    }, {
      onSaved: (saved) => this.saved.push(saved),
      onNotice: (text) => this.notices.push(text),
      onFailure: (error) => this.failures.push(error.message),
    });
    this.ended = runQemu({
      command: QEMU,
      args: [
        ...MACHINE,
        ...extra,
        ...layeredDriveArgs(this.saver.disks),
        ...(from === undefined ? [] : ["-S", "-incoming", "defer"]),
      ],
      accel: "tcg",
      logPath: join(dir, "log"),
      interactive: false,
      signal: this.#stop.signal,
      onStart: (accel) => this.saver.begin(accel),
      onProcess: ({ pid }) => this.pid = pid,
      onControl: (qmp) => this.saver.control(qmp),
      onHostFull: () => this.saver.diskFull(),
      onSerial: (chunk) => this.printed += new TextDecoder("latin1").decode(chunk),
      onNotice: (text) => this.notices.push(text),
    }).catch((error: unknown) => error).finally(() => this.saver.end());
  }

  get counts(): number[] {
    return countsIn(this.printed);
  }

  /** Waits until it has counted so much further. */
  async counted(more: number): Promise<void> {
    const wanted = this.counts.length + more;
    if (!await eventually(() => this.counts.length >= wanted)) {
      throw new Error(
        `it does not count: ${this.printed.slice(-200)} ${this.failures} ${this.notices}`,
      );
    }
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.ended;
  }
}

/** Calls a function with a directory on a file system of its own, of a size. */
async function withDisk(sizeMib: number, use: (dir: string) => Promise<void>): Promise<void> {
  const dir = temp.make();
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeMib}m,mode=0700`, "seedstrap-test", dir]);
  try {
    await use(dir);
  } finally {
    await endGuests();
    execFileSync("umount", [dir]);
  }
}

const checkpoints = (dir: string) =>
  listCheckpoints(dir).map(({ read }) => {
    if (typeof read === "string") throw new Error(read);
    return read;
  });

test("mergeableAt() spares what checkpoints need, and what is much larger than what is above", () => {
  const layers = (...sizes: number[]) =>
    [...sizes, undefined].map((sizeBytes, index) => ({
      name: `${index}`,
      ...(sizeBytes !== undefined && { saved: { name: `${index}`, sizeBytes, sha256: "" } }),
    }));
  const chain = (last: number) => Array.from({ length: last + 1 }, (_, index) => `${index}`);
  expect(mergeableAt(layers(1, 1, 1), [chain(2)])).toBe(0);
  expect(mergeableAt(layers(1, 1, 1), [chain(2), chain(1)])).toBe(0);
  expect(mergeableAt(layers(1, 1, 1), [chain(2), chain(0)])).toBeUndefined();
  expect(mergeableAt(layers(1, 1, 1), [chain(2), ["0", "other"]])).toBeUndefined();
  expect(mergeableAt(layers(1, 1), [chain(1)])).toBeUndefined();
  expect(mergeableAt(layers(9, 1, 1, 1), [chain(3)])).toBe(1);
  expect(mergeableAt(layers(9, 1, 1), [chain(2)])).toBeUndefined();
  const many = Array.from({ length: 33 }, (_, index) => 9 ** (10 - index));
  expect(mergeableAt(layers(...many), [chain(32)])).toBe(30);
});

describe.if(hasQemu)("Saver", () => {
  test("a guest goes on from each checkpoint, with its memory and its disk", async () => {
    const dir = target();
    const before = readFileSync(join(dir, "boot.img"));
    const guest = new Guest(dir);
    await guest.counted(10);
    for (const reason of ["time", "step", "jump"] as const) {
      expect(await guest.saver.save(reason)).toBe(true);
      await guest.counted(10);
    }
    await guest.end();
    expect(guest.notices).toEqual([]);
    expect(guest.saved.map(({ number, reason }) => [number, reason])).toEqual([
      [1, "time"],
      [2, "step"],
      [3, "jump"],
    ]);
    expect(guest.counts).toEqual(guest.counts.map((_, index) => index + 1));
    expect(readFileSync(join(dir, "boot.img")).equals(before)).toBe(true);
    for (const checkpoint of checkpoints(dir)) {
      expect(await checkpointFault(dir, checkpoint)).toBeUndefined();
      const was = guest.printed.slice(0, checkpoint.log.sizeBytes);
      expect(checkpoint.at).toBe(`count ${countsIn(was).at(-1)}`);
      const again = new Guest(dir, checkpoint);
      await again.counted(30);
      await again.end();
      expect(again.failures).toEqual([]);
      // The line that it was in goes on, too.
      const whole = countsIn(was + again.printed);
      expect(whole).toEqual(whole.map((_, index) => index + 1));
    }
  }, 120_000);

  test("what a guest has written is read through all layers", async () => {
    const dir = target();
    const guest = new Guest(dir);
    await guest.counted(5);
    await guest.saver.save("time");
    await guest.counted(5);
    await guest.saver.save("interrupt", true);
    const [first, last] = checkpoints(dir);
    const [disk] = guest.saver.disks;
    await guest.end();
    const onDisk = ({ disks }: Checkpoint) => {
      const { layers } = disks[0]!;
      const source = openLayers(disk!.image, disk!.layers.slice(0, layers.length));
      const sector = new Uint8Array(512);
      source.read(512, sector);
      source.close();
      return sector[0]! + 256 * sector[1]!;
    };
    expect(onDisk(first!)).toBeGreaterThanOrEqual(5);
    expect(onDisk(last!)).toBeGreaterThanOrEqual(onDisk(first!) + 5);
  }, 60_000);

  test(
    "layers between which no checkpoint is left become one, while the guest goes on",
    async () => {
      const dir = target();
      const names = () => readdirSync(join(dir, ".seedstrap/checkpoints")).sort();
      let from: Checkpoint | undefined;
      let printed = "";
      for (const saves of [8, 5, 1]) {
        const guest = new Guest(dir, from, { keep: 1 });
        await guest.counted(3);
        for (let round = 0; round < saves; round++) {
          expect(await guest.saver.save("time")).toBe(true);
          await guest.counted(2);
        }
        expect(guest.notices).toEqual([]);
        from = checkpoints(dir).at(-1)!;
        await guest.end();
        printed += guest.printed.slice(0, from.log.sizeBytes);
        expect(await checkpointFault(dir, from)).toBeUndefined();
        for (const { layers } of from.disks) expect(layers.length).toBeLessThanOrEqual(3);
        const needed = from.disks.flatMap(({ layers }) => layers.map(({ name }) => name));
        const layers = names().filter((name) => name.endsWith(".qcow2"));
        expect(layers).toEqual(expect.arrayContaining(needed));
        expect(layers.length).toBeLessThanOrEqual(2 * 4);
      }
      const counts = countsIn(printed);
      expect(counts).toEqual(counts.map((_, index) => index + 1));
    },
    120_000,
  );

  test("QEMU is killed while a checkpoint is saved: those before it are as they were", async () => {
    const dir = target();
    const noise = join(temp.make(), "noise");
    writeFileSync(noise, randomBytes(200 * MIB));
    const extra = ["-m", "512M", "-device", `loader,file=${noise},addr=0x4000000,force-raw=on`];
    let from: Checkpoint | undefined;
    let printed = "";
    let lost = 0;
    for (const waitMs of [0, 30, 100, 200, 400]) {
      const guest = new Guest(dir, from, { extra });
      await guest.counted(3);
      expect(await guest.saver.save("time")).toBe(true);
      await guest.counted(1);
      const known = listCheckpoints(dir).length;
      const saving = guest.saver.save("time");
      await Bun.sleep(waitMs);
      process.kill(guest.pid, "SIGKILL");
      await guest.ended;
      // Where it was killed after the guest was saved, that is one.
      if (!await saving) lost++;
      else expect(listCheckpoints(dir).length).toBe(Math.min(known + 1, 3));
      const all = checkpoints(dir);
      for (const one of all) expect(await checkpointFault(dir, one)).toBeUndefined();
      from = all.at(-1)!;
      printed += guest.printed.slice(0, from.log.sizeBytes);
      expect(guest.failures).toEqual([]);
    }
    expect(lost).toBeGreaterThan(0);
    const counts = countsIn(printed);
    expect(counts).toEqual(counts.map((_, index) => index + 1));
  }, 120_000);

  test("the last ones are kept, and those of jumps", async () => {
    const dir = target();
    const guest = new Guest(dir, undefined, { keep: 2 });
    await guest.counted(1);
    for (const reason of ["time", "jump", "time", "step", "time"] as const) {
      expect(await guest.saver.save(reason)).toBe(true);
    }
    await guest.end();
    const numbers = () => checkpoints(dir).map(({ number }) => number);
    expect(numbers()).toEqual([2, 4, 5]);
    // Who goes back to an earlier one has given up those after it.
    const again = new Guest(dir, checkpoints(dir)[1], { keep: 2 });
    await again.counted(1);
    expect(await again.saver.save("time")).toBe(true);
    await again.end();
    expect(numbers()).toEqual([2, 4, 6]);
  }, 60_000);

  testAsRoot(
    "where the disk gets full while memory is written, the guest goes on",
    () =>
      withDisk(100, async (dir) => {
        target(dir);
        const noise = join(temp.make(), "noise");
        writeFileSync(noise, randomBytes(100 * MIB));
        // In memory, where the guest does not use it.
        const extra = ["-m", "256M", "-device", `loader,file=${noise},addr=0x4000000,force-raw=on`];
        const guest = new Guest(dir, undefined, { extra });
        await guest.counted(5);
        expect(await guest.saver.save("time")).toBe(false);
        expect(guest.notices.at(-1)).toMatch(
          /^no checkpoint was saved: its memory could not be written \(.*\).*; the guest goes on$/,
        );
        await guest.counted(5);
        expect(listCheckpoints(dir)).toEqual([]);
        await guest.end();
        expect(guest.counts).toEqual(guest.counts.map((_, index) => index + 1));
        const left = readdirSync(join(dir, ".seedstrap/checkpoints"));
        expect(left.filter((name) => name.includes("memory"))).toEqual([]);
      }),
    120_000,
  );

  testAsRoot(
    "a guest whose disk is full waits, and goes on when there is space",
    () =>
      withDisk(100, async (dir) => {
        target(dir);
        const guest = new Guest(dir);
        await guest.counted(5);
        expect(await guest.saver.save("time")).toBe(true);
        // The guest may write at any time: from now on it cannot.
        writeFileSync(join(dir, "filler"), new Uint8Array(0));
        try {
          for (;;) appendFileSync(join(dir, "filler"), new Uint8Array(64 * 1024));
        } catch {
          // It is full.
        }
        await guest.saver.save("step");
        // It may have had to write before.
        expect(guest.notices.at(-1)).toMatch(
          /^no checkpoint was saved: (?:0 MiB are free|the guest stands still)/,
        );
        await guest.end();
        const [checkpoint] = checkpoints(dir);
        expect(await checkpointFault(dir, checkpoint!)).toBeUndefined();
        rmSync(join(dir, "filler"));
        const again = new Guest(dir, checkpoint);
        const wasPrinted = guest.printed.slice(0, checkpoint!.log.sizeBytes);
        writeFileSync(join(dir, "filler"), "");
        try {
          for (;;) appendFileSync(join(dir, "filler"), new Uint8Array(4096));
        } catch {
          // It is full.
        }
        expect(await eventually(() => again.notices.some((text) => text.includes("is full")))).toBe(
          true,
        );
        rmSync(join(dir, "filler"));
        await again.counted(20);
        expect(again.notices.at(-1)).toBe("there is space again: the guest goes on");
        await again.end();
        const whole = countsIn(wasPrinted + again.printed);
        expect(whole).toEqual(whole.map((_, index) => index + 1));
      }),
    120_000,
  );
});
