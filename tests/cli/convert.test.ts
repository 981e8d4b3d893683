// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { vmdkDescriptor } from "../../src/format/vmdk.ts";
import { sampleBody } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { run, seedstrap, testWith } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const testImg = testWith("qemu-img");

/** A sparse image with some data, whose name a program could take for something else. */
function image(): { dir: string; path: string } {
  const dir = temp.make();
  const path = join(dir, "nbd:a,b -x.img");
  writeFileSync(path, sampleBody(300_000));
  truncateSync(path, 64 * 1024 * 1024);
  return { dir, path };
}

for (const format of ["qcow2", "vdi", "vmdk", "vmdk-flat"]) {
  testImg(`an image becomes ${format}, and qemu-img reads the same disk from it`, async () => {
    const { dir, path } = image();
    const out = join(dir, `disk.${format}`);
    const ran = await seedstrap(["image", "convert", path, "--to", format, "-o", out, "--json"]);
    expect(ran).toMatchObject({ code: 0 });
    expect(JSON.parse(ran.stdout)).toMatchObject({ format, sizeBytes: 64 * 1024 * 1024 });
    const kind = format.replace("-flat", "");
    const same = await run(["qemu-img", "compare", "-f", "raw", "-F", kind, path, out]);
    expect(same).toMatchObject({ code: 0, stdout: "Images are identical.\n" });
    const again = await seedstrap(["image", "convert", path, "--to", format, "-o", out]);
    expect(again).toMatchObject({ code: 7 });
  });
}

test("without qemu-img only the descriptor can be made, and it says so", async () => {
  const { dir, path } = image();
  const env = { PATH: temp.make() };
  const command = [process.execPath, join(import.meta.dirname!, "../../src/cli/main.ts")];
  const args = ["image", "convert", path, "--to", "vdi", "-o", join(dir, "x.vdi")];
  const refused = await seedstrap(args, { env, command });
  expect(refused).toMatchObject({ code: 9 });
  expect(refused.stderr).toContain("qemu-img is not installed");
  expect(refused.stderr).toContain("vmdk-flat");
  const flat = ["image", "convert", path, "--to", "vmdk-flat", "-o", join(dir, "x.vmdk")];
  expect(await seedstrap(flat, { env, command })).toMatchObject({ code: 0 });
  expect(readFileSync(join(dir, "x.vmdk"), "utf8")).toContain(
    'RW 131072 FLAT "nbd:a,b -x.img" 0\n',
  );
});

test("what cannot be a disk is refused, and leaves nothing", async () => {
  const dir = temp.make();
  const odd = join(dir, "odd");
  writeFileSync(odd, "x".repeat(1000));
  const args = ["image", "convert", odd, "--to", "vmdk-flat", "-o", join(dir, "x.vmdk")];
  expect(await seedstrap(args)).toMatchObject({ code: 2 });
  expect(existsSync(join(dir, "x.vmdk"))).toBe(false);
  expect(readdirSync(dir)).toEqual(["odd"]);
  expect(() => vmdkDescriptor('a"b', 512)).toThrow("Cannot describe");
  expect(vmdkDescriptor("a", 2 ** 41)).toContain('ddb.geometry.cylinders = "16383"');
});
