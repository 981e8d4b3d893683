// SPDX-License-Identifier: MIT
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { writePreflight } from "../../src/preflight/run.ts";
import { readRecord } from "../../src/record/read.ts";
import { buildIn, setUp } from "../cli/support.ts";
import { type Ran, seedstrap, testWith } from "../support/run.ts";

const testWithQemu = testWith("qemu-system-x86_64");
/** A machine with too little memory for builder-hex0, but enough for the other tests. */
const SMALL = ["--qemu-ram", "256", "--no-memory-test", "--accel", "tcg"];

let dir = "";
let target = "";

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "seedstrap-test-"));
  target = join(dir, "target");
  const built = await buildIn(dir, setUp(dir));
  expect(built.stderr + built.code).toBe("0");
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const preflight = (...args: string[]): Promise<Ran> => seedstrap(["preflight", ...args]);

/** Writes the image for a USB stick. */
async function stick(name: string, ...args: string[]): Promise<string> {
  const path = join(dir, name);
  const { code, stderr } = await preflight("--bare-metal", "-o", path, ...args);
  expect(stderr + code).toBe("0");
  return path;
}

test("preflight writes an image whose checksum is of all bytes before it", async () => {
  const bytes = readFileSync(await stick("plain.img"));
  const at = bytes.lastIndexOf("crc32=") + "crc32=".length;
  const digits = bytes.toString("latin1", at, at + 8);
  expect(parseInt(digits, 16)).toBe(crc32(bytes.subarray(0, at)));
  expect(bytes.toString("latin1", at - 38, at)).toBe(
    "preflight payload=0 read=1 memory=1 crc32=".slice(-38),
  );
  expect(bytes.length % (1024 * 1024)).toBe(0);
});

test("preflight for a target has the srcfs of its boot image, and expects its payload", async () => {
  const bytes = readFileSync(await stick("target.img", target));
  const boot = readFileSync(join(target, "init.img"));
  const start = boot.indexOf("src 0 .\n");
  const end = boot.lastIndexOf("/kaem.x86\n") + "/kaem.x86\n".length;
  const at = bytes.indexOf("src 0 .\n");
  expect(at % 512).toBe(0);
  expect(bytes.subarray(at, at + end - start).equals(boot.subarray(start, end))).toBe(true);
  expect(bytes.toString("latin1", at + end - start, at + end - start + 19)).toBe(
    "preflight payload=1",
  );
});

test("image verify accepts a preflight image, and detects a changed byte", async () => {
  const path = await stick("verify.img", target);
  // Its own checksum is of its contents, too: there is no warning.
  expect(await seedstrap(["image", "verify", path])).toMatchObject({ code: 0, stderr: "" });
  const bytes = readFileSync(path);
  bytes[bytes.indexOf("src 0 ./steps\n") - 2]! ^= 1;
  writeFileSync(path, bytes);
  const { code, stderr } = await seedstrap(["image", "verify", path]);
  expect(stderr).toContain("the CRC-32 of the bytes before is ");
  expect(code).toBe(6);
});

testWithQemu(
  "preflight has the memory of the target, and the QEMU that the user names",
  async () => {
    const small = join(dir, "small");
    const qemu = join(dir, "my qemu");
    writeFileSync(qemu, `#!/bin/sh\necho run >>"$0.log"\nexec qemu-system-x86_64 "$@"\n`, {
      mode: 0o755,
    });
    const own = ["-qr", "256", "--force", "-t", small];
    const build = ["build", "--qemu", "--external-sources", ...setUp(dir), ...own];
    const built = await seedstrap(build);
    expect(built.code).toBe(0);
    const tcg = ["--no-memory-test", "--accel", "tcg"];
    const reasons = async (...args: string[]) => {
      const { code, stdout } = await preflight("--qemu", small, ...tcg, "--json", ...args);
      return [code, ...JSON.parse(stdout).verdict.reasons];
    };
    const [code, ...short] = await reasons();
    expect(code).toBe(10);
    expect(short).not.toEqual([]);
    expect(await reasons("-qr", "4096")).toEqual([0]);

    const record = join(small, "seedstrap.json");
    writeFileSync(
      record,
      readFileSync(record, "utf8").replace('"qemu-system-x86_64"', `"${qemu}"`),
    );
    const refused = await preflight("--qemu", small, ...tcg);
    expect(refused.stderr).toContain(`without --qemu-cmd '${qemu}': its record names another QEMU`);
    const command = `seedstrap preflight --qemu ${small} --qemu-cmd '${qemu}'`;
    expect(refused.stderr).toEndWith(`hint: If you trust it, name it yourself: ${command}\n`);
    expect(refused.code).toBe(2);
    expect(existsSync(`${qemu}.log`)).toBe(false);
    expect(await reasons("-qc", qemu, "-qr", "4G")).toEqual([0]);
    expect(readFileSync(`${qemu}.log`, "utf8")).toBe("run\n");
  },
);

test("preflight --bare-metal says where the image is, and that the boot image has to be written again", async () => {
  const cwd = mkdtempSync(join(dir, "cwd-"));
  const { stdout } = await seedstrap(["preflight", "--bare-metal", target], { cwd });
  const path = join(realpathSync(cwd), "preflight.img");
  const bytes = statSync(path).size;
  const [first, , place, ...steps] = stdout.trimEnd().split("\n");
  expect(first).toBe(path);
  expect(place).toBe("  in the current directory; -o names another place");
  expect(steps).toEqual([
    "Please:",
    `  1. Write preflight.img (${bytes} bytes) to the drive that will boot.`,
    "  2. Attach the payload drive as it will be.",
    "  3. Boot the machine and read the last line.",
    "  4. Write the boot image (init.img) to the drive again: it was overwritten.",
  ]);
});

test("preflight does not overwrite a file", async () => {
  const path = await stick("once.img");
  const { code, stderr } = await preflight("--bare-metal", "-o", path);
  expect(stderr).toContain(`${path} exists`);
  expect(code).toBe(7);
});

test("writePreflight() leaves an existing file unchanged", async () => {
  const path = join(dir, "mine.img");
  writeFileSync(path, "mine");
  const orders = { payload: false, read: true, memory: true };
  const written = writePreflight(path, { orders });
  expect(await written.catch((error: unknown) => error)).toMatchObject({ kind: "target" });
  expect(readFileSync(path, "utf8")).toBe("mine");
});

test("preflight explains the log of a real machine", async () => {
  const log = join(dir, "log.txt");
  writeFileSync(log, "preflight: start version=1.0\r\npreflight: verdict failed a20\r\n");
  const failed = await preflight("--log", log);
  expect(failed.stdout).toContain("verdict: failed: a20");
  expect(failed.stderr).toContain("a20: the BIOS does not enable address line 20");
  expect(failed.code).toBe(10);
  writeFileSync(log, "preflight: start version=1.0\r\npreflight: verdict ok\r\n");
  expect((await preflight("--log", log)).code).toBe(0);
  writeFileSync(log, "preflight: start version=1.0\r\n");
  expect((await preflight("--log", log)).code).toBe(6);
});

test("preflight calls RAM enough that is short of its range but all that is needed", async () => {
  const log = join(dir, "enough.txt");
  const ram = "preflight: ram use=files base=54000000 end=C0000000 free=1811808256 state=short";
  writeFileSync(log, `${ram}\r\npreflight: verdict ok\r\n`);
  const ran = await seedstrap(["preflight", "--log", log]);
  expect(ran.stdout).toMatch(/^RAM for files {2}enough {2}54000000 to C0000000, 1\.69 GiB free\n/);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  const json = JSON.parse((await seedstrap(["preflight", "--log", log, "--json"])).stdout);
  expect(json.lines[0].values.state).toBe("short");
});

test("preflight --log shows what is lost in a damaged log as unknown, and says so", async () => {
  const log = join(dir, "mangled.txt");
  const lines = ["boot", "ram x=1", "payload bytes=xx files=-1 of=1e9", "memory places=a"];
  const body = lines.map((line) => `preflight: ${line}\r\n`).join("");
  writeFileSync(
    log,
    `${body}preflight: boot drive=1 entries=99999999999999999999\r\n` +
      "preflight: verdict ok\r\n",
  );
  const ran = await seedstrap(["preflight", "--log", log]);
  expect(ran.stdout + ran.stderr).not.toMatch(/undefined|NaN|e\+/);
  expect(ran.stderr).toContain("5 lines are damaged");
  expect(ran.code).toBe(0);
});

test("preflight of a target that boots a preflight program itself says how that is checked", async () => {
  const own = mkdtempSync(join(dir, "own-"));
  const path = join(target, "seedstrap.json");
  const text = readFileSync(path, "utf8").replace('"builder-hex0"', '"preflight"');
  writeFileSync(join(own, "seedstrap.json"), text);
  const ran = await preflight("--qemu", own);
  expect(ran.stderr).toContain(`its boot image is a preflight program\n  at ${own}\n`);
  expect(ran.stderr).toContain(`hint: It is checked as it runs: seedstrap run ${own}\n`);
  expect(ran.code).toBe(2);
});

test("preflight requires exactly one mode", async () => {
  expect((await preflight()).code).toBe(2);
  expect((await preflight("--qemu", "--bare-metal")).code).toBe(2);
});

testWithQemu(
  "preflight in QEMU reads boot and payload disk of a target to their ends",
  async () => {
    const { code, stdout } = await preflight("--qemu", target, ...SMALL, "--json");
    const report = JSON.parse(stdout);
    const line = (topic: string) =>
      report.lines.find((line: { topic: string }) => line.topic === topic)?.values;
    expect(line("boot")).toMatchObject({ crc: "ok", state: "ok" });
    const record = readRecord(target);
    const payload = record.images[1]!;
    expect(line("payload")).toMatchObject({
      state: "ok",
      layout: String(record.payload.layout),
      files: String(payload.files.length),
      bytes: String(
        payload.files.reduce((sum, { size }) => sum + size, 0),
      ),
    });
    // 256 MiB are too little for builder-hex0; nothing else is wrong.
    expect(report.verdict).toEqual({ ok: false, reasons: ["memory-map"] });
    expect(code).toBe(10);
  },
);

testWithQemu("preflight in QEMU misses a payload that is cut", async () => {
  const cut = join(dir, "cut.img");
  writeFileSync(cut, readFileSync(join(target, "payload.img")));
  truncateSync(cut, 512);
  const { code, stderr } = await preflight("--qemu", target, ...SMALL, "--payload", cut);
  expect(stderr).toContain("payload-truncated: a payload disk ends before its payload does");
  expect(code).toBe(10);
});

test(
  "preflight refuses images of a target that are not as they were built, before QEMU",
  async () => {
    const size = (name: string) => statSync(join(target, name)).size;
    const places: [string, (path: string) => void, string][] = [
      ["missing", () => {}, "it is missing"],
      ["a directory", (path) => mkdirSync(path), "it is no regular file"],
      ["a link", (path) => symlinkSync(join(target, "payload.img"), path), "it is no regular file"],
      ["a fifo", (path) => Bun.spawnSync(["mkfifo", path]), "it is no regular file"],
      ["cut", (path) => writeFileSync(path, "x"), "it has 1 bytes"],
    ];
    for (const name of ["init.img", "payload.img"]) {
      for (const [what, make, found] of places) {
        const copy = join(dir, `copy of ${name} ${what}`);
        cpSync(target, copy, { recursive: true });
        rmSync(join(copy, name));
        make(join(copy, name));
        const { code, stderr } = await preflight("--qemu", copy, ...SMALL);
        const wanted = `${join(copy, name)}: ${found}, it was built with ${size(name)} bytes`;
        expect(stderr).toContain(`Cannot use ${wanted}`);
        expect(code).toBe(7);
        rmSync(copy, { recursive: true });
      }
    }
    const copy = join(dir, "payload on a device");
    cpSync(target, copy, { recursive: true });
    rmSync(join(copy, "payload.img"));
    await stick("device.img", copy);
  },
  60_000,
);
