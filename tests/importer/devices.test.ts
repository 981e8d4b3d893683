// SPDX-License-Identifier: MIT
/**
 * payload-import among block devices: loop devices under other names, in a mount namespace that
 * has a /proc/partitions and a /dev of its own. Needs root.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { payload } from "../../src/format/payload.ts";
import { GIB, MIB } from "../../src/format/segment.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import {
  entry,
  EXIT,
  type Outcome,
  rawPayload,
  runSync,
  variants,
  writeHollow,
  writePayload,
} from "./harness.ts";

const programs = new TempDirs();
const temp = new TempDirs();
const importer = variants(programs.make())[0]?.program;
const loops: string[] = [];

/** Why these tests cannot run here, or undefined. */
function obstacle(): string | undefined {
  if (importer === undefined) return "there is no C compiler";
  if (process.getuid?.() !== 0) return "they need root";
  for (const program of ["unshare", "losetup", "mount", "mke2fs"]) {
    if (Bun.which(program) === null) return `${program} is not installed`;
  }
  if (runSync(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/dev"]).code !== 0) {
    return "they need the right to mount";
  }
  return runSync(["losetup", "-f"]).code === 0 ? undefined : "there are no loop devices";
}

const why = obstacle();
if (why !== undefined) console.log(`skipped: payload-import among block devices: ${why}`);

afterEach(() => temp.release());
afterAll(() => {
  for (const loop of loops) runSync(["losetup", "-d", loop]);
  programs.release();
});

/** Attaches an image as a loop device; gives its numbers as /proc/partitions has them. */
function attach(image: string): string {
  const { code, stdout, stderr } = runSync(["losetup", "-f", "--show", "-r", image]);
  if (code !== 0) throw new Error(stderr);
  const device = stdout.trim();
  loops.push(device);
  return `   7 ${device.slice("/dev/loop".length)} 1024 `;
}

/** Major and minor number of a row, for mknod. */
function numbersOf(row: string): string {
  return row.trim().split(" ").slice(0, 2).join(" ");
}

/** Runs a shell script with $IMPORTER, $DIR and $DEST in a mount namespace of its own. */
function isolated(script: string, rows: readonly string[]): Outcome & { dest: string } {
  const dir = temp.make();
  const dest = join(dir, "dest");
  mkdirSync(dest);
  const partitions = join(dir, "partitions");
  writeFileSync(partitions, ["major minor  #blocks  name", "", ...rows, ""].join("\n"));
  const prepare = `IMPORTER=${importer} DIR=${dir} DEST=${dest}
    mount -t tmpfs none /dev && mount --bind ${partitions} /proc/partitions || exit 99
    `;
  return { ...runSync(["unshare", "-m", "sh", "-c", prepare + script]), dest };
}

const IMPORT = '"$IMPORTER" "$DEST"';

describe.skipIf(why !== undefined)("among block devices", () => {
  const files = { a: "first", b: "second" };
  let layout64 = "";
  let copy = "";
  let layout32 = "";
  let other = "";
  let empty = "";
  let inUse = "";

  beforeAll(async () => {
    const dir = programs.make();
    const entries = Object.entries(files).map(([name, text]) => entry(name, text));
    layout64 = attach(await writePayload(join(dir, "64"), entries));
    copy = attach(await writePayload(join(dir, "copy"), entries));
    layout32 = attach(await writePayload(join(dir, "32"), entries, 32));
    other = attach(
      await writePayload(join(dir, "other"), [entry("a", "first"), entry("b", "2nd")]),
    );
    writeFileSync(join(dir, "empty"), Buffer.alloc(MIB));
    empty = attach(join(dir, "empty"));
    // An ext2 file system begins at byte 1024: what lay before it stays.
    const stale = join(dir, "stale");
    writeFileSync(stale, rawPayload(64, [{ name: "old", data: "of an older day" }]));
    truncateSync(stale, MIB);
    runSync(["mke2fs", "-q", "-F", "-t", "ext2", stale]);
    writeFileSync(stale, rawPayload(64, [{ name: "old", data: "of an older day" }]), {
      flag: "r+",
    });
    inUse = attach(stale);
  });

  test("finds a payload on a disk and makes the node for it", () => {
    const { code, stdout, stderr, dest } = isolated(`${IMPORT}; code=$?; ls /dev; exit $code`, [
      "   1 0 4096 ram0",
      "   7 99 4096 loop99",
      "   2 0 4 fd0",
      "  11 0 1048575 sr0",
      `${empty}xpa`,
      `${layout64}xpb`,
    ]);
    expect({ code, stderr }).toEqual({ code: EXIT.done, stderr: "" });
    expect(stdout).toBe(
      "payload-import: /dev/xpb: payload, layout 64, 2 files\n" +
        "payload-import: 1/2 a, 5 bytes, restored\n" +
        "payload-import: 2/2 b, 6 bytes, restored\n" +
        "payload-import: done: 2 files restored, 0 kept, 11 bytes written\n" +
        "xpa\nxpb\n",
    );
    expect(readdirSync(dest).sort()).toEqual(["a", "b"]);
    expect(readFileSync(join(dest, "b"), "utf8")).toBe("second");
  });

  test("finds a payload on a partition, after the whole disks", () => {
    const { code, stdout } = isolated(IMPORT, [
      `${empty}xpa`,
      `${copy}xpa1`,
      `${empty}xp9`,
      `${layout32}xp9p1`,
      `${layout64}xpc`,
    ]);
    expect(code).toBe(EXIT.done);
    expect(stdout.match(/\/dev\/\w+: payload, layout \d+/g)).toEqual([
      "/dev/xpc: payload, layout 64",
      "/dev/xpa1: payload, layout 64",
      "/dev/xp9p1: payload, layout 32",
    ]);
  });

  test("names the devices of different payloads and restores nothing", () => {
    const { code, stderr, dest } = isolated(IMPORT, [`${layout64}xpa`, `${other}xpb`]);
    expect(code).toBe(EXIT.different);
    expect(stderr).toBe(
      "payload-import: /dev/xpa and /dev/xpb hold different payloads: " +
        "detach one, or name one with --device\n",
    );
    expect(readdirSync(dest)).toEqual([]);
    const named = isolated('"$IMPORTER" --device /dev/xpb "$DEST"', [`${layout64}xpa`]);
    expect(named.code).toBe(EXIT.read);
  });

  test("says that no device has one", () => {
    const ran = isolated(IMPORT, [`${empty}xpa`]);
    expect(ran).toMatchObject({
      code: EXIT.none,
      stdout: "",
      stderr: "payload-import: /proc/partitions: no device in it has a payload\n",
    });
  });

  test("passes over a disk that is in use, though it begins with an old payload", () => {
    const script = (mount: string) =>
      `mknod /dev/held b ${numbersOf(inUse)}; mkdir $DIR/mnt; ${mount}; ${IMPORT}`;
    const rows = [`${inUse}xpa`, `${layout64}xpb`];
    const idle = isolated(script("true"), rows);
    expect(idle.code).toBe(EXIT.different);
    const held = isolated(script("mount -t ext2 -o ro /dev/held $DIR/mnt"), rows);
    expect(held.stdout).toContain("/dev/xpa: passed over: it is in use: error 16\n");
    expect(held.stdout).toContain("1/2 a, 5 bytes, restored\n");
    expect(held.code).toBe(EXIT.done);
  });

  test("goes by the names of hda to hdd, and passes over the bogus partition of stage1", () => {
    const { stdout } = isolated(`${IMPORT}; ls -l /dev | tr -s " "`, [
      "   3 0 65536 hda",
      "   3 0 2147483647 hda1",
      "   3 0 65536 hdb",
      "   3 0 65000 hdb1",
      "  22 0 65536 hdc",
      "  22 0 65536 hdd",
      "  22 0 65000 hdd2",
    ]);
    const numbers = stdout.split("\n").flatMap((line) =>
      /(\d+, \d+) .* (\w+)$/.exec(line)?.slice(1)
    );
    expect(numbers.filter((word) => word !== undefined).join(" ")).toBe(
      "3, 0 hda 3, 64 hdb 3, 65 hdb1 22, 0 hdc 22, 64 hdd 22, 66 hdd2",
    );
  });

  test("does not open a node that is another device", () => {
    const { code, stdout } = isolated(`: > /dev/xpa; mknod /dev/xpb b 7 77; ${IMPORT}`, [
      `${layout64}xpa`,
      `${layout64}xpb`,
    ]);
    expect(code).toBe(EXIT.none);
    expect(stdout.match(/\w+: passed over: it is not the device that the kernel means/g)).toEqual([
      "xpa: passed over: it is not the device that the kernel means",
      "xpb: passed over: it is not the device that the kernel means",
    ]);
  });

  test("opens a node that is there and is the device", () => {
    const { code, stdout } = isolated(`mknod /dev/xpa b ${numbersOf(layout64)}; ${IMPORT}`, [
      `${layout64}xpa`,
    ]);
    expect(code).toBe(EXIT.done);
    expect(stdout).toContain("/dev/xpa: payload, layout 64, 2 files\n");
  });

  test("takes ! in a name for a directory of /dev", () => {
    const { code, stdout } = isolated(`mkdir /dev/cciss; ${IMPORT}`, [`${layout64}cciss!c0d0`]);
    expect(code).toBe(EXIT.done);
    expect(stdout).toContain("/dev/cciss/c0d0: payload, layout 64, 2 files\n");
  });

  test("shows what cannot be seen of the name of a device", () => {
    const { stdout } = isolated(IMPORT, [`${layout64}xp\u009b\u202e\x1b[2Ja`]);
    expect(stdout).toBe(
      "payload-import: xp\\xc2\\x9b\\xe2\\x80\\xae\\x1b[2Ja: passed over: the name is not plain\n",
    );
  });

  test("makes no node for a name that is not plain, and none outside of /dev", () => {
    const names = [
      "..",
      ".",
      "..!mnt!x",
      "xpa!..!..!mnt!x",
      "!mnt",
      "xpa!",
      "a!!b",
      ".x",
      "-x",
      "a b",
    ];
    const { code, stdout } = isolated(
      `mount -t tmpfs none /mnt; mkdir /dev/xpa; ${IMPORT}; code=$?; ls /dev /mnt; exit $code`,
      names.map((name) => `${layout64}${name}`),
    );
    expect(stdout).toBe(
      names.map((name) => `payload-import: ${name}: passed over: the name is not plain\n`).join(
        "",
      ) +
        "/dev:\nxpa\n\n/mnt:\n",
    );
    expect(code).toBe(EXIT.none);
  });

  test("passes over a device whose node cannot be made", () => {
    const { code, stdout } = isolated(`mount -o remount,ro /dev; ${IMPORT}`, [`${layout64}xpa`]);
    expect(code).toBe(EXIT.none);
    expect(stdout).toBe(
      "payload-import: /dev/xpa: passed over: cannot make the node: error 30\n",
    );
  });

  test("refuses a list of devices that it cannot use", () => {
    const row = (i: number) => `   8 ${i} 1024 sd${i}`;
    for (
      const [rows, message] of [
        [
          [`   8 0 1024 ${"x".repeat(41)}`],
          `${"x".repeat(41)}: more devices or a longer name than`,
        ],
        [
          Array.from({ length: 257 }, (_, i) => row(i)),
          "sd256: more devices or a longer name than",
        ],
        [["#".repeat(65536)], "/proc/partitions: is too long"],
      ] as const
    ) {
      const ran = isolated(IMPORT, rows);
      expect(ran.stderr).toStartWith(`payload-import: ${message}`);
      expect(ran).toMatchObject({ code: EXIT.proc, stdout: "" });
    }
  });

  test("passes over lines that are no rows", () => {
    const { code, stdout } = isolated(IMPORT, ["", "  x", "   7 1", "   7 -1 1024 xpz", "7"]);
    expect({ code, stdout }).toEqual({ code: EXIT.none, stdout: "" });
  });

  test("makes /proc where there is none, and removes it again", () => {
    const { code, stdout, stderr, dest } = isolated(
      `root=$DIR/root; program=$(dirname "$IMPORTER")
       for dir in /bin /lib /lib64 /usr "$program" "$DEST" /dev; do
         [ ! -d "$dir" ] || { mkdir -p "$root$dir"; mount --bind "$dir" "$root$dir"; }
       done
       mknod /dev/xpa b ${numbersOf(layout64)}
       chroot "$root" "$IMPORTER" --device /dev/xpa "$DEST"; code=$?
       ls -d "$root/proc"; exit $code`,
      [],
    );
    expect(stderr).toMatch(/^ls: .*No such file or directory\n$/);
    expect(stdout).toEndWith("done: 2 files restored, 0 kept, 11 bytes written\n");
    expect(code).toBe(EXIT.done);
    expect(readdirSync(dest).sort()).toEqual(["a", "b"]);
  });

  testWith("strace")("says where proc stays mounted", () => {
    const { code, stderr } = isolated(
      `umount -l /proc
       strace -o /dev/null -e inject=umount2:error=EBUSY "$IMPORTER" "$DEST"`,
      [],
    );
    expect(stderr).toBe(
      "payload-import: /proc: cannot be unmounted again\n" +
        "payload-import: /proc/partitions: no device in it has a payload\n",
    );
    expect(code).toBe(EXIT.none);
  });

  test("mounts proc where it is not, and leaves it as it was", () => {
    const { code, stderr } = isolated(
      `umount -l /proc; ${IMPORT}; code=$?; ls /proc; exit $code`,
      [],
    );
    expect(stderr).toMatch(/^payload-import: \/proc\/partitions: no device in it has a payload\n$/);
    expect(code).toBe(EXIT.none);
  });

  test("reads nothing at or past 4 GiB under Fiwix", () => {
    const dir = programs.make();
    const image = join(dir, "image");
    const hole = {
      kind: "file",
      path: "/nowhere",
      offsetBytes: 0,
      sizeBytes: 4 * GIB - 200,
    } as const;
    const entries = [entry("a", "first"), { name: "b", body: hole }, entry("c", "x".repeat(200))];
    writeHollow(image, payload([...entries, entry("d", "last")]));
    const list = join(dir, "list");
    const restore = (version: string, names: string) => {
      writeFileSync(list, names);
      return isolated(
        `echo "${version}" > $DIR/version; mount --bind $DIR/version /proc/version
         "$IMPORTER" --list ${list} --device ${image} "$DEST"`,
        [],
      );
    };
    const fiwix = "Fiwix version 1.5.0";
    expect(restore(fiwix, "a\n")).toMatchObject({ code: EXIT.done, stderr: "" });
    for (
      const [names, what] of [["c\n", "c: at byte"], ["a\nd\n", "file table: at byte"]] as const
    ) {
      const ran = restore(fiwix, names);
      expect(ran.stderr).toContain(`${image}: ${what} `);
      expect(ran.stderr).toEndWith("reaches beyond 4 GiB, where this kernel cannot read\n");
      expect(ran.code).toBe(EXIT.format);
      expect(readdirSync(ran.dest)).toEqual([]);
    }
    const linux = restore("Linux version 6.1.0", "a\nc\nd\n");
    expect(linux.code).toBe(EXIT.done);
    expect(readFileSync(join(linux.dest, "d"), "utf8")).toBe("last");
  });

  test("ends with a message where the file system is full", () => {
    const image = join(programs.make(), "image");
    const data = "x".repeat(300_000);
    writeFileSync(image, rawPayload(64, ["a", "b", "c", "d"].map((name) => ({ name, data }))));
    const { code, stdout, stderr } = isolated(
      `mount -t tmpfs -o size=1000k none $DEST
       "$IMPORTER" --device ${image} "$DEST"; code=$?; ls -A $DEST; exit $code`,
      [],
    );
    expect(code).toBe(EXIT.write);
    expect(stderr).toMatch(
      /image: d: at byte \d{6,7}: cannot write the file: error 28, no space left\n/,
    );
    expect(stdout).toEndWith("3/4 c, 300000 bytes, restored\na\nb\nc\n");
    expect(existsSync(image)).toBeTrue();
  });
});
