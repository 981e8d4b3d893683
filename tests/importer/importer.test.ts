// SPDX-License-Identifier: MIT
/**
 * payload-import on images, natively, as each compiler makes it.
 *
 * @module
 */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import {
  existsSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { payload } from "../../src/format/payload.ts";
import { GIB, MIB } from "../../src/format/segment.ts";
import { TempDirs } from "../support/files.ts";
import { run, testWith } from "../support/run.ts";
import {
  entry,
  EXIT,
  type Outcome,
  PART,
  rawPayload,
  type RawRecord,
  runSync,
  type Variant,
  variants,
  writeHollow,
  writePayload,
} from "./harness.ts";

const programs = new TempDirs();
afterAll(() => programs.release());
const temp = new TempDirs();
afterEach(() => temp.release());

const built = variants(programs.make());

/** What lies in a directory: names with their content. */
function contents(dir: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(dir).sort().map((name) => [name, readFileSync(join(dir, name), "latin1")]),
  );
}

function sumsOf(files: Readonly<Record<string, string>>): string {
  return Object.entries(files)
    .map(([name, text]) => `${createHash("sha256").update(text).digest("hex")}  ${name}\n`)
    .join("");
}

/** An image and a directory to restore to, for one run after the other. */
class Bench {
  readonly dir = temp.make();
  readonly image = join(this.dir, "image");
  readonly dest = join(this.dir, "dest");
  readonly list = join(this.dir, "list");
  readonly #program: string;

  constructor(variant: Variant) {
    this.#program = variant.program;
    mkdirSync(this.dest);
  }

  static with(variant: Variant, image: Uint8Array | string): Bench {
    const bench = new Bench(variant);
    writeFileSync(bench.image, image);
    return bench;
  }

  run(...args: readonly string[]): Outcome {
    return runSync(this.command(...args));
  }

  command(...args: readonly string[]): string[] {
    return [this.#program, "--device", this.image, ...args, this.dest];
  }

  program(...args: readonly string[]): Outcome {
    return runSync([this.#program, ...args]);
  }

  /** Expects a run to fail, with a line that names the image, and to leave nothing behind. */
  expectRefusal(code: number, pattern: RegExp, ...args: readonly string[]): void {
    const ran = this.run(...args);
    expect(ran.stderr).toMatch(pattern);
    expect(ran.stderr).toContain(this.image);
    expect(ran.code).toBe(code);
    expect(readdirSync(this.dest)).toEqual([]);
  }
}

/** Files of all sizes that matter to the buffers: 64 bytes of a digest, 64 KiB of a copy. */
function manyFiles(count: number): Record<string, string> {
  const sizes = [0, 1, 55, 56, 63, 64, 65, 65535, 65536, 65537, 131072];
  const names = Array.from({ length: count }, (_, i) => `file-${String(i).padStart(3, "0")}.tar`);
  return Object.fromEntries(
    names.map((
      name,
      i,
    ) => [name, String.fromCharCode(65 + i % 26).repeat(sizes[i % sizes.length]!)]),
  );
}

describe.each(built)("$name", (variant) => {
  test.skipIf(variant.compilation === undefined)("compiles without a warning", () => {
    expect(variant.compilation).toEqual({ code: 0, stdout: "", stderr: "" });
  });

  for (const layout of [64, 32] as const) {
    test.each([0, 1, 400])(`restores %i files of layout ${layout}`, async (count) => {
      const files = manyFiles(count);
      const all = { ...files, SHA256SUMS: sumsOf(files) };
      const wanted = count === 0 ? {} : count === 1 ? files : all;
      const bench = new Bench(variant);
      await writePayload(
        bench.image,
        Object.entries(wanted).map(([name, text]) => entry(name, text)),
        layout,
      );
      const { code, stdout, stderr } = bench.run(...(count > 1 ? ["--verify"] : []));
      expect(stderr).toBe("");
      expect(code).toBe(EXIT.done);
      // An empty payload reads the same in both layouts.
      const number = Object.keys(wanted).length;
      expect(stdout).toContain(`payload, layout ${count === 0 ? 64 : layout}, ${number} files\n`);
      expect(stdout).toContain(`done: ${number} files restored, 0 kept, `);
      expect(stdout.split("\n")).toHaveLength(number + 3);
      expect(contents(bench.dest)).toEqual(Object.fromEntries(Object.entries(wanted).sort()));
    });
  }

  test("restores names of every kind", async () => {
    const names = [
      "-dash",
      "...",
      ".hidden",
      "a b",
      "q".repeat(255),
      "\u00e9\u20ac\u{1f600}",
      "\x1b[2J",
    ];
    const bench = new Bench(variant);
    await writePayload(bench.image, names.map((name) => entry(name, `of ${name}`)));
    const { code, stdout } = bench.run();
    expect(code).toBe(EXIT.done);
    expect(stdout).not.toContain("\x1b");
    expect(readdirSync(bench.dest).sort()).toEqual([...names].sort());
  });

  /** Characters that steer a terminal or cannot be seen, each with what is shown of it. */
  const unseen = {
    "\x01": "\\x01",
    "\n": "\\x0a",
    "\x1f": "\\x1f",
    "\x7f": "\\x7f",
    "\u0080": "\\xc2\\x80",
    "\u009b": "\\xc2\\x9b",
    "\u009f": "\\xc2\\x9f",
    "\u061c": "\\xd8\\x9c",
    "\u200b": "\\xe2\\x80\\x8b",
    "\u200f": "\\xe2\\x80\\x8f",
    "\u2028": "\\xe2\\x80\\xa8",
    "\u202a": "\\xe2\\x80\\xaa",
    "\u202e": "\\xe2\\x80\\xae",
    "\u2060": "\\xe2\\x81\\xa0",
    "\u2069": "\\xe2\\x81\\xa9",
    "\ufeff": "\\xef\\xbb\\xbf",
  };
  /** Neighbours of these, which are shown. */
  const seen = "~\u00a0\u00e9\u061d\u200a\u2010\u202f\u205f\u206a\ufefe\u{1f600}";

  test("shows what cannot be seen of names of files and of lines of the list", () => {
    const names = [...Object.keys(unseen).map((character) => `a${character}b`), `b${seen}b`];
    const shown = [...Object.values(unseen).map((text) => `a${text}b`), `b${seen}b`];
    const bench = Bench.with(variant, rawPayload(64, names.map((name) => ({ name }))));
    const ran = bench.run();
    expect({ code: ran.code, stderr: ran.stderr }).toEqual({ code: EXIT.done, stderr: "" });
    expect(ran.stdout.split("\n").slice(1, -2)).toEqual(
      shown.map((text, i) => `payload-import: ${i + 1}/${shown.length} ${text}, 0 bytes, restored`),
    );
    expect(readdirSync(bench.dest)).toHaveLength(names.length);

    const lines = names.filter((name) => !name.includes("\n")).map((name) => `no ${name}`);
    writeFileSync(bench.list, [...lines, ""].join("\n"));
    const missing = bench.run("--list", bench.list);
    expect(missing.code).toBe(EXIT.list);
    expect(missing.stderr).toBe(
      shown.filter((text) => text !== "a\\x0ab").map((text) =>
        `payload-import: ${bench.image}: has no file no ${text}\n`
      ).join(""),
    );
  });

  test("shows what cannot be seen of paths, and bytes that are no UTF-8", () => {
    const bench = Bench.with(variant, rawPayload(64, [{ name: Uint8Array.of(0x9b, 0x61, 0xff) }]));
    expect(bench.run().stderr).toEndWith(
      ": \\x9ba\\xff: at byte 35: the name is not valid UTF-8\n",
    );
    writeFileSync(bench.image, rawPayload(64, [{ name: "a" }]));
    for (const [character, text] of Object.entries(unseen)) {
      const path = join(bench.dir, character);
      for (
        const args of [
          ["--probe", path],
          ["--device", path, bench.dest],
          ["--list", path, bench.dest],
        ]
      ) {
        expect(bench.program(...args).stderr).toBe(
          `payload-import: ${bench.dir}/${text}: ` +
            `cannot open ${args[0] === "--list" ? "the list" : "it"}: error 2, no such file\n`,
        );
      }
      const gone = bench.program("--device", bench.image, path);
      expect(gone.stderr).toBe(
        `payload-import: ${bench.dir}/${text}/${PART}: ` +
          "cannot make the file: error 2, no such file\n",
      );
    }
  });

  test("passes over 5 GiB without cutting the number", () => {
    const bench = new Bench(variant);
    const huge = join(bench.dest, "a-huge");
    const size = 5 * GIB + 3;
    ftruncateSync(openSync(huge, "w"), size);
    writeHollow(
      bench.image,
      payload([
        { name: "a-huge", body: { kind: "file", path: huge, offsetBytes: 0, sizeBytes: size } },
        entry("b-small", "behind it"),
      ]),
    );
    const { code, stdout, stderr } = bench.run();
    expect(stderr).toBe("");
    expect(stdout).toContain(`1/2 a-huge, ${size} bytes, kept\n`);
    expect(code).toBe(EXIT.done);
    expect(readFileSync(join(bench.dest, "b-small"), "utf8")).toBe("behind it");
  });

  test.each([64, 32] as const)("says where a payload of layout %i was cut off", (layout) => {
    const whole = rawPayload(layout, [{ name: "one", data: "first" }, { name: "two", data: "2." }]);
    for (let bytes = 0; bytes < whole.length; bytes++) {
      const bench = Bench.with(variant, whole.subarray(0, bytes));
      if (bytes < 8) bench.expectRefusal(EXIT.none, /has no payload/);
      else bench.expectRefusal(EXIT.format, /at byte \d+: the payload is cut off/);
    }
    const bench = Bench.with(variant, whole);
    expect(bench.run().code).toBe(EXIT.done);
    expect(contents(bench.dest)).toEqual({ one: "first", two: "2." });
  });

  const evil: readonly (readonly [string, RawRecord["name"]])[] = [
    ["a name of no bytes", ""],
    ["a name of 1,025 bytes", "x".repeat(1025)],
    [".", "."],
    ["..", ".."],
    ["a path", "../../etc/passwd"],
    ["an absolute path", "/etc/passwd"],
    ["a backslash", PART],
    ["a NUL", "a\0b"],
    ["a NUL at the end", "a\0"],
    ["a byte that UTF-8 has not", Uint8Array.of(0x61, 0xff)],
    ["a byte from the middle of a character", Uint8Array.of(0x80)],
    ["half a character", Uint8Array.of(0x61, 0xe2, 0x82)],
    ["an overlong slash", Uint8Array.of(0xc0, 0xaf)],
    ["an overlong slash of three bytes", Uint8Array.of(0xe0, 0x80, 0xaf)],
    ["a surrogate", Uint8Array.of(0xed, 0xa0, 0x80)],
    ["a character past the last", Uint8Array.of(0xf4, 0x90, 0x80, 0x80)],
    ["five bytes in a character", Uint8Array.of(0xf8, 0x88, 0x80, 0x80, 0x80)],
  ];
  test.each(evil)("refuses a name: %s", (_, name) => {
    for (const layout of [64, 32] as const) {
      const image = rawPayload(layout, [{ name: "!good", data: "x" }, { name, data: "y" }]);
      Bench.with(variant, image).expectRefusal(EXIT.format, /: at byte \d+: (the|a) name /);
    }
  });

  const lies: readonly (readonly [string, readonly RawRecord[], bigint | undefined])[] = [
    ["one file more than there is", [{ name: "a" }], 2n],
    ["a count of 2^32 - 1", [{ name: "a" }], 0xffffffffn],
    ["a size of one byte more", [{ name: "a", data: "b", size: 2n }], undefined],
    ["a size of 2^32 - 1", [{ name: "a", data: "b", size: 0xffffffffn }], undefined],
    ["a name twice", [{ name: "a" }, { name: "a" }], undefined],
    ["names out of order", [{ name: "b" }, { name: "a" }], undefined],
    ["a longer name before its beginning", [{ name: "ab" }, { name: "a" }], undefined],
    ["a name longer than the image", [{ name: "a", nameBytes: 1024n }], undefined],
    ["a name of 2^32 - 1 bytes", [{ name: "a", nameBytes: 0xffffffffn }], undefined],
  ];
  test.each(lies)("refuses %s", (_, records, count) => {
    for (const layout of [64, 32] as const) {
      const image = rawPayload(layout, records, count);
      Bench.with(variant, image).expectRefusal(EXIT.format, /: at byte \d+: /);
      const padded = Buffer.concat([image, Buffer.alloc(2048)]);
      if (count !== undefined || records.length > 1) {
        Bench.with(variant, padded).expectRefusal(EXIT.format, /: at byte \d+: /);
      }
    }
  });

  test("refuses numbers of 64 bits that do not fit", () => {
    for (const huge of [2n ** 63n, 2n ** 64n - 1n, 2n ** 64n - 30n]) {
      for (
        const image of [
          rawPayload(64, [{ name: "a", size: huge }]),
          rawPayload(64, [{ name: "a", nameBytes: huge }]),
          rawPayload(64, [{ name: "a" }], huge),
        ]
      ) {
        Bench.with(variant, image).expectRefusal(EXIT.format, /: at byte \d+: /);
      }
    }
  });

  test("keeps what is there with the right size, replaces what is not", () => {
    const records = ["kept", "long", "none", "short"].map((name) => ({ name, data: "12345" }));
    const bench = Bench.with(variant, rawPayload(64, records));
    writeFileSync(join(bench.dest, "kept"), "other");
    writeFileSync(join(bench.dest, "long"), "123456");
    writeFileSync(join(bench.dest, "short"), "1234");
    writeFileSync(join(bench.dest, PART), "left by a run that was killed");
    const { code, stdout } = bench.run();
    expect(code).toBe(EXIT.done);
    expect(stdout).toBe(
      `payload-import: ${bench.image}: payload, layout 64, 4 files\n` +
        "payload-import: 1/4 kept, 5 bytes, kept\n" +
        "payload-import: 2/4 long, 5 bytes, restored\n" +
        "payload-import: 3/4 none, 5 bytes, restored\n" +
        "payload-import: 4/4 short, 5 bytes, restored\n" +
        "payload-import: done: 3 files restored, 1 kept, 15 bytes written\n",
    );
    expect(contents(bench.dest)).toEqual({
      kept: "other",
      long: "12345",
      none: "12345",
      short: "12345",
    });
    expect(statSync(join(bench.dest, "none")).mode & 0o777).toBe(0o644);
  });

  test("does not write through a link", () => {
    const bench = Bench.with(variant, rawPayload(64, [{ name: "a", data: "12345" }]));
    const victim = join(bench.dir, "victim");
    writeFileSync(victim, "untouched");
    symlinkSync(victim, join(bench.dest, "a"));
    symlinkSync(victim, join(bench.dest, PART));
    expect(bench.run().code).toBe(EXIT.done);
    expect(readFileSync(victim, "utf8")).toBe("untouched");
    expect(contents(bench.dest)).toEqual({ a: "12345" });
  });

  test("replaces what is no file, and does not open it", async () => {
    const records = ["fifo", "link", "null"].map((name) => ({ name, data: "" }));
    const bench = Bench.with(variant, rawPayload(64, records));
    const fifo = join(bench.dir, "fifo");
    expect(runSync(["mkfifo", fifo, join(bench.dest, "fifo")]).code).toBe(0);
    symlinkSync(fifo, join(bench.dest, "link"));
    symlinkSync("/dev/null", join(bench.dest, "null"));
    const { code, stdout, stderr } = await run(bench.command());
    expect({ code, stderr }).toEqual({ code: EXIT.done, stderr: "" });
    expect(stdout).toContain("done: 3 files restored, 0 kept, 0 bytes written\n");
    for (const { name } of records) {
      expect(lstatSync(join(bench.dest, name)).isFile()).toBeTrue();
    }
    expect(lstatSync(fifo).isFIFO()).toBeTrue();
  });

  test("restores only what the list names, and reads no further", () => {
    const image = rawPayload(64, [
      { name: "a", data: "1" },
      { name: "b", data: "2" },
      { name: "c", data: "3" },
      { name: "../evil", data: "4" },
    ]);
    const bench = Bench.with(variant, image);
    writeFileSync(bench.list, "c\n\na");
    const { code, stdout } = bench.run("--list", bench.list);
    expect(code).toBe(EXIT.done);
    expect(stdout).toContain("1/2 a, 1 bytes, restored\n");
    expect(contents(bench.dest)).toEqual({ a: "1", c: "3" });
    writeFileSync(bench.list, "");
    expect(bench.run("--list", bench.list).stdout).toContain("done: 0 files restored, 0 kept, 0 b");
  });

  test("names what the list has and the payload has not", () => {
    const bench = Bench.with(variant, rawPayload(64, [{ name: "a" }, { name: "b" }]));
    writeFileSync(bench.list, "a\nb2\nB\n");
    bench.expectRefusal(EXIT.list, /has no file b2\n.*has no file B\n$/, "--list", bench.list);
  });

  test("refuses a list that it cannot use", () => {
    const bench = Bench.with(variant, rawPayload(64, [{ name: "a" }]));
    for (
      const [content, message] of [
        ["a\n".repeat(4097), "has more than 4096 lines"],
        ["a\0b", "has a NUL in it"],
        ["x".repeat(262145), "is too long"],
      ] as const
    ) {
      writeFileSync(bench.list, content);
      const ran = bench.run("--list", bench.list);
      expect(ran).toMatchObject({ code: EXIT.list, stdout: "" });
      expect(ran.stderr).toContain(`${bench.list}: ${message}`);
    }
    expect(bench.run("--list", bench.dir).stderr).toContain("cannot be read");
    expect(bench.run("--list", join(bench.dir, "none"))).toMatchObject({
      code: EXIT.list,
      stderr: `payload-import: ${bench.dir}/none: cannot open the list: error 2, no such file\n`,
    });
  });

  test("verifies what was written and what is kept", async () => {
    const files = { a: "first", b: "second", c: "x".repeat(70000) };
    const bench = new Bench(variant);
    const all = { ...files, SHA256SUMS: sumsOf(files) };
    await writePayload(bench.image, Object.entries(all).map(([name, text]) => entry(name, text)));
    writeFileSync(join(bench.dest, "a"), "FIRST");
    writeFileSync(join(bench.dest, "b"), "second");
    writeFileSync(join(bench.dest, "SHA256SUMS"), "-".repeat(all.SHA256SUMS.length));
    const { code, stdout } = bench.run("--verify");
    expect(code).toBe(EXIT.done);
    expect(stdout).toContain(" a, 5 bytes, restored\n");
    expect(stdout).toContain(" b, 6 bytes, kept\n");
    expect(contents(bench.dest)).toEqual({ SHA256SUMS: all.SHA256SUMS, ...files });
    // A list need not name SHA256SUMS for that.
    writeFileSync(bench.list, "b\n");
    expect(bench.run("--verify", "--list", bench.list).stdout).toContain("1/1 b, 6 bytes, kept\n");
  });

  test("refuses what does not have its digest", () => {
    const images: readonly (readonly [RegExp, readonly RawRecord[]])[] = [
      [/SHA256SUMS: at byte \d+: is not in the payload/, [{ name: "a" }]],
      [/SHA256SUMS: at byte \d+: has a NUL/, [{ name: "SHA256SUMS", data: "\0" }]],
      [/SHA256SUMS: at byte \d+: is too long/, [
        { name: "SHA256SUMS", data: "x".repeat(524289) },
      ]],
    ];
    for (const [pattern, records] of images) {
      Bench.with(variant, rawPayload(64, records)).expectRefusal(EXIT.digest, pattern, "--verify");
    }
    const good = sumsOf({ a: "right" });
    for (const sums of [good, `${good.slice(0, 63)}g  a`, good.replace("a\n", "ab\n"), "\n\n x"]) {
      const image = rawPayload(64, [{ name: "SHA256SUMS", data: sums }, {
        name: "a",
        data: "wrong",
      }]);
      const bench = Bench.with(variant, image);
      const ran = bench.run("--verify");
      expect(ran.code).toBe(EXIT.digest);
      expect(ran.stderr).toMatch(/: a: at byte \d+: (has no line in|the file does not have its)/);
      expect(readdirSync(bench.dest)).toEqual(["SHA256SUMS"]);
    }
  });

  test("probes a device", () => {
    const bench = Bench.with(variant, rawPayload(32, [{ name: "a" }]));
    expect(bench.program("--probe", bench.image)).toEqual({
      code: EXIT.done,
      stdout: `payload-import: ${bench.image}: payload, layout 32, 1 files\n`,
      stderr: "",
    });
    writeFileSync(bench.image, Buffer.alloc(MIB));
    expect(bench.program("--probe", bench.image).code).toBe(EXIT.none);
    expect(bench.program("--probe", join(bench.dir, "none")).code).toBe(EXIT.read);
  });

  test("says what it cannot read", () => {
    const bench = new Bench(variant);
    mkdirSync(bench.image);
    bench.expectRefusal(EXIT.read, /: cannot read it: error 21/);
    if (!existsSync("/proc/self/mem")) return;
    expect(bench.program("--device", "/proc/self/mem", bench.dest)).toMatchObject({
      code: EXIT.read,
      stderr: "payload-import: /proc/self/mem: cannot read it: error 5, input/output error\n",
    });
  });

  test("says what it cannot write, and removes it", () => {
    const bench = Bench.with(variant, rawPayload(64, [{ name: "a", data: "x" }]));
    mkdirSync(join(bench.dest, "a"));
    expect(bench.run()).toMatchObject({
      code: EXIT.write,
      stderr: `payload-import: ${bench.image}: a: at byte 34: cannot rename the file: error 21\n`,
    });
    expect(readdirSync(bench.dest)).toEqual(["a"]);
    const gone = bench.program("--device", bench.image, join(bench.dir, "gone"));
    expect(gone.code).toBe(EXIT.write);
    expect(gone.stderr).toContain(`gone/${PART}: cannot make the file: error 2, no such file`);
    const long = rawPayload(64, [{ name: "x".repeat(256), data: "x" }]);
    const other = Bench.with(variant, long);
    other.expectRefusal(EXIT.write, /: cannot rename the file: error 36, name too long/);
  });

  test("shows its usage", () => {
    const bench = Bench.with(variant, rawPayload(64, []));
    for (
      const args of [
        [],
        ["--what", "dest"],
        ["--device"],
        ["--probe"],
        ["--probe", "a", "b"],
        ["a", "b"],
        ["--list", "a", "--list", "b", "dest"],
        [""],
      ]
    ) {
      const { code, stdout, stderr } = bench.program(...args);
      expect({ code, stdout }).toEqual({ code: EXIT.usage, stdout: "" });
      expect(stderr).toStartWith("usage: payload-import");
    }
    expect(bench.program("x".repeat(2049)).code).toBe(EXIT.usage);
  });
});

const fast = built[0];
if (fast !== undefined) {
  test("does not take 4 GiB and a little for a little", () => {
    const bench = new Bench(fast);
    const size = 4 * GIB + 5;
    const body = { kind: "file", path: "/nowhere", offsetBytes: 0, sizeBytes: size } as const;
    writeHollow(bench.image, payload([{ name: "a-huge", body }, entry("b-small", "behind it")]));
    writeFileSync(join(bench.dest, "a-huge"), "12345");
    // The shell's limit ends the copy, so that it does not take 4 GiB of the disk.
    const { code, stderr } = runSync([
      "sh",
      "-c",
      'ulimit -f 2048; trap "" XFSZ; exec "$@"',
      "sh",
      fast.program,
      "--device",
      bench.image,
      bench.dest,
    ]);
    expect(code).toBe(EXIT.write);
    expect(stderr).toMatch(/a-huge: at byte \d+: cannot write the file: error 27/);
    expect(contents(bench.dest)).toEqual({ "a-huge": "12345" });
  });

  /** Runs the importer with the system calls on a path failing as told, in strace's words. */
  const withFault = (bench: Bench, path: string, fault: string, ...args: readonly string[]) =>
    runSync([
      ...["strace", "-o", "/dev/null", "-P", path, "-e", `inject=${fault}`],
      ...[fast.program, "--device", bench.image, ...args, bench.dest],
    ]);

  testWith("strace")("says where a device cannot be read", () => {
    const bench = Bench.with(fast, rawPayload(64, [{ name: "a", data: "12345" }]));
    // The magic, the header, the record, the name.
    const ran = withFault(bench, bench.image, "read:error=EIO:when=4");
    expect(ran.stderr).toBe(
      `payload-import: ${bench.image}: file table: at byte 32: ` +
        "cannot read: error 5, input/output error\n",
    );
    expect(ran.code).toBe(EXIT.read);
    expect(readdirSync(bench.dest)).toEqual([]);
  });

  testWith("strace")("refuses a payload that goes on where the kernel cannot seek", () => {
    const bench = Bench.with(fast, rawPayload(64, [{ name: "a", data: "12345" }]));
    // To the end and back, to the first record.
    const ran = withFault(bench, bench.image, "?lseek,?_llseek:error=EINVAL:when=3");
    expect(ran.stderr).toBe(
      `payload-import: ${bench.image}: file table: at byte 16: ` +
        "the next file lies where this kernel cannot read\n",
    );
    expect(ran.code).toBe(EXIT.format);
  });

  testWith("strace")("says what cannot be synced, and removes it", () => {
    const bench = Bench.with(fast, rawPayload(64, [{ name: "a", data: "12345" }]));
    const ran = withFault(bench, join(bench.dest, PART), "fsync:error=EIO");
    expect(ran.stderr).toBe(
      `payload-import: ${bench.image}: a: at byte 38: ` +
        "cannot sync the file: error 5, input/output error\n",
    );
    expect(ran.code).toBe(EXIT.write);
    expect(readdirSync(bench.dest)).toEqual([]);
  });

  testWith("strace")("says what cannot be read back", () => {
    const sums = sumsOf({ a: "12345" });
    const bench = Bench.with(
      fast,
      rawPayload(64, [{ name: "SHA256SUMS", data: sums }, { name: "a", data: "12345" }]),
    );
    const kept = join(bench.dest, "a");
    writeFileSync(kept, "12345");
    // Whether it ends where it should is the first read.
    const ran = withFault(bench, kept, "read:error=EIO:when=2", "--verify");
    expect(ran.stderr).toBe(
      `payload-import: ${kept}: cannot read it back: error 5, input/output error\n`,
    );
    expect(ran.code).toBe(EXIT.write);
    expect(readFileSync(kept, "utf8")).toBe("12345");
  });

  testWith("valgrind")("runs clean under valgrind", () => {
    const sums = sumsOf({ a: "right", b: "x".repeat(70000) });
    const image = rawPayload(32, [
      { name: "SHA256SUMS", data: sums },
      { name: "a", data: "right" },
      { name: "b", data: "x".repeat(70000) },
      { name: "c", data: "wrong" },
    ]);
    const bench = Bench.with(fast, image);
    const { code, stderr } = runSync([
      "valgrind",
      "-q",
      "--error-exitcode=99",
      fast.program,
      "--device",
      bench.image,
      "--verify",
      bench.dest,
    ]);
    expect(stderr).toMatch(/^payload-import: .*: c: at byte \d+: has no line in SHA256SUMS\n$/);
    expect(code).toBe(EXIT.digest);
  }, 30_000);
}
