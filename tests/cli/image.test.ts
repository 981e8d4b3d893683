// SPDX-License-Identifier: MIT
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootImage } from "../../src/format/boot.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { payload, type PayloadRecord, readPayload } from "../../src/format/payload.ts";
import { memorySource } from "../../src/format/reader.ts";
import { textSegment } from "../../src/format/segment.ts";
import { srcfs } from "../../src/format/srcfs.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { MAIN, run, seedstrap } from "../support/run.ts";
import { bytesOfSegments } from "../support/sources.ts";
import { STAGE1_TEXT } from "../support/tree.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const dir = temp.make();
const boot = join(dir, "target/init.img");
const carried = join(dir, "target/payload.img");

beforeAll(async () => {
  const ran = await buildIn(dir, setUp(dir));
  if (ran.code !== 0) throw new Error(ran.stderr);
});

/** Writes a boot image of these segments to a directory without a record. */
function handmade(segments: Parameters<typeof bytesOfSegments>[0]): string {
  const path = join(temp.make(), "hand.img");
  const stage1 = assembleHex0(new TextEncoder().encode(STAGE1_TEXT), "stage1");
  const image = bootImage({ stage1, stage2: textSegment("90"), srcfs: segments });
  writeFileSync(path, bytesOfSegments(image));
  return path;
}

test("image ls lists what both images hold", async () => {
  const ls = await seedstrap(["image", "ls", boot]);
  expect(ls).toMatchObject({ code: 0, stderr: "" });
  const lines = ls.stdout.split("\n");
  expect(lines[0]).toBe("           0  .");
  expect(lines).toContain("          25  ./High Level Prototypes/a file.c");
  expect(lines.at(-2)).toStartWith("     command  /bootstrap-seeds/POSIX/x86/kaem-optional-seed");
  const long = await seedstrap(["image", "ls", "-l", carried]);
  const file = readFileSync(join(dir, "mirror/gamma-3.0.tar.gz"));
  expect(long.stdout).toContain(
    `        3064  ${sha256(file)}  gamma-3.0             gamma-3.0.tar.gz\n`,
  );
});

test("image ls --json has the entries, one a line", async () => {
  const ran = await seedstrap(["image", "ls", "--json", "-l", boot]);
  const { entries } = JSON.parse(ran.stdout);
  const items = ran.stdout.split("\n").filter((line) => line.startsWith("    {"));
  expect(items.map((line) => JSON.parse(line.replace(/,$/, "")))).toEqual(entries);
  expect(entries).toContainEqual(
    expect.objectContaining({ kind: "file", path: "./seed.kaem", sha256: sha256("exec true\n") }),
  );
  expect(entries.at(-1)).toMatchObject({ kind: "command" });
});

test("image cat prints a file, with or without a leading ./", async () => {
  for (const name of ["./High Level Prototypes/a file.c", "High Level Prototypes/a file.c"]) {
    expect(await seedstrap(["image", "cat", boot, name])).toEqual({
      code: 0,
      stdout: "int main() { return 0; }\n",
      stderr: "",
    });
  }
  const none = await seedstrap(["image", "cat", boot, "none"]);
  expect(none).toMatchObject({ code: 2, stdout: "" });
  const empty = await seedstrap(["image", "cat", boot, "empty"]);
  expect(empty).toEqual({ code: 0, stdout: "", stderr: "" });
  const place = await seedstrap(["image", "cat", boot, "steps"]);
  expect(place.stderr).toContain("Cannot print steps: it is a directory or an empty file");
  expect(place).toMatchObject({ code: 2, stdout: "" });
  const config = await seedstrap(["image", "cat", boot, "steps/bootstrap.cfg"]);
  expect(config.stdout).toStartWith("ARCH=x86\n");
});

test("image verify passes whole images, with and without a record beside them", async () => {
  for (const path of [boot, carried]) {
    const ran = await seedstrap(["image", "verify", path]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toContain("every file and the image are as built: SHA-256 ");
    const copy = join(temp.make(), "copy.img");
    copyFileSync(path, copy);
    const alone = await seedstrap(["image", "verify", "--json", copy]);
    expect(JSON.parse(alone.stdout)).toMatchObject({ checkedAgainstRecord: false });
    expect(alone.stderr).toBe(
      "warning: contents are not checked: no record beside the image; name one with --record\n",
    );
    expect(alone.code).toBe(0);
    const byRecord = ["--record", join(dir, "target"), copy];
    expect(await seedstrap(["image", "verify", ...byRecord])).toMatchObject({
      code: 0,
      stderr: "",
    });
    const bytes = readFileSync(copy);
    bytes[bytes.lastIndexOf("true\n")]! ^= 1;
    bytes[1000]! ^= 1;
    writeFileSync(copy, bytes);
    const damaged = await seedstrap(["image", "verify", ...byRecord]);
    expect(damaged.stderr).toContain("Copy it again from its target\n");
    expect(damaged.code).toBe(5);
  }
});

test("a target is no image, and the hint names the images in it", async () => {
  const target = join(dir, "target");
  for (const words of [["ls"], ["verify"]]) {
    const ran = await seedstrap(["image", ...words, target]);
    expect(ran.stderr).toContain(`hint: Name an image in it: ${boot} or ${carried}\n`);
    expect(ran).toMatchObject({ code: 7, stdout: "" });
  }
  const none = await seedstrap(["image", "ls", dir]);
  expect(none.stderr).toContain("hint: Name a file or a device");
  expect(none.code).toBe(7);
});

/** Damages a copy of the target and verifies it there. */
async function verifyDamaged(name: string, change: (bytes: Buffer) => Buffer | void) {
  const copy = temp.make();
  for (const file of [name, "seedstrap.json"]) {
    copyFileSync(join(dir, "target", file), join(copy, file));
  }
  const path = join(copy, name);
  const bytes = readFileSync(path);
  writeFileSync(path, change(bytes) ?? bytes);
  return await seedstrap(["image", "verify", path]);
}

test("image verify finds a changed byte of a file, of the structure and of the padding", async () => {
  const inFile = await verifyDamaged("payload.img", (bytes) => {
    bytes[1000]! ^= 1;
  });
  expect(inFile.code).toBe(5);
  expect(inFile.stderr).toContain("SHA-256 of delta-5.0.tar.gz is");
  const magic = await verifyDamaged("payload.img", (bytes) => {
    bytes[0]! ^= 1;
  });
  expect(magic.code).toBe(6);
  const padding = await verifyDamaged("init.img", (bytes) => {
    bytes[bytes.length - 1] = 1;
  });
  expect(padding.code).toBe(6);
  expect(padding.stderr).toContain("a byte after the last entry is not zero");
  expect(padding.stderr).toContain(", offset 2097151");
  const sector = await verifyDamaged("init.img", (bytes) => {
    bytes[100] = 1;
  });
  expect(sector.code).toBe(5);
  expect(sector.stderr).toContain("the bytes between its files are not as they were built");
  const cut = await verifyDamaged("init.img", (bytes) => bytes.subarray(0, bytes.length - 512));
  expect(cut.stderr).toMatch(/has 2096640 bytes, it was built with 2097152|too early/);
});

test("image verify finds a file that is missing, and one that was not put there", async () => {
  const name = Buffer.from("src 10 ./seed.kaem\n");
  const renamed = await verifyDamaged("init.img", (bytes) => {
    bytes.write("src 10 ./seed.kaeX\n", bytes.indexOf(name));
  });
  expect(renamed.code).toBe(5);
  expect(renamed.stderr).toContain("./seed.kaeX was not put into it");
});

test("names in an image cannot drive a terminal", async () => {
  const evil = "./\x1b]0;owned\x07\u009b31m";
  const body = textSegment("x");
  const path = handmade(srcfs([{ path: evil, body }], []));
  for (const args of [["ls", "--json"], ["verify"]]) {
    const ran = await seedstrap(["image", ...args, path]);
    expect(ran.code).toBe(0);
    expect(ran.stdout + ran.stderr).not.toMatch(/[^\P{Cc}\n]/u);
  }
  const held = join(temp.make(), "p.img");
  const image = bytesOfSegments(payload([{ name: evil.slice(2), body }]));
  writeFileSync(held, image);
  // A program gets the names as they are; at a terminal, see terminal.test.ts.
  expect((await seedstrap(["image", "ls", held])).stdout).toContain(evil.slice(2));
  // Errors name such files, too.
  image[24] = 99;
  image[26] = 99;
  writeFileSync(held, image);
  const ran = await seedstrap(["image", "ls", held]);
  expect(ran.code).toBe(6);
  expect(ran.stderr).not.toMatch(/[^\P{Cc}\n]/u);
});

test("when its reader goes away, the program ends without a message", async () => {
  const entries = Array.from({ length: 20_000 }, (_, i) => ({ path: `./${i}` }));
  const path = handmade(srcfs(entries, []));
  const script = '"$1" "$2" image ls "$3" 2>"$4" | head -n 1; cat "$4"';
  const log = join(dir, "stderr");
  const ran = await run(["sh", "-c", script, "sh", process.execPath, MAIN, path, log]);
  expect(ran).toEqual({ code: 0, stdout: "           0  ./0\n", stderr: "" });
});

test("a seedstrap.json that is damaged is no reason to verify less", async () => {
  const at = temp.make();
  expect(await buildIn(at, setUp(at))).toMatchObject({ code: 0 });
  const image = join(at, "target/init.img");
  const record = join(at, "target/seedstrap.json");
  writeFileSync(record, readFileSync(record, "utf8").replace('"subject"', '"object"'));
  for (const argv of [["verify", image], ["extract", image, "-o", join(at, "out")]]) {
    const ran = await seedstrap(["image", ...argv]);
    expect(ran.stderr).toContain(`Cannot understand ${record}`);
    expect(ran).toMatchObject({ code: 7, stdout: "" });
  }
  const listed = await seedstrap(["image", "ls", "-l", image]);
  expect(listed.stderr).toContain(`warning: Cannot understand ${record}`);
  expect(listed.code).toBe(0);
});

test("extract refuses a payload that verify refuses, unless files of it are named", async () => {
  const at = temp.make();
  const whole = readFileSync(carried);
  const [{ name }] = [...readPayload(memorySource(whole))] as [PayloadRecord];
  const bad = join(at, "bad.img");
  const counts = [whole.readUInt32LE(8) - 1, 0].map((count) => {
    const bytes = Buffer.from(whole);
    bytes.writeUInt32LE(count, 8);
    return bytes;
  });
  const huge = Buffer.alloc(1 << 20);
  huge.write("LBPAYLD1");
  huge[15] = 0x80;
  for (const [index, bytes] of [...counts, huge].entries()) {
    writeFileSync(bad, bytes);
    expect(await seedstrap(["image", "verify", bad])).toMatchObject({ code: 6 });
    const out = join(at, "out");
    expect(await seedstrap(["image", "extract", bad, "-o", out])).toMatchObject({ code: 6 });
    expect(existsSync(out)).toBe(false);
    if (index > 0) continue;
    expect(await seedstrap(["image", "extract", bad, name, "-o", out])).toMatchObject({ code: 0 });
    rmSync(out, { recursive: true });
  }
});

// The reader is gone before anything is written; $0 is a file for standard error.
test.each([
  [
    "standard output that nobody reads",
    '{ sleep 0.1; "$@" 2>"$0"; echo $? >"$0.code"; } | true',
    141,
    "",
  ],
  [
    "an error that nobody reads",
    '{ sleep 0.1; "$@" none 2>&1; echo $? >"$0.code"; } | true',
    2,
    "",
  ],
  [
    "a full disk",
    '"$@" >/dev/full 2>"$0"; echo $? >"$0.code"',
    7,
    "seedstrap: Cannot write the output: ENOSPC\n",
  ],
])("%s is no success, and no bug", async (_, script, code, said) => {
  const log = join(dir, "said");
  writeFileSync(log, "");
  const ls = ["image", "ls", handmade(srcfs([{ path: "./a" }], []))];
  await run(["sh", "-c", script, log, process.execPath, MAIN, ...ls]);
  expect(readFileSync(`${log}.code`, "utf8")).toBe(`${code}\n`);
  expect(readFileSync(log, "utf8")).toBe(said);
});
