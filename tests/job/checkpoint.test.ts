// SPDX-License-Identifier: MIT
import { expect } from "bun:test";
import { randomBytes } from "node:crypto";
import {
  appendFileSync,
  cpSync,
  existsSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { readRecord } from "../../src/record/read.ts";
import { eventually, pidsWith } from "../launch/guest.ts";
import { seedstrap, testWith } from "../support/run.ts";
import { countsIn } from "./counter.ts";
import {
  built,
  checkpoints,
  cleanUp,
  DONE,
  expectWhole,
  Going,
  JUMP,
  lastLog,
  numbersOf,
  runs,
  temp,
} from "./going.ts";

cleanUp();
const test = testWith("qemu-system-x86_64");

test("kill -9 of QEMU or of seedstrap at any moment: resume goes on to the end", async () => {
  const target = await built({ text: JUMP, last: DONE, limit: 0x80 });
  const images = readRecord(target).images.map(({ name }) => join(target, name));
  const before = images.map((path) => readFileSync(path));
  let going = new Going(["run", target, "--checkpoint", "auto"]);
  await going.saw("checkpoint 1 saved");
  for (const [round, waitMs] of [0, 300, 900, 1700].entries()) {
    await Bun.sleep(waitMs);
    if (round % 2 === 0) {
      const [qemu] = pidsWith(`${basename(target)}/init.img`).filter((pid) =>
        pid !== going.child.pid && readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(target)
      );
      process.kill(qemu!, "SIGKILL");
    } else {
      going.child.kill("SIGKILL");
    }
    await going.done;
    going = new Going(["resume", target]);
    await going.saw(/going on from checkpoint \d+, saved at/);
    await going.saw(/\n[0-9A-F]{4}\r?\n/);
  }
  expect(await going.done).toBe(0);
  expect(going.err).toContain("done: every step was built");
  expectWhole(lastLog(target), 0x80);
  const over = await seedstrap(["resume", target]);
  expect(over).toMatchObject({ code: 7 });
  expect(over.stderr).toContain(`Cannot go on with ${target}: its last run is done`);
  for (const [index, path] of images.entries()) {
    expect(readFileSync(path).equals(before[index]!)).toBe(true);
    expect(await seedstrap(["image", "verify", path])).toMatchObject({ code: 0 });
  }
}, 240_000);

test("seedstrap is killed while a checkpoint is saved: the one before it is used", async () => {
  const target = await built({ text: JUMP, limit: 0x7000 });
  const noise = join(temp.make(), "noise");
  writeFileSync(noise, randomBytes(150 * 1024 * 1024));
  const extra = ["--", "-device", `loader,file=${noise},addr=0x4000000,force-raw=on`];
  let going = new Going(["run", target, "--checkpoint", "auto"], extra);
  await going.saw("checkpoint 1 saved");
  for (const waitMs of [0, 60, 150, 300, 600]) {
    const seen = going.out.split(JUMP.trim()).length;
    await eventually(() => going.out.split(JUMP.trim()).length > seen);
    await Bun.sleep(waitMs);
    going.child.kill("SIGKILL");
    await going.done;
    going = new Going(["resume", target], extra);
    await going.saw(/going on from checkpoint \d+, saved at/);
    expect(going.err).not.toContain("cannot be used");
    await going.saw(/\n[0-9A-F]{4}\r?\n/);
  }
  going.child.kill("SIGINT");
  expect(await going.done).toBe(130);
  expectWhole(lastLog(target), 0x20);
}, 240_000);

test("Ctrl-C saves first, and resume goes on from there", async () => {
  const target = await built({ last: DONE, limit: 0x40 });
  const going = new Going(["run", target, "--checkpoint", "auto"]);
  await going.counted(0x10);
  going.child.kill("SIGINT");
  expect(await going.done).toBe(130);
  expect(going.err).toContain("saving a checkpoint before the guest is ended, for 60 s at most");
  expect(going.err).toContain("checkpoint 1 saved in its beginning");
  expect(going.err).toContain(`hint: Go on with: seedstrap resume ${target}`);
  const again = new Going(["resume", target]);
  expect(await again.done).toBe(0);
  expectWhole(lastLog(target), 0x40);
  expect(countsIn(`\n${again.out}`)[0]).toBeGreaterThanOrEqual(0x10);
}, 120_000);

test("a run whose budget is spent is saved, ends with 19, and goes on", async () => {
  const target = await built({ last: DONE, limit: 0x1c0 });
  // A guest that stands still cannot be saved.
  const none = new Going(["run", target, "--budget", "4s"], ["--", "-S"]);
  expect(await none.done).toBe(7);
  expect(none.err).toContain("the budget of 4s is spent, and no checkpoint could be saved");
  const first = new Going(["run", target, "--budget", "12s"]);
  expect(await first.done).toBe(19);
  expect(first.err).toContain("the budget of 12s is spent: saving a checkpoint");
  expect(first.err).toContain("checkpoint 1 saved in its beginning");
  expect(first.err).toContain("the budget of 12s is spent: the guest was saved and ended");
  expect(first.err).toContain(`hint: Go on with: seedstrap resume ${target}`);
  const explained = await seedstrap(["explain", target, "--json"]);
  expect(JSON.parse(explained.stdout)).toMatchObject({ verdict: "paused" });
  expect(JSON.parse((await seedstrap(["explain", join(runs(target), "2.log"), "--json"])).stdout))
    .toMatchObject({ verdict: "paused" });
  const second = new Going(["resume", target, "--budget", "12s"]);
  expect(await second.done).toBe(19);
  const last = new Going(["resume", target]);
  expect(await last.done).toBe(0);
  expectWhole(lastLog(target), 0x1c0);
  const off = await seedstrap(["run", target, "--budget", "6s", "--checkpoint", "off"]);
  expect(off).toMatchObject({ code: 2 });
  expect(off.stderr).toContain("Cannot use --budget with --checkpoint off");
}, 120_000);

test(
  "a checkpoint that was cut, or has a flipped byte, is refused, and the one before is used",
  async () => {
    const target = await built({ text: JUMP, limit: 0x7000 });
    const going = new Going(["run", target, "--checkpoint", "auto"]);
    await going.saw("checkpoint 3 saved");
    going.child.kill("SIGKILL");
    await going.done;
    const numbers = numbersOf(target);
    expect(numbers.slice(0, 3)).toEqual([1, 2, 3]);
    const at = (name: string) => join(checkpoints(target), name);
    const memory = at("3.memory");
    truncateSync(memory, readFileSync(memory).length - 1);
    const flipped = readFileSync(at("2.memory"));
    flipped[100_000]! ^= 4;
    writeFileSync(at("2.memory"), flipped);
    for (const number of numbers.slice(3)) writeFileSync(at(`${number}.json`), "{");
    const again = new Going(["resume", target]);
    await again.saw("going on from checkpoint 1,");
    expect(again.err).toMatch(/checkpoint 3 cannot be used: 3.memory has \d+ bytes, and was saved/);
    expect(again.err).toContain("checkpoint 2 cannot be used: 2.memory is not as it was saved");
    await again.saw(/\n[0-9A-F]{4}\r?\n/);
    again.child.kill("SIGKILL");
    await again.done;
    const only = await seedstrap(["resume", target, "--from", "2"]);
    expect(only.code).toBe(7);
    expect(only.stderr).toContain(`Cannot go on from checkpoint 2 of ${target}`);
    const layer = at("init.img.1.qcow2");
    appendFileSync(layer, "x");
    const none = await seedstrap(["resume", target]);
    expect(none.code).toBe(7);
    expect(none.stderr).toContain("checkpoint 1 cannot be used: init.img.1.qcow2 has");
  },
  120_000,
);

test("what would lose or mix up checkpoints is refused, with the command that helps", async () => {
  const target = await built({ limit: 0x7000 });
  // A guest that does not start leaves nothing.
  const broken = await seedstrap(["run", target, "--checkpoint", "5", "--qemu-cmd", "no-qemu"]);
  expect(broken.code).toBe(9);
  expect(existsSync(checkpoints(target))).toBe(false);
  const none = await seedstrap(["resume", target]);
  expect(none).toMatchObject({ code: 7 });
  expect(none.stderr).toContain("A run saves them with --checkpoint auto");
  const going = new Going(["run", target, "--checkpoint", "5"]);
  await going.counted(4);
  const busy = await seedstrap(["checkpoint", "rm", target, "--all"]);
  expect(busy.stderr).toMatch(/Cannot remove checkpoints of .*: process \d+ uses it/);
  going.child.kill("SIGTERM");
  expect(await going.done).toBe(130);
  const refused = async (args: readonly string[], code: number, text: string) => {
    const ran = await seedstrap(args);
    expect([ran.code, ran.stderr]).toEqual([code, expect.stringContaining(text)]);
  };
  await refused(["run", target], 7, `Go on with: seedstrap resume ${target}.`);
  await refused(["resume", target, "--accel", "kvm"], 2, "it was saved under tcg");
  await refused(["resume", target, "--", "-m", "1G"], 2, "QEMU had other arguments");
  await refused(["resume", target, "--from", "7"], 7, "Cannot find checkpoint 7");
  await refused(["resume", target, "--checkpoint", "off"], 2, "--checkpoint off with resume");
  await refused(["run", target, "--checkpoint", "0"], 2, "--checkpoint");
  await refused(["run", target, "--checkpoint", "soon"], 2, "It takes auto, off, or minutes");
  await refused(["checkpoint", "rm", target], 2, "name them, or use --all");
  await refused(["checkpoint", "rm", target, "7"], 7, "Cannot find checkpoint 7");
  const copy = `${target}-copy`;
  cpSync(target, copy, { recursive: true });
  appendFileSync(join(copy, "init.img"), "");
  const image = readFileSync(join(copy, "init.img"));
  image[600]! ^= 1;
  writeFileSync(join(copy, "init.img"), image);
  await refused(["resume", copy], 7, "init.img is not as it was built");
  const listed = await seedstrap(["checkpoint", "ls", target, "--json"]);
  expect(JSON.parse(listed.stdout)).toMatchObject({
    checkpoints: [{ number: 1, fault: null, reason: "interrupt", accel: "tcg" }],
  });
  expect(await seedstrap(["checkpoint", "rm", target, "--all"])).toMatchObject({ code: 0 });
  expect(existsSync(checkpoints(target))).toBe(false);
}, 120_000);
