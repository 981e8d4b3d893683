// SPDX-License-Identifier: MIT
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { EXIT } from "../../src/errors.ts";
import { formatBmap, readBmap } from "../../src/format/bmap.ts";
import { payload } from "../../src/format/payload.ts";
import { MIB } from "../../src/format/segment.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { sealedBmap } from "../support/bmap.ts";
import { TempDirs } from "../support/files.ts";
import { DENO, MAIN, type Ran, run, seedstrap, testWith } from "../support/run.ts";
import { bytesOfSegments } from "../support/sources.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const withBmaptool = testWith("bmaptool");

const dir = temp.make();
const args = setUp(dir);
const target = join(dir, "target");
const NAMES = ["init.img", "payload.img"];

beforeAll(async () => {
  const ran = await buildIn(dir, [...args, "--bmap"]);
  if (ran.code !== 0) throw new Error(ran.stderr);
});

/** Writes a file of 80 MiB with data at 3 and at 70 MiB, the rest as holes or as zeros. */
function sparseFile(path: string, hasHoles = true): void {
  const file = openSync(path, "w");
  if (!hasHoles) { for (let i = 0; i < 80; i++) writeSync(file, new Uint8Array(MIB)); }
  writeSync(file, sampleBody(2 * MIB + 4097), 0, 2 * MIB + 4097, 3 * MIB);
  writeSync(file, sampleBody(70_001), 0, 70_001, 70 * MIB);
  ftruncateSync(file, 80 * MIB);
  closeSync(file);
}

/** Replaces the first digest of a bmap, and the checksum over it. */
function withWrongDigest(path: string): void {
  const text = readFileSync(path, "latin1");
  const [digest] = /(?<=chksum=["'])[0-9a-f]{64}/.exec(text)!;
  writeFileSync(path, sealedBmap(text.replace(digest, sha256("something else"))));
}

test("image bmap lists the data of a file, the same for holes and for zeros", async () => {
  const [sparse, plain] = [join(temp.make(), "a.img"), join(temp.make(), "b.img")];
  sparseFile(sparse);
  sparseFile(plain, false);
  expect(statSync(plain).blocks).toBeGreaterThan(statSync(sparse).blocks);
  expect(await seedstrap(["image", "bmap", sparse]))
    .toEqual({ code: 0, stdout: `${sparse}.bmap\n`, stderr: "" });
  const deno = await run([DENO, "run", "--quiet", "-A", MAIN, "image", "bmap", plain]);
  expect(deno).toMatchObject({ code: 0, stderr: "" });
  const text = readFileSync(`${sparse}.bmap`);
  expect(readFileSync(`${plain}.bmap`)).toEqual(text);
  const bytes = readFileSync(plain);
  const at = (offsetBytes: number, sizeBytes: number) => ({
    offsetBytes,
    sizeBytes,
    sha256: sha256(bytes.subarray(offsetBytes, offsetBytes + sizeBytes)),
  });
  expect(readBmap(text, "x")).toEqual({
    sizeBytes: 80 * MIB,
    ranges: [at(3 * MIB, 2 * MIB + 2 * 4096), at(70 * MIB, 18 * 4096)],
  });
});

test("image bmap replaces nothing, and takes another name", async () => {
  const image = join(temp.make(), "a.img");
  sparseFile(image);
  writeFileSync(`${image}.bmap`, "mine");
  const ran = await seedstrap(["image", "bmap", image]);
  expect(ran.code).toBe(EXIT.target);
  expect(ran.stderr).toContain(`${image}.bmap exists`);
  expect(readFileSync(`${image}.bmap`, "utf8")).toBe("mine");
  expect((await seedstrap(["image", "bmap", image, "-o", `${image}.map`])).code).toBe(0);
  expect(readBmap(readFileSync(`${image}.map`), "x").sizeBytes).toBe(80 * MIB);
});

test("image bmap refuses an empty file", async () => {
  const image = join(temp.make(), "a.img");
  writeFileSync(image, "");
  expect(await seedstrap(["image", "bmap", image])).toMatchObject({
    code: EXIT.format,
    stdout: "",
  });
  expect(existsSync(`${image}.bmap`)).toBe(false);
});

test("build --bmap writes what image bmap writes, beside each image, and the same record", async () => {
  for (const name of NAMES) {
    const again = join(temp.make(), "again");
    await seedstrap(["image", "bmap", join(target, name), "-o", again]);
    expect(readFileSync(join(target, `${name}.bmap`))).toEqual(readFileSync(again));
  }
  const other = temp.make();
  expect((await buildIn(other, args)).code).toBe(0);
  expect(readdirSync(join(other, "target")).filter((name) => name.endsWith(".bmap"))).toEqual([]);
  expect(readFileSync(join(target, "seedstrap.json")))
    .toEqual(readFileSync(join(other, "target/seedstrap.json")));
});

test("the bmaps of a build are replaced with it, and those of others are not", async () => {
  const other = temp.make();
  const [, payload] = NAMES.map((name) => join(other, `target/${name}.bmap`));
  expect((await buildIn(other, [...args, "--bmap"])).code).toBe(0);
  expect((await buildIn(other, args)).code).toBe(0);
  expect(existsSync(payload!)).toBe(false);
  writeFileSync(payload!, "mine");
  const ran = await buildIn(other, [...args, "--bmap"]);
  expect(ran.code).toBe(EXIT.target);
  expect(ran.stderr).toContain(`Cannot replace ${payload}: seedstrap did not make it`);
  expect(readFileSync(payload!, "utf8")).toBe("mine");
});

test("build --bmap covers the sparse tail of a boot image for QEMU", async () => {
  const other = temp.make();
  const ran = await seedstrap(
    [
      "build",
      "--qemu",
      "--external-sources",
      ...args,
      "--target-size",
      "64M",
      "-t",
      other,
      "--bmap",
    ],
  );
  expect(ran).toMatchObject({ code: 0 });
  const { sizeBytes, ranges } = readBmap(readFileSync(join(other, "init.img.bmap")), "x");
  expect(sizeBytes).toBe(64 * MIB);
  expect(ranges.at(-1)!.offsetBytes + ranges.at(-1)!.sizeBytes).toBeLessThan(2 * MIB);
});

test("build --bmap of a directory is refused before anything is made", async () => {
  const other = join(temp.make(), "target");
  const seed = "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed";
  const own = setUp(temp.make(), { files: { [seed]: "the seed" } });
  const ran = await seedstrap(["build", "--chroot", ...own, "-t", other, "--bmap"]);
  expect(ran.code).toBe(EXIT.usage);
  expect(ran.stderr).toContain("Cannot use --bmap: there are no images in the target");
  expect(existsSync(other)).toBe(false);
});

/** A payload image without a record, with 20 MiB of zeros in a file, and its bmap. */
function payloadWithBmap(): { readonly image: string; readonly bmap: string; bytes: Buffer } {
  const image = join(temp.make(), "payload.img");
  const entries = [
    { name: "a", body: { kind: "bytes", bytes: sampleBody(2 * MIB + 4097) } as const },
    { name: "b", body: { kind: "bytes", bytes: new Uint8Array(20 * MIB) } as const },
    { name: "c", body: { kind: "bytes", bytes: sampleBody(70_001) } as const },
  ];
  const bytes = Buffer.from(bytesOfSegments(payload(entries)));
  writeFileSync(image, bytes);
  return { image, bmap: `${image}.bmap`, bytes };
}

const OLD = 0xa5;

/** Reports whether all bytes are the same one; compared in one go, as there are many. */
function isAll(bytes: Buffer, byte: number): boolean {
  return Buffer.compare(bytes, Buffer.alloc(bytes.length, byte)) === 0;
}

/** Writes an image to a file of 30 MiB, which is the device here. */
async function writeToFile(image: string, ...options: string[]) {
  const device = join(temp.make(), "device");
  writeFileSync(device, Buffer.alloc(30 * MIB, OLD));
  const ran = await seedstrap(["write", image, device, "--file", "--yes", "device", ...options]);
  return { ran, after: readFileSync(device) };
}

/** Expects that an image was written, and nothing after it. */
function expectWritten(
  { ran, after }: Awaited<ReturnType<typeof writeToFile>>,
  bytes: Buffer,
  bmap?: string,
): void {
  if (bmap === undefined) expect(ran.stderr).not.toContain("is verified by");
  else expect(ran.stderr).toContain(`is verified by ${bmap}\n`);
  expect(ran.code).toBe(0);
  expect(Buffer.compare(after.subarray(0, bytes.length), bytes)).toBe(0);
  expect(isAll(after.subarray(bytes.length), OLD)).toBe(true);
}

/** Expects a refusal before anything was written. */
function expectRefused(
  { ran, after }: Awaited<ReturnType<typeof writeToFile>>,
  code: number,
  text: string,
): void {
  expect(ran.stderr).toContain(text);
  expect(ran.code).toBe(code);
  expect(isAll(after, OLD)).toBe(true);
}

test("write verifies an image without a record by the bmap beside it, or the one named", async () => {
  const { image, bmap, bytes } = payloadWithBmap();
  expect((await seedstrap(["image", "bmap", image])).code).toBe(0);
  expect(readBmap(readFileSync(bmap), "x").ranges).toHaveLength(2);
  expectWritten(await writeToFile(image), bytes, bmap);
  expectWritten(await writeToFile(image, "--no-verify"), bytes, bmap);
  renameSync(bmap, `${image}.map`);
  expectWritten(await writeToFile(image), bytes);
  const named = await writeToFile(image, "--bmap", `${image}.map`, "--json");
  expectWritten(named, bytes, `${image}.map`);
  expect(JSON.parse(named.ran.stdout))
    .toMatchObject({ image, bmap: `${image}.map`, kind: "payload" });
});

test("write stops at a range whose digest is wrong, and what it wrote does not boot", async () => {
  const { image, bmap, bytes } = payloadWithBmap();
  expect((await seedstrap(["image", "bmap", image])).code).toBe(0);
  const { offsetBytes, sizeBytes } = readBmap(readFileSync(bmap), "x").ranges.at(-1)!;
  bytes[offsetBytes + 5000]! ^= 1;
  writeFileSync(image, bytes);
  const { ran, after } = await writeToFile(image);
  expect(ran.code).toBe(EXIT.verify);
  expect(ran.stderr)
    .toContain(`Cannot use ${image}, ${sizeBytes} bytes at offset ${offsetBytes}: its SHA-256 is `);
  expect(ran.stderr).toContain("does not boot: its first MiB is zeros");
  expect(isAll(after.subarray(0, MIB), 0)).toBe(true);
});

test("write refuses a bmap that does not fit before anything is written", async () => {
  const { image, bmap, bytes } = payloadWithBmap();
  expect((await seedstrap(["image", "bmap", image])).code).toBe(0);
  const right = readFileSync(bmap, "latin1");
  const { ranges } = readBmap(Buffer.from(right), "x");

  writeFileSync(bmap, formatBmap({ sizeBytes: bytes.length + 1, ranges }));
  const longer = `it is of ${bytes.length + 1} bytes, not ${bytes.length}`;
  expectRefused(await writeToFile(image), EXIT.verify, longer);
  for (const gone of ranges) {
    const others = ranges.filter((range) => range !== gone);
    writeFileSync(bmap, formatBmap({ sizeBytes: bytes.length, ranges: others }));
    const data = bytes.findIndex((byte, at) => at >= gone.offsetBytes && byte !== 0);
    expectRefused(await writeToFile(image), EXIT.verify, `it leaves out data at offset ${data}`);
  }
  writeFileSync(bmap, right.replace("<ImageSize> ", "<ImageSize>  "));
  expectRefused(await writeToFile(image), EXIT.verify, `Cannot trust ${bmap}: its SHA-256 is `);
  writeFileSync(bmap, right.replaceAll(/ chksum="\w+"/g, ""));
  expectRefused(await writeToFile(image), EXIT.format, "no range with a SHA-256 here");
  const absent = join(temp.make(), "absent");
  expectRefused(await writeToFile(image, "--bmap", absent), EXIT.target, "ENOENT");
});

test("where there is a record, write goes by that, and takes no other bmap", async () => {
  const other = temp.make();
  expect((await buildIn(other, args)).code).toBe(0);
  const image = join(other, "target/payload.img");
  writeFileSync(`${image}.bmap`, "no bmap");
  expectWritten(await writeToFile(image), readFileSync(image));
  const named = await writeToFile(image, "--bmap", `${image}.bmap`);
  expectRefused(named, EXIT.usage, `Cannot use --bmap for ${image}: seedstrap.json is beside it`);
});

withBmaptool("write goes by a bmap of bmaptool, and refuses a wrong digest in it", async () => {
  const { image, bmap, bytes } = payloadWithBmap();
  const sparse = join(temp.make(), "sparse.img");
  expect(await run(["cp", "--sparse=always", image, sparse])).toMatchObject({ code: 0 });
  expect(await run(["bmaptool", "create", sparse, "-o", bmap])).toMatchObject({ code: 0 });
  expect(readBmap(readFileSync(bmap), "x").ranges.length).toBeGreaterThan(1);
  expectWritten(await writeToFile(image), bytes, bmap);
  withWrongDigest(bmap);
  const { ran, after } = await writeToFile(image);
  expect(ran.code).toBe(EXIT.verify);
  expect(ran.stderr).toContain(`Cannot use ${image}, `);
  expect(isAll(after.subarray(0, MIB), 0)).toBe(true);
});

withBmaptool(
  "bmaptool copies each image of a build by its bmap, and refuses a wrong digest",
  async () => {
    for (const name of NAMES) {
      const out = join(temp.make(), "out");
      const image = join(target, name);
      // It finds the bmap by its name.
      expect(await run(["bmaptool", "copy", image, out])).toMatchObject({ code: 0 });
      expect(Buffer.compare(readFileSync(out), readFileSync(image))).toBe(0);
      const bmap = join(temp.make(), "wrong.bmap");
      writeFileSync(bmap, readFileSync(`${image}.bmap`));
      withWrongDigest(bmap);
      const ran = await run(["bmaptool", "copy", "--bmap", bmap, image, out]);
      expect(ran.code).not.toBe(0);
      expect(ran.stderr).toContain("checksum mismatch for blocks range");
    }
  },
);

withBmaptool(
  "bmaptool copies a file with holes, cuts and a short last block by its bmap",
  async () => {
    const image = join(temp.make(), "a.img");
    const file = openSync(image, "w");
    writeSync(file, sampleBody(33 * MIB), 0, 33 * MIB, 5 * MIB);
    writeSync(file, sampleBody(70_001), 0, 70_001, 70 * MIB);
    closeSync(file);
    expect((await seedstrap(["image", "bmap", image])).code).toBe(0);
    expect(readBmap(readFileSync(`${image}.bmap`), "x").ranges).toHaveLength(4);
    expect(await run(["bmaptool", "copy", image, `${image}.out`])).toMatchObject({ code: 0 });
    expect(Buffer.compare(readFileSync(`${image}.out`), readFileSync(image))).toBe(0);
  },
);

withBmaptool("readBmap() reads what bmaptool makes, and refuses its other digests", async () => {
  const image = join(temp.make(), "a.img");
  sparseFile(image);
  const create = (...options: string[]): Promise<Ran> =>
    run(["bmaptool", "create", image, ...options]);
  const bytes = readFileSync(image);
  const { sizeBytes, ranges } = readBmap(Buffer.from((await create()).stdout), "x");
  expect(sizeBytes).toBe(80 * MIB);
  const rebuilt = Buffer.alloc(sizeBytes);
  for (const { offsetBytes, sizeBytes, sha256: digest } of ranges) {
    const range = bytes.subarray(offsetBytes, offsetBytes + sizeBytes);
    expect(sha256(range)).toBe(digest);
    range.copy(rebuilt, offsetBytes);
  }
  expect(Buffer.compare(rebuilt, bytes)).toBe(0);
  const { stdout } = await create("--no-checksum");
  expect(() => readBmap(Buffer.from(stdout), "x")).toThrow("no range with a SHA-256 here");
});
