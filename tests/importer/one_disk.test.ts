// SPDX-License-Identifier: MIT
/**
 * The script that makes the partition of the system after a payload on the same disk, sourced as
 * the generated scripts do it, in a root of its own. Its disk is a file, so that no kernel shows the
 * partitions: they are files beside it. A run under a kernel is in scripts/acceptance/disk.sh.
 *
 * @module
 */
import { afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bootImage } from "../../src/format/boot.ts";
import { DATA_PARTITION, LINUX_PARTITION, readMbr, withPartition } from "../../src/format/mbr.ts";
import { payload } from "../../src/format/payload.ts";
import { memorySource } from "../../src/format/reader.ts";
import { GIB, MIB, textSegment } from "../../src/format/segment.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { TempDirs } from "../support/files.ts";
import { type Ran, run } from "../support/run.ts";
import { bytesOfSegments } from "../support/sources.ts";
import { STAGE1_TEXT } from "../support/tree.ts";

const SCRIPT = fileURLToPath(new URL("../../steps/improve/one_disk.sh", import.meta.url).href);
const temp = new TempDirs();
afterEach(() => temp.release());

const stage1 = assembleHex0(new TextEncoder().encode(STAGE1_TEXT), "stage1");
// As builder-hex0 has it.
stage1.set([0x80, 0, 0, 0, 0xb5, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 446);
const carried = payload([{ name: "one.tar", body: textSegment("content") }]);
const boot = { stage1, stage2: textSegment("90\n"), srcfs: [textSegment("src 0 .\n")] };
const image = bytesOfSegments(bootImage({ ...boot, payload: carried }));

/** A boot disk whose payload begins at a sector and has a number of them. */
function diskWith(startSector: number, sectorCount: number): Uint8Array {
  const partition = { isBootable: false, type: DATA_PARTITION, startSector, sectorCount };
  return withPartition(stage1, 2, partition);
}

interface Scene {
  readonly disk?: Uint8Array;
  readonly sizeBytes?: number;
  /** Content of what the kernel shows as the second partition. */
  readonly second?: Uint8Array;
  /** Text of a program that is in the place of the real one. */
  readonly programs?: Readonly<Record<string, string>>;
  readonly shell?: string;
}

/** Sources the script, on a disk of 4 GiB. */
async function source(scene: Scene = {}): Promise<Ran & { dir: string; table: Uint8Array }> {
  const { disk = image, sizeBytes = 4 * GIB, programs = {}, shell = "bash" } = scene;
  const dir = temp.make();
  for (const name of ["dev", "bin", "steps/improve"]) {
    mkdirSync(join(dir, name), { recursive: true });
  }
  writeFileSync(join(dir, "steps/improve/one_disk.sh"), readFileSync(SCRIPT));
  writeFileSync(join(dir, "steps/bootstrap.cfg"), "DISK=sda\n");
  writeFileSync(join(dir, "dev/sda"), disk);
  truncateSync(join(dir, "dev/sda"), sizeBytes);
  writeFileSync(join(dir, "dev/sda2"), scene.second ?? bytesOfSegments(carried));
  // The kernel shows what sfdisk has written, and mkfs.ext4 says what it is given.
  const sfdisk = [
    "#!/bin/bash",
    '/usr/sbin/sfdisk "$@"; code=$?',
    '[ "$1" = -s ] || {',
    "  set -- $(od -A n -t u4 -j 458 -N 4 /dev/sda)",
    "  truncate -s $(($1 * 512)) /dev/sda1",
    "}",
    "exit $code",
  ].join("\n");
  const stubs = { sfdisk, "mkfs.ext4": '#!/bin/bash\necho "mkfs.ext4 $*"', sleep: "#!/bin/bash" };
  for (const [name, text] of Object.entries({ ...stubs, ...programs })) {
    writeFileSync(join(dir, "bin", name), `${text}\n`);
    chmodSync(join(dir, "bin", name), 0o755);
  }
  const root = ["--ro-bind", "/usr", "/usr", "--bind", join(dir, "steps"), "/steps"];
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    root.push("--symlink", `usr/${name}`, `/${name}`);
  }
  root.push("--bind", join(dir, "dev"), "/dev", "--bind", join(dir, "bin"), "/stub");
  root.push("--setenv", "PATH", "/stub:/usr/bin:/bin");
  const script = "set -e; DISK=sda; . /steps/improve/one_disk.sh; " +
    'echo "next $DISK $one_disk_log$one_disk_start"; ls /';
  const ran = await run(["bwrap", "--unshare-user", ...root, "--", shell, "-c", script]);
  const table = await Bun.file(join(dir, "dev/sda")).slice(0, 512).bytes();
  return { ...ran, dir, table };
}

const works = await run(["bwrap", "--ro-bind", "/", "/", "true"]).catch(() => ({ code: 1 }));
const suite = works.code === 0 ? describe : describe.skip;
if (works.code !== 0) console.log("skipped: one_disk: bwrap makes no root here");

suite("one_disk", () => {
  for (const shell of ["bash", "dash"]) {
    test(`in ${shell}, the system gets partition 1, and the payload keeps its own`, async () => {
      const { code, stdout, stderr, dir, table } = await source({ shell });
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(readMbr(memorySource(table)).partitions).toMatchObject([
        { number: 1, type: LINUX_PARTITION, startSector: 2_097_152, sectorCount: 6_291_456 },
        { number: 2, type: DATA_PARTITION, startSector: 4096, sectorCount: 2048 },
      ]);
      // What boots is as it was.
      expect(table.subarray(0, 440)).toEqual(stage1.subarray(0, 440));
      expect(readFileSync(join(dir, "steps/bootstrap.cfg"), "utf8")).toBe("DISK=sda\nDISK=sda1\n");
      expect(stdout).toContain("mkfs.ext4 -F -F /dev/sda1\n");
      // It leaves nothing in the root, and no name.
      expect(stdout.slice(stdout.indexOf("next")).split("\n")).toEqual(
        ["next sda1 ", "bin", "dev", "lib", "lib64", "sbin", "steps", "stub", "usr", ""],
      );
    });
  }

  test("after a payload that ends later than 1 GiB, the system begins at the next MiB", async () => {
    const { code, table } = await source({ disk: diskWith(4096, 2_200_001) });
    expect(code).toBe(0);
    expect(readMbr(memorySource(table)).partitions[0]).toMatchObject({
      startSector: 2_205_696,
      sectorCount: 8_388_608 - 2_205_696,
    });
  });

  test("a disk whose size needs more than 31 bits has a system to its end", async () => {
    const { code, table } = await source({ sizeBytes: 1500 * GIB });
    expect(code).toBe(0);
    expect(readMbr(memorySource(table)).partitions[0]).toMatchObject({
      startSector: 2_097_152,
      sectorCount: 1500 * 2_097_152 - 2_097_152,
    });
  });

  test("on a disk of more than 2 TiB the system ends where the table does", async () => {
    const { code, table } = await source({ sizeBytes: 3 * 1024 * GIB });
    expect(code).toBe(0);
    expect(readMbr(memorySource(table)).partitions[0]).toMatchObject({
      startSector: 2_097_152,
      sectorCount: 2 ** 32 - 2_097_152,
    });
  });

  test("a disk whose size is not known is refused", async () => {
    const { code, stdout } = await source({
      programs: { sfdisk: "#!/bin/bash\necho odd >&2; exit 1" },
    });
    expect(code).toBe(1);
    expect(stdout).toContain("its size is not known: odd");
  });

  test("a partition is left as it is", async () => {
    // As the device number of /dev/sdb1 ends.
    const { code, stdout, table } = await source({ programs: { stat: "#!/bin/bash\necho 11" } });
    expect(code).toBe(0);
    expect(stdout).toContain("one_disk: /dev/sda: a partition: left as it is");
    expect(table).toEqual(image.subarray(0, 512));
  });

  test("what an earlier run has made is made again", async () => {
    const { table } = await source();
    const again = await source({ disk: table });
    expect(again.code).toBe(0);
    expect(again.table.subarray(446)).toEqual(table.subarray(446));
  });

  test("a disk without a payload in partition 2 is left to move_disk", async () => {
    const scenes: Scene[] = [
      { disk: stage1 },
      { disk: diskWith(4096, 2048), second: new Uint8Array(MIB) },
      { disk: new Uint8Array(512) },
    ];
    for (const scene of scenes) {
      const { code, stdout, table, dir } = await source(scene);
      expect(code).toBe(0);
      expect(stdout).toContain("one_disk: /dev/sda: no payload in partition 2: left to move_disk");
      expect(stdout).toContain("next sda \n");
      expect(table).toEqual(scene.disk!.subarray(0, 512));
      expect(existsSync(join(dir, "dev/sda1"))).toBe(false);
    }
  });

  test("a disk that has no room after the payload is refused, and not written to", async () => {
    const { code, stdout, table } = await source({ sizeBytes: GIB + MIB - 512 });
    expect(code).toBe(1);
    expect(stdout).toContain(
      "one_disk: REFUSED: the system is not installed to /dev/sda: it has 1049599 KiB, and no room",
    );
    expect(table).toEqual(image.subarray(0, 512));
    expect((await source({ sizeBytes: GIB + MIB })).code).toBe(0);
  });

  test("where sfdisk fails, or writes another table, no file system is made", async () => {
    const fails =
      '#!/bin/bash\n[ "$1" != -s ] || exec /usr/sbin/sfdisk "$@"\necho broken >&2; exit 1';
    const lies = '#!/bin/bash\n[ "$1" != -s ] || exec /usr/sbin/sfdisk "$@"\ncat >/dev/sda3';
    const patches = (at: number, bytes: string) =>
      '#!/bin/bash\n/usr/sbin/sfdisk "$@" || exit\n' +
      `[ "$1" = -s ] || printf '${bytes}' | dd of=/dev/sda bs=1 seek=${at} conv=notrunc status=none`;
    const another = [
      [450, "\\202"],
      [470, "\\001"],
      [474, "\\001"],
    ] as const;
    for (
      const [sfdisk, why] of [
        [fails, "sfdisk failed: broken"],
        ...[lies, ...another.map(([at, bytes]) => patches(at, bytes))].map((text) =>
          [text, "another table"] as const
        ),
        ["#!/bin/bash\necho none >&2; exit 1", "its size is not known: none"],
      ] as const
    ) {
      const { code, stdout } = await source({ programs: { sfdisk } });
      expect(code).toBe(1);
      expect(stdout).toContain(why);
      expect(stdout).not.toContain("mkfs");
    }
  });

  test("where the kernel does not show the new partition, no file system is made", async () => {
    const sfdisk = '#!/bin/bash\nexec /usr/sbin/sfdisk "$@"';
    const { code, stdout } = await source({ programs: { sfdisk } });
    expect(code).toBe(1);
    expect(stdout).toContain("the kernel does not show its new partitions");
    expect(stdout).not.toContain("mkfs");
  });
});
