// SPDX-License-Identifier: MIT
/**
 * `seedstrap build --boot-device --payload-device`: a plan straight onto loop devices.
 *
 * @module
 */
import { afterEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { EXIT } from "../../src/errors.ts";
import { MIB } from "../../src/format/segment.ts";
import { buildIn, setUp } from "../cli/support.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { loopObstacle, Loops, must } from "../support/loop.ts";
import { seedstrap } from "../support/run.ts";
import { kernelLike } from "../support/kernel.ts";

const why = loopObstacle();
if (why !== undefined) console.log(`skipped: building to loop devices: ${why}`);
const temp = new TempDirs();
const loops = new Loops();
afterEach(() => {
  loops.release();
  temp.release();
});

describe.skipIf(why !== undefined)("seedstrap build", () => {
  const prepare = () => {
    const dir = temp.make();
    const args = setUp(dir);
    const boot = loops.attach(join(dir, "boot"), 16 * MIB, 0xa5);
    const load = loops.attach(join(dir, "load"), 16 * MIB, 0xa5);
    const build = (...more: string[]) =>
      seedstrap(["build", "--bare-metal", "--external-sources", ...args, ...more]);
    return { dir, args, boot, load, build };
  };

  test("writes the same bytes and the same record to devices as to files", async () => {
    const { dir, args, boot, load, build } = prepare();
    expect((await buildIn(dir, args)).code).toBe(0);
    const target = join(dir, "on devices");
    for (const verify of [[], ["--no-verify"]]) {
      const { code, stdout, stderr } = await build(
        "-t",
        target,
        "--boot-device",
        boot.path,
        "--payload-device",
        load.path,
        "--yes",
        boot.name,
        load.name,
        ...verify,
      );
      expect(stderr).not.toContain("seedstrap:");
      expect(code).toBe(0);
      expect(stdout).toContain(`Boot the machine from ${boot.path}`);
      for (const [name, device] of [["init.img", boot], ["payload.img", load]] as const) {
        const file = join(dir, "target", name);
        must("cmp", "-n", String(statSync(file).size), file, device.path);
      }
      expect(readFileSync(join(target, "seedstrap.json"), "utf8"))
        .toBe(readFileSync(join(dir, "target/seedstrap.json"), "utf8"));
      expect(readdirSync(target).filter((name) => name.endsWith(".img"))).toEqual([]);
    }
  });

  test("refuses devices, and asks, before anything is fetched or written", async () => {
    const { dir, boot, load, build } = prepare();
    const target = join(dir, "target");
    const refused = async (expected: number, text: string, ...options: string[]) => {
      const { code, stderr } = await build("-t", target, ...options);
      expect(stderr).toContain(text);
      expect(code).toBe(expected);
      expect(existsSync(target) || existsSync(join(dir, "store"))).toBe(false);
    };
    const both = ["--boot-device", boot.path, "--payload-device", load.path];
    await refused(EXIT.usage, `--yes ${boot.name}`, ...both);
    await refused(EXIT.usage, `is not its name, ${load.name}`, ...both, "--yes", boot.name);
    const twice = ["--boot-device", boot.path, "--payload-device", boot.path];
    await refused(EXIT.target, "it is given for both images", ...twice, "--yes", boot.name);
    linkSync(boot.file, join(dir, "link"));
    const alias = loops.attachFile(join(dir, "link"));
    const aliased = ["--boot-device", boot.path, "--payload-device", alias.path];
    await refused(EXIT.target, "it is given for both images", ...aliased, "--yes", boot.name);
    must("mke2fs", "-q", "-F", load.path);
    const place = join(dir, "place");
    mkdirSync(place);
    must("mount", load.path, place);
    loops.defer(() => must("umount", place));
    await refused(EXIT.target, `is mounted at ${place}`, ...both, "--yes", boot.name, load.name);
    expect(sha256(readFileSync(boot.file))).toBe(sha256(new Uint8Array(16 * MIB).fill(0xa5)));
  });

  test("refuses a device for an image that the plan does not have", async () => {
    const { dir, boot, load, build } = prepare();
    const { code, stderr } = await build(
      "-t",
      join(dir, "target"),
      "--payload",
      "never",
      "--payload-device",
      load.path,
      "--yes",
      load.name,
    );
    expect(stderr).toContain("the plan has no payload");
    expect(code).toBe(EXIT.usage);
    const kernel = join(dir, "vmlinuz");
    writeFileSync(kernel, kernelLike());
    const seeds = join(dir, "tree/seed/stage0-posix/bootstrap-seeds/POSIX/x86");
    mkdirSync(seeds, { recursive: true });
    writeFileSync(join(seeds, "kaem-optional-seed"), "a seed");
    const disk = ["--kernel", kernel, "--boot-device", boot.path, "--yes", boot.name];
    const whole = await build("-t", join(dir, "target"), ...disk);
    expect(whole.stderr).toContain("Cannot use a device with --kernel");
    expect(whole.code).toBe(EXIT.usage);
    const small = loops.attach(join(dir, "small"), MIB, 0xa5);
    const ran = await build(
      "-t",
      join(dir, "target"),
      "--boot-device",
      small.path,
      "--yes",
      small.name,
    );
    expect(ran.stderr).toContain("and the image has");
    expect(ran.code).toBe(EXIT.target);
    expect(sha256(readFileSync(small.file))).toBe(sha256(new Uint8Array(MIB).fill(0xa5)));
    expect(readFileSync(boot.file)[0]).toBe(0xa5);
  });
});
