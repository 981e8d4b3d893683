// SPDX-License-Identifier: MIT
import { expect } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expand } from "../../src/archive/expand.ts";
import { readQcow2 } from "../../src/format/qcow2.ts";
import { layersOf } from "../../src/record/checkpoints.ts";
import { openImage } from "../../src/source/file.ts";
import { run, seedstrap, testWith } from "../support/run.ts";
import {
  built,
  checkpoints,
  cleanUp,
  DONE,
  expectWhole,
  Going,
  JUMP,
  lastLog,
  temp,
} from "./going.ts";

cleanUp();
const test = testWith("qemu-system-x86_64");
const testDisk = testWith("qemu-img");

test("a run of three machines, each with its budget, ends as one run", async () => {
  const counting = { last: DONE, limit: 0x1c0 };
  // Each builds for itself, as a job of a CI does: the images are the same.
  const machines = [await built(counting), await built(counting), await built(counting)];
  const file = (index: number) => join(machines[index]!, "..", "checkpoint.zst");
  const first = new Going(["run", machines[0]!, "--budget", "12s"]);
  expect(await first.done).toBe(19);
  expect(await seedstrap(["checkpoint", "export", machines[0]!, "-o", file(0)])).toMatchObject({
    code: 0,
  });
  const imported = await seedstrap(["checkpoint", "import", file(0), machines[1]!]);
  expect(imported).toMatchObject({ code: 0 });
  expect(imported.stdout).toContain(`go on with: seedstrap resume ${machines[1]}`);
  const second = new Going(["resume", machines[1]!, "--budget", "12s"]);
  expect(await second.done).toBe(19);
  const carried = await seedstrap(["checkpoint", "export", machines[1]!, "-o", file(1), "--json"]);
  expect(JSON.parse(carried.stdout)).toMatchObject({ reason: "budget", accel: "tcg" });
  expect(await seedstrap(["checkpoint", "import", file(1), machines[2]!])).toMatchObject({
    code: 0,
  });
  const last = new Going(["resume", machines[2]!]);
  expect(await last.done).toBe(0);
  expect(last.err).toContain("done: every step was built");
  expectWhole(lastLog(machines[2]!), 0x1c0);
}, 180_000);

test("what is damaged, or of other images, is refused, and leaves nothing", async () => {
  const target = await built({ text: JUMP, limit: 0x7000 });
  const going = new Going(["run", target, "--checkpoint", "auto"]);
  await going.saw("checkpoint 2 saved");
  going.child.kill("SIGINT");
  expect(await going.done).toBe(130);
  const file = join(temp.make(), "good.zst");
  expect(await seedstrap(["checkpoint", "export", target, "-o", file])).toMatchObject({ code: 0 });
  const there = await seedstrap(["checkpoint", "export", target, "-o", file]);
  expect(there).toMatchObject({ code: 7 });
  const onto = await seedstrap(["checkpoint", "import", file, target]);
  expect(onto).toMatchObject({ code: 7 });
  expect(onto.stderr).toContain("it has some");
  const names = (await run(["tar", "--zstd", "-tf", file])).stdout.split("\n");
  expect(names.slice(0, 3)).toEqual(["export.json", "checkpoint.json", "run.log"]);

  const same = await built({ text: JUMP, limit: 0x7000 });
  const refused = async (bytes: Uint8Array, code: number, message: string | RegExp) => {
    const bad = join(temp.make(), "bad.zst");
    writeFileSync(bad, bytes);
    const { code: got, stderr } = await seedstrap(["checkpoint", "import", bad, same]);
    expect({ got, stderr }).toMatchObject({ got: code });
    expect(stderr).toMatch(message);
    expect(existsSync(checkpoints(same)) ? readdirSync(checkpoints(same)) : []).toEqual([]);
    expect(await seedstrap(["checkpoint", "ls", same])).toMatchObject({ code: 0 });
  };
  const good = readFileSync(file);
  await refused(good.subarray(0, good.length - 1), 6, /ends too early/);
  await refused(good.subarray(0, good.length / 2), 6, /ends too early/);
  await refused(Buffer.from("no checkpoint"), 6, /not compressed with zstd/);
  const plain: Uint8Array[] = [];
  const source = openImage(file);
  for await (const piece of expand(source, "zstd")) plain.push(piece);
  source.close();
  const packed = (bytes: Uint8Array) => Bun.zstdCompressSync(bytes);
  const whole = Buffer.concat(plain);
  const flipped = Buffer.from(whole);
  flipped[whole.length - 20_000]! ^= 1;
  await refused(packed(flipped), 5, /is not as it was saved/);
  await refused(packed(whole.subarray(0, whole.length - 512)), 6, /ends too early/);
  await refused(packed(Buffer.concat([whole, Buffer.from("x")])), 6, /something else follows/);
  // Names that lead elsewhere: what they are is known before.
  const renamed = Buffer.from(whole);
  renamed.write("../../../x", renamed.indexOf("run.log"));
  await refused(packed(renamed), 6, /run.log of \d+ bytes does not follow/);
  const other = await built({ text: JUMP, limit: 0x7001 });
  const others = await seedstrap(["checkpoint", "import", file, other]);
  expect(others).toMatchObject({ code: 7 });
  expect(others.stderr).toContain("it is of other images than");
  expect(await seedstrap(["checkpoint", "import", file, same])).toMatchObject({ code: 0 });
  const again = new Going(["resume", same]);
  await again.saw(/\n[0-9A-F]{4}\r?\n/);

  const memory = join(checkpoints(target), "2.memory");
  const changed = readFileSync(memory);
  changed[changed.length - 100]! ^= 1;
  for (const bytes of [changed, changed.subarray(0, 100)]) {
    writeFileSync(memory, bytes);
    const bad = await seedstrap(["checkpoint", "export", target, "--from", "2", "-o", `${file}.2`]);
    expect(bad).toMatchObject({ code: 5 });
    expect(bad.stderr).toContain("2.memory is not as it was saved");
    expect(existsSync(`${file}.2`)).toBe(false);
  }
}, 180_000);

testDisk("the disk of a guest in one file is what qemu-img makes of its layers", async () => {
  const target = await built({ text: JUMP, limit: 0x7000 });
  const going = new Going(["run", target, "--checkpoint", "auto", "--keep-checkpoints", "50"]);
  await going.saw("checkpoint 4 saved", 30_000);
  const running = await seedstrap(["checkpoint", "disk", target, "-o", "x.img"]);
  expect(running).toMatchObject({ code: 7 });
  going.child.kill("SIGKILL");
  await going.done;
  const out = temp.make();
  const disk = join(out, "disk.img");
  expect(await seedstrap(["checkpoint", "disk", target, "-o", disk])).toMatchObject({ code: 0 });
  const layers = layersOf(target, "init.img");
  expect(layers.length).toBeGreaterThan(1);
  // Each layer names the one before, as nothing was merged yet.
  const top = openImage(layers.at(-1)!);
  expect(readQcow2(top).sizeBytes).toBe(readFileSync(disk).length);
  top.close();
  const made = join(out, "made.img");
  const convert = ["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", layers.at(-1)!, made];
  expect(await run(convert)).toMatchObject({ code: 0 });
  expect(readFileSync(disk).equals(readFileSync(made))).toBe(true);
  const at = join(out, "at.img");
  const args = ["checkpoint", "disk", target, "--from", "2", "--image", "init.img", "-o", at];
  expect(await seedstrap(args)).toMatchObject({ code: 0 });
  expect(readFileSync(at).equals(readFileSync(disk))).toBe(false);
  const none = await seedstrap(["checkpoint", "disk", target, "--image", "x", "-o", `${at}2`]);
  expect(none).toMatchObject({ code: 7 });
  expect(none.stderr).toContain("It has init.img");
}, 120_000);
