// SPDX-License-Identifier: MIT
/**
 * `seedstrap write` onto real loop devices: what is written, and what is refused and left alone.
 *
 * @module
 */
import { afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { readRecord } from "../../src/record/read.ts";
import { EXIT } from "../../src/errors.ts";
import { LINUX_PARTITION, mbr } from "../../src/format/mbr.ts";
import { payload } from "../../src/format/payload.ts";
import { joinedSegment, MIB, type Segment, textSegment } from "../../src/format/segment.ts";
import { imageToWrite } from "../../src/job/write.ts";
import { writeToDevice } from "../../src/device/write.ts";
import { checkFit, chooseTarget } from "../../src/device/candidates.ts";
import { BlockFile } from "../../src/device/block_file.ts";
import { writeImage } from "../../src/write/writer.ts";
import { buildIn, setUp } from "../cli/support.ts";
import { rejection } from "../fetch/harness.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { type Loop, loopObstacle, Loops, must, sh } from "../support/loop.ts";
import { asNobody } from "../support/nobody.ts";
import { DENO, MAIN, type Ran, run, seedstrap } from "../support/run.ts";
import { testAtTerminal } from "../support/terminal.ts";

const why = loopObstacle();
if (why !== undefined) console.log(`skipped: writing to loop devices: ${why}`);
const atTerminal = why === undefined ? testAtTerminal() : test.skip;
const temp = new TempDirs();
const loops = new Loops();
afterEach(() => {
  loops.release();
  temp.release();
});

const SIZE = 48 * MIB;
const RUNTIMES = [
  ["Bun", [process.execPath, MAIN]],
  ["Deno", [DENO, "run", "--quiet", "--allow-all", MAIN]],
] as const;

/** The byte that fills a device before a write. */
const OLD = 0xa5;

/** A payload image of 3 files with holes in it: data at both ends, 20 MiB of zeros between. */
function sparseImage(dir: string): string {
  const path = join(dir, "payload.img");
  const zeros = join(dir, "zeros");
  writeFileSync(zeros, "");
  truncateSync(zeros, 20 * MIB);
  const entries = [
    { name: "a", body: { kind: "bytes", bytes: sampleBody(9 * MIB + 4097) } as const },
    {
      name: "b",
      body: { kind: "file", path: zeros, offsetBytes: 0, sizeBytes: 20 * MIB } as const,
    },
    { name: "c", body: { kind: "bytes", bytes: sampleBody(70001) } as const },
  ];
  const file = openSync(path, "w");
  let offset = 0;
  for (const segment of payload(entries, 64)) {
    if (segment.kind === "bytes") writeSync(file, segment.bytes, 0, segment.bytes.length, offset);
    if (segment.kind !== "crc32") {
      offset += segment.kind === "bytes" ? segment.bytes.length : segment.sizeBytes;
    }
  }
  closeSync(file);
  truncateSync(path, 32 * MIB);
  return path;
}

function bytesAt(path: string, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const file = openSync(path, "r");
  readSync(file, bytes, 0, length, offset);
  closeSync(file);
  return bytes;
}

/** Expects that a device begins with an image, and that the rest is unchanged. */
function expectWritten(image: string, device: Loop, size = statSync(image).size): void {
  expect(sh(["cmp", "-n", String(size), image, device.path])).toEqual({ code: 0, out: "" });
  const after = bytesAt(device.file, size, SIZE - size);
  expect(after.every((byte) => byte === OLD)).toBe(true);
}

function write(image: string, device: Loop, ...options: string[]): Promise<Ran> {
  return seedstrap(["write", image, device.path, "--yes", device.name, ...options]);
}

/** Expects a refusal with these texts, and that nothing was written. */
async function expectRefused(ran: Promise<Ran>, device: Loop, ...texts: string[]): Promise<void> {
  const before = sha256(readFileSync(device.file));
  const { code, stdout, stderr } = await ran;
  for (const text of texts) expect(stderr).toContain(text);
  expect(stdout).toBe("");
  expect(code).toBe(EXIT.target);
  expect(sha256(readFileSync(device.file))).toBe(before);
}

describe.skipIf(why !== undefined)("seedstrap write", () => {
  test("writes a sparse image, zeroes its holes, and changes nothing after it", async () => {
    const dir = temp.make();
    const image = sparseImage(dir);
    expect(statSync(image).blocks * 512).toBeLessThan(11 * MIB);
    const device = loops.attach(join(dir, "disk"), SIZE, OLD);
    const { code, stdout, stderr } = await write(image, device);
    expect(stderr).not.toContain("seedstrap:");
    expect(code).toBe(0);
    expect(stdout).toContain("read back from the device, and equal to the last byte");
    expectWritten(image, device);
  });

  test("writes the same under Deno", async () => {
    const dir = temp.make();
    const image = sparseImage(dir);
    const device = loops.attach(join(dir, "disk"), SIZE, OLD);
    const command = [DENO, "run", "--quiet", "--allow-all", MAIN];
    const { code, stderr } = await run(
      [...command, "write", image, device.path, "--yes", device.name, "--json"],
    );
    expect(stderr).not.toContain("seedstrap:");
    expect(code).toBe(0);
    expectWritten(image, device);
  });

  test("writes zeros where the device cannot make them", async () => {
    const dir = temp.make();
    const image = sparseImage(dir);
    // A file on ramfs has no holes, and thus the device no way to zero a range.
    const ram = join(dir, "ram");
    mkdirSync(ram);
    must("mount", "-t", "ramfs", "none", ram);
    const device = loops.attach(join(ram, "disk"), SIZE, OLD);
    loops.defer(() => must("umount", "-l", ram));
    const limit = `/sys/block/${device.name}/queue/write_zeroes_max_bytes`;
    expect(readFileSync(limit, "utf8")).toBe("0\n");
    const { code } = await write(image, device);
    expect(code).toBe(0);
    expectWritten(image, device);
  });

  test("checks an image against the seedstrap.json beside it", async () => {
    const dir = temp.make();
    const { code } = await buildIn(dir, setUp(dir));
    expect(code).toBe(0);
    const image = join(dir, "target/init.img");
    const device = loops.attach(join(dir, "disk"), SIZE, OLD);
    const good = await write(image, device, "--json");
    expect(good.code).toBe(0);
    const record = readRecord(join(dir, "target"));
    const { dataBytes, piecesSha256 } = record.images[0]!;
    expect(JSON.parse(good.stdout)).toMatchObject({ kind: "boot", piecesSha256 });
    expectWritten(image, device);

    const file = openSync(image, "r+");
    writeSync(file, "x", 2000);
    closeSync(file);
    const bad = await write(image, device);
    expect(bad.code).toBe(EXIT.verify);
    expect(bad.stderr).toContain("./external/distfiles/alpha-1.0.tar.gz is not as it was built");
    expect(bad.stderr).toContain("does not boot: its first MiB is zeros");
    expect(bytesAt(device.path, 0, MIB).every((byte) => byte === 0)).toBe(true);

    const recordPath = join(dir, "target/seedstrap.json");
    const whole = readFileSync(recordPath);
    writeFileSync(recordPath, whole.subarray(0, whole.length / 2));
    const cut = await write(image, device);
    expect(cut.code).toBe(EXIT.target);
    expect(cut.stderr).toContain(`Cannot understand ${recordPath}`);
    writeFileSync(recordPath, whole);

    truncateSync(image, dataBytes + MIB);
    const longer = await write(image, device);
    expect(longer.code).toBe(EXIT.verify);
    expect(longer.stderr).toContain(`it has ${dataBytes + MIB} bytes`);
  });

  test("writes segments without an image file, and refuses a file that changed", async () => {
    const dir = temp.make();
    const body = sampleBody(5 * MIB + 3);
    const path = join(dir, "file");
    writeFileSync(path, body);
    const segments: Segment[] = [
      textSegment("LBPAYLD1 or so"),
      { kind: "file", path, offsetBytes: 0, sizeBytes: body.length, sha256: sha256(body) },
      { kind: "zeros", sizeBytes: 3 * MIB },
      joinedSegment([
        textSegment("joined"),
        { kind: "file", path, offsetBytes: 0, sizeBytes: body.length },
        { kind: "zeros", sizeBytes: 700 },
      ]),
      textSegment("the end"),
    ];
    const device = loops.attach(join(dir, "disk"), SIZE, OLD);
    const image = { segments, sizeBytes: 16 * MIB };
    const target = chooseTarget(device.path, false);
    checkFit(target, image.sizeBytes, []);
    const { report } = await writeToDevice(image, target, true);
    const like = join(dir, "like");
    const { piecesSha256, fileDigests } = await writeImage(like, segments, {
      sizeBytes: 16 * MIB,
    });
    const files = new Set([segments[1]!, segments[3]!]);
    expectWritten(like, device);
    expect(report.isVerified).toBe(true);
    for (const isVerified of [true, false]) {
      const known = await writeToDevice({ ...image, files, piecesSha256 }, target, isVerified);
      expect(known.report.piecesSha256).toBe(piecesSha256);
      expect(known.fileDigests.get(segments[1]!)).toBe(sha256(body));
      expect(known.fileDigests.get(segments[3]!)).toBe(fileDigests.get(segments[3]!));
    }

    writeFileSync(path, sampleBody(5 * MIB + 3).reverse());
    const error = await rejection(writeToDevice(image, target, true));
    expect(error).toMatchObject({ kind: "verify" });
    expect(bytesAt(device.path, 0, MIB).every((byte) => byte === 0)).toBe(true);
  });

  test("writes to a regular file only while no other process does", async () => {
    const dir = temp.make();
    const image = sparseImage(dir);
    const path = join(dir, "file");
    writeFileSync(path, new Uint8Array(SIZE).fill(OLD));
    const file = { path, name: "file", file: path };
    const other = BlockFile.open(chooseTarget(path, true));
    await expectRefused(write(image, file, "--file"), file, "another process is writing to it");
    const command = [DENO, "run", "--quiet", "--allow-all", MAIN, "write", image, path];
    await expectRefused(
      run([...command, "--yes", "file", "--file"]),
      file,
      "another process is writing to it",
    );
    await other.close();
    expect(await write(image, file, "--file")).toMatchObject({ code: 0 });
    expectWritten(image, file);
  });

  test("writes to a regular file only with --file, in place", async () => {
    const dir = temp.make();
    const image = sparseImage(dir);
    const disk = join(dir, "disk");
    writeFileSync(disk, new Uint8Array(SIZE).fill(OLD));
    const device = { path: disk, name: "disk", file: disk };
    await expectRefused(write(image, device), device, "it is a regular file", "--file");
    const { code, stdout } = await write(image, device, "--file");
    expect(stdout).toMatch(/read back (from the file|and equal; the file)/);
    expect(stdout).not.toContain("from the device");
    expect(code).toBe(0);
    expectWritten(image, device);
    await expectRefused(
      seedstrap(["write", image, image, "--file", "--yes", "payload.img"]),
      { path: image, name: "payload.img", file: image },
      "it is the image itself",
    );
  });

  describe("refuses", () => {
    let dir = "";
    let image = "";
    let device: Loop;
    const builtBoot = async () => {
      expect((await buildIn(dir, setUp(dir))).code).toBe(0);
      return join(dir, "target/init.img");
    };
    const prepare = (...options: string[]) => {
      dir = temp.make();
      image = sparseImage(dir);
      device = loops.attach(join(dir, "disk"), SIZE, OLD, ...options);
    };

    test("a device that is mounted", async () => {
      prepare();
      must("mke2fs", "-q", "-F", device.path);
      const place = join(dir, "a place");
      mkdirSync(place);
      must("mount", "-o", "ro", device.path, place);
      loops.defer(() => must("umount", place));
      const { code, stderr } = await write(image, device);
      expect(stderr).toContain(`${device.name} is mounted at ${place}`);
      expect(code).toBe(EXIT.target);
      must("cmp", device.path, device.file);
      expect(bytesAt(device.file, 1080, 2)).toEqual(new Uint8Array([0x53, 0xef]));
    });

    test("a device that is mounted in another namespace", async () => {
      const { code: mayUnshare, out } = sh(["unshare", "-m", "true"]);
      if (mayUnshare !== 0) {
        console.log(`skipped: a device that is mounted where nobody else sees it: ${out.trim()}`);
        return;
      }
      prepare();
      must("mke2fs", "-q", "-F", device.path);
      const place = join(dir, "hidden");
      mkdirSync(place);
      const holder = Bun.spawn([
        "unshare",
        "-m",
        "sh",
        "-c",
        `mount ${device.path} ${place} && echo mounted && exec sleep 100`,
      ], { stdout: "pipe" });
      loops.defer(() => holder.kill("SIGKILL"));
      const { value } = await holder.stdout.getReader().read();
      expect(new TextDecoder().decode(value)).toBe("mounted\n");
      const { code, stderr } = await write(image, device);
      expect(stderr).toContain("EBUSY");
      expect(stderr).toContain("also in a container");
      expect(code).toBe(EXIT.target);
      expect(bytesAt(device.file, 1080, 2)).toEqual(new Uint8Array([0x53, 0xef]));
      holder.kill("SIGKILL");
      await holder.exited;
    });

    test("a disk of which a partition is mounted, and the partition itself", async () => {
      prepare("-P");
      const table = Bun.spawnSync(["sfdisk", "-q", device.path], {
        stdin: new TextEncoder().encode("2048,40960,83\n"),
      });
      expect(table.exitCode).toBe(0);
      must("partx", "-u", device.path);
      const partition = `${device.path}p1`;
      must("mke2fs", "-q", "-F", partition);
      await expectRefused(
        seedstrap(["write", image, partition, "--yes", `${device.name}p1`]),
        device,
        `it is partition ${device.name}p1 of ${device.name}`,
        `/dev/${device.name}`,
      );
      const place = join(dir, "place");
      mkdirSync(place);
      must("mount", "-o", "ro", partition, place);
      loops.defer(() => must("umount", place));
      await expectRefused(
        write(image, device),
        device,
        `${device.name}p1 is mounted at ${place}`,
      );
    });

    test("swap in use", async () => {
      prepare();
      must("mkswap", device.path);
      const { code, out } = sh(["swapon", device.path]);
      if (code !== 0) {
        console.log(`skipped: swap in use: ${out.trim()}`);
        return;
      }
      loops.defer(() => must("swapoff", device.path));
      await expectRefused(write(image, device), device, `${device.name} is swap in use`);
    });

    test("a device that is read-only", async () => {
      prepare("-r");
      await expectRefused(write(image, device), device, "it is read-only");
    });

    test("a device that backs another loop device", async () => {
      prepare();
      const above = loops.attachFile(device.path);
      await expectRefused(
        write(image, device),
        device,
        `${device.name} is part of ${above.name}`,
      );
    });

    test("the image that backs the device", async () => {
      prepare();
      const shown = loops.attachFile(image);
      await expectRefused(write(image, shown), shown, "it is the image itself");
    });

    for (const [runtime, command] of RUNTIMES) {
      test(`the image under another name, as a file and as a device, under ${runtime}`, async () => {
        prepare();
        const bound = join(dir, "bound");
        mkdirSync(bound);
        must("mount", "--bind", dir, bound);
        loops.defer(() => must("umount", "-l", bound));
        const link = join(dir, "link");
        linkSync(image, link);
        const aliases = [link, join(bound, "payload.img")];
        const refused = (path: string, name: string, ...options: string[]) =>
          expectRefused(
            run([...command, "write", image, path, "--yes", name, ...options]),
            { path, name, file: image },
            "it is the image itself, or backed by it",
          );
        for (const path of aliases) await refused(path, basename(path), "--file");
        for (const path of aliases) {
          const shown = loops.attachFile(path);
          await refused(shown.path, shown.name);
        }
        const above = loops.attachFile(loops.attachFile(link).path);
        await refused(above.path, above.name);
        const gone = join(dir, "gone");
        linkSync(image, gone);
        const nameless = loops.attachFile(gone);
        unlinkSync(gone);
        await refused(nameless.path, nameless.name);
      });
    }

    test("the file under the file system that the file is in", async () => {
      prepare();
      const startSector = 64 * MIB / 512;
      const sectorCount = 16 * MIB / 512;
      const table = mbr({ isBootable: false, type: LINUX_PARTITION, startSector, sectorCount }, 1);
      writeFileSync(image, table);
      truncateSync(image, 128 * MIB);
      must("mke2fs", "-q", "-F", "-E", `offset=${64 * MIB}`, image, "16M");
      const below = loops.attachFile(image, "-o", String(64 * MIB));
      const place = join(dir, "place");
      mkdirSync(place);
      must("mount", below.path, place);
      loops.defer(() => must("umount", place));
      const path = join(place, "file");
      writeFileSync(path, "");
      truncateSync(path, 128 * MIB);
      const { code, stderr } = await seedstrap(["write", image, path, "--yes", "file", "--file"]);
      expect(stderr).toContain("it is the image itself, or backed by it");
      expect(code).toBe(EXIT.target);
    });

    test("a file under any name that backs a device", async () => {
      prepare();
      const link = join(dir, "link");
      linkSync(device.file, link);
      for (const path of [device.file, link]) {
        await expectRefused(
          seedstrap(["write", image, path, "--yes", basename(path), "--file"]),
          device,
          `${device.name} is backed by it`,
        );
      }
    });

    test("a device as the image", async () => {
      prepare();
      const other = loops.attachFile(image);
      await expectRefused(write(other.path, device), device, "it is a device, not an image file");
    });

    test("a device that is too small", async () => {
      prepare();
      const small = loops.attach(join(dir, "small"), 31 * MIB, OLD);
      await expectRefused(
        write(image, small),
        small,
        `it has ${31 * MIB} bytes, and the image has ${32 * MIB}`,
      );
    });

    test("a path that is not a block device, or does not exist", async () => {
      prepare();
      const refused = async (path: string, text: string) => {
        const { code, stderr } = await seedstrap(["write", image, path, "--yes", "x"]);
        expect(stderr).toContain(text);
        expect(code).toBe(EXIT.target);
      };
      await refused("/dev/null", "it is not a block device");
      await refused(dir, "it is not a block device");
      await refused(join(dir, "nothing"), "there is no such device");
    });

    test("the disk that the system runs from", async () => {
      prepare();
      const source = sh(["findmnt", "-n", "-o", "MAJ:MIN", "/"]).out.trim();
      if (source === "") {
        console.log("skipped: the disk of the system: its root is no mount point here");
        return;
      }
      const name = sh(["readlink", "-f", `/sys/dev/block/${source}`]).out.trim().split("/").at(-1);
      if (name === undefined || !statSync(`/dev/${name}`).isBlockDevice()) {
        console.log("skipped: the disk of the system: it is not a block device here");
        return;
      }
      const { code, stderr } = await seedstrap(["write", image, `/dev/${name}`, "--yes", "x"]);
      expect(stderr).toMatch(/the system runs from it|it is partition/);
      expect(code).toBe(EXIT.target);
    });

    test("another disk that has the name by now", async () => {
      prepare();
      const target = chooseTarget(device.path, false);
      const other = join(dir, "other");
      writeFileSync(other, new Uint8Array(SIZE).fill(OLD));
      must("losetup", "-d", device.path);
      must("losetup", device.path, other);
      const error = await rejection(writeToDevice(imageToWrite(image), target, true));
      expect(error).toMatchObject({
        kind: "target",
        message: expect.stringContaining("it is another disk now"),
      });
      expect(readFileSync(other).every((byte) => byte === OLD)).toBe(true);
    });

    test("an image without a record that ends early, before anything is written", async () => {
      prepare();
      const cut = join(dir, "cut.img");
      for (const [kind, path] of [["payload", image], ["boot", await builtBoot()]] as const) {
        copyFileSync(path, cut);
        expect((await write(cut, device)).code).toBe(0);
        writeFileSync(device.file, new Uint8Array(SIZE).fill(OLD));
        truncateSync(cut, kind === "payload" ? 10 * MIB : 1024);
        const before = sha256(readFileSync(device.file));
        const { code, stdout, stderr } = await write(cut, device);
        expect(stderr).toMatch(/Cannot read image: .*(are left|ends)/);
        expect(stderr).toContain(`at ${cut}, offset `);
        expect(stderr).toContain("Copy or build it again");
        expect([code, stdout]).toEqual([EXIT.format, ""]);
        expect(sha256(readFileSync(device.file))).toBe(before);
      }
    });

    test("a file that is no image", async () => {
      prepare();
      const junk = join(dir, "junk");
      writeFileSync(junk, sampleBody(MIB));
      const { code, stderr } = await write(junk, device);
      expect(stderr).toContain("neither a boot image");
      expect(code).toBe(EXIT.format);
    });
  });

  test("has a hint for users without permission", async () => {
    const dir = temp.make();
    const image = sparseImage(dir);
    const device = loops.attach(join(dir, "disk"), SIZE, OLD);
    chmodSync(dir, 0o755);
    chmodSync(device.file, 0o600);
    const command = asNobody(dir);
    const listed = await seedstrap(["devices"], { command, cwd: dir });
    expect(listed.stderr).toBe("");
    expect(listed.stdout).toMatch(new RegExp(`^${device.path} .* \\?$`, "m"));
    const written = seedstrap(["write", image, device.path, "--yes", device.name], {
      command,
      cwd: dir,
    });
    await expectRefused(written, device, "EACCES", "use sudo");
    const link = join(dir, "link");
    linkSync(device.file, link);
    const aliased = seedstrap(["write", image, link, "--yes", "link", "--file"], {
      command,
      cwd: dir,
    });
    await expectRefused(aliased, device, `${device.name} is backed by it`);
  });

  describe("asks", () => {
    let image = "";
    let device: Loop;
    const prepare = () => {
      const dir = temp.make();
      image = sparseImage(dir);
      device = loops.attach(join(dir, "disk"), SIZE, OLD);
    };
    /** Types at a terminal, under Bun or Deno. */
    const typed = async (input: string, command: readonly string[]): Promise<Ran> => {
      const words = [...command, "write", image, device.path].join(" ");
      const child = Bun.spawn(["script", "-qec", words, "/dev/null"], {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "pipe",
      });
      const out: string[] = [];
      for await (const chunk of child.stdout) {
        out.push(new TextDecoder().decode(chunk));
        if (out.join("").includes("to go on: ") && input !== "") {
          child.stdin.write(input);
          child.stdin.flush();
          input = "";
        }
      }
      return { code: await child.exited, stdout: out.join(""), stderr: "" };
    };
    for (const [runtime, command] of RUNTIMES) {
      atTerminal(`and writes when the name is typed, under ${runtime}`, async () => {
        prepare();
        const { code, stdout } = await typed(`${device.name}\n`, command);
        expect(stdout).toContain("Everything on it is lost");
        expect(code).toBe(0);
        expectWritten(image, device);
      });

      atTerminal(`and writes when its path is typed, under ${runtime}`, async () => {
        prepare();
        expect(await typed(`${device.path}\n`, command)).toMatchObject({ code: 0 });
        expectWritten(image, device);
      });

      atTerminal(`and leaves it alone for anything else, under ${runtime}`, async () => {
        prepare();
        const before = sha256(readFileSync(device.file));
        for (const [input, expected] of [["yes\n", 2], ["\x04", 2], ["\x03", 130]] as const) {
          expect((await typed(input, command)).code).toBe(expected);
        }
        expect(sha256(readFileSync(device.file))).toBe(before);
      }, 60_000);
    }

    test("no one without a terminal", async () => {
      prepare();
      const { code, stderr } = await seedstrap(["write", image, device.path]);
      expect(stderr).toContain(`--yes ${device.name}`);
      expect(code).toBe(EXIT.usage);
      const wrong = await seedstrap(["write", image, device.path, "--yes", "loop"]);
      expect(wrong.stderr).toContain(`is not its name, ${device.name}`);
      expect(wrong.code).toBe(EXIT.usage);
      expect(bytesAt(device.file, 0, 1)[0]).toBe(OLD);
    });
  });

  for (const signal of ["SIGINT", "SIGKILL"] as const) {
    test(`${signal} in the middle leaves a device that does not boot`, async () => {
      const dir = temp.make();
      const image = join(dir, "disk.img");
      const sectorCount = 500 * MIB / 512;
      const boot = mbr(
        { isBootable: true, type: LINUX_PARTITION, startSector: 2048, sectorCount },
        1,
      );
      writeFileSync(image, boot);
      must("dd", "if=/dev/urandom", `of=${image}`, "bs=1M", "seek=1", "count=500", "status=none");
      const disk = join(dir, "disk");
      const device = loops.attach(disk, 600 * MIB);
      writeFileSync(disk, boot, { flag: "r+" });
      const child = Bun.spawn(
        [process.execPath, MAIN, "write", image, device.path, "--yes", device.name],
        { stdout: "pipe", stderr: "pipe" },
      );
      while (statSync(disk).blocks * 512 < 100 * MIB && child.exitCode === null) await Bun.sleep(5);
      child.kill(signal);
      await child.exited;
      expect(bytesAt(device.path, 0, MIB).every((byte) => byte === 0)).toBe(true);
      expect(bytesAt(device.path, 2 * MIB, MIB)).toEqual(bytesAt(image, 2 * MIB, MIB));
      if (signal === "SIGKILL") return;
      expect(child.exitCode).toBe(EXIT.interrupt);
      expect(await new Response(child.stderr).text()).toContain("does not boot");
    });
  }
});
