// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { memorySource, WINDOW_BYTES } from "../../src/format/reader.ts";
import { MAX_SRCFS_PATH_BYTES, readSrcfs, srcfs, type SrcfsEntry } from "../../src/format/srcfs.ts";
import { sampleBody } from "../fetch/servers.ts";
import {
  assertBounded,
  bytesOfSegments,
  concat,
  faultOf,
  watchedSource,
} from "../support/sources.ts";

const encoder = new TextEncoder();
const LONGEST = "p".repeat(MAX_SRCFS_PATH_BYTES);

const paths = fc.oneof(
  fc.constantFrom(".", "./High Level Prototypes", "./a b", "./ü", "/x", " ", LONGEST),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }),
).filter((path) => !/[\0\n]/.test(path) && path === path.toWellFormed());
const bodies = fc.option(
  fc.tuple(
    fc.oneof(
      fc.constantFrom(0, 1, 511, 512, 513, WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 1),
      fc.nat(3000),
    ),
    fc.integer({ min: 1, max: 255 }),
  ),
  { nil: undefined },
);
const entries = fc.array(
  fc.tuple(paths, bodies).map(([path, body]): SrcfsEntry =>
    body === undefined
      ? { path }
      : { path, body: { kind: "bytes", bytes: sampleBody(body[0], body[1]) } }
  ),
  { maxLength: 15 },
);
const commands = fc.array(
  fc.string({ unit: fc.constantFrom(..."abcxyz/ .-0189"), minLength: 1, maxLength: 60 })
    .filter((text) => !text.startsWith("src ")),
  { maxLength: 5 },
);

test("readSrcfs() returns what was written, at any start offset", () =>
  fc.assert(
    fc.property(
      entries,
      commands,
      fc.nat(WINDOW_BYTES),
      fc.boolean(),
      (list, lines, start, end) => {
        const image = concat([
          sampleBody(start),
          bytesOfSegments(srcfs(list, lines)),
          new Uint8Array(end ? 0 : 700),
        ]);
        const source = watchedSource(image);
        const records = [...readSrcfs(source, start)];
        expect(records.at(-1)).toEqual({
          kind: "end",
          offsetBytes: image.length - (end ? 0 : 700),
        });
        const files = records.flatMap((record) => record.kind === "entry" ? [record] : []);
        expect(files.map(({ path }) => path)).toEqual(list.map(({ path }) => path));
        files.forEach(({ sizeBytes, dataOffsetBytes }, i) => {
          const body = list[i]!.body;
          const wanted = body?.kind === "bytes" ? body.bytes : new Uint8Array();
          const got = image.subarray(dataOffsetBytes, dataOffsetBytes + sizeBytes);
          expect(Buffer.from(got).equals(wanted)).toBe(true);
        });
        expect(records.flatMap((record) => record.kind === "command" ? [record.text] : []))
          .toEqual(lines);
        assertBounded(source, 1 + list.length);
      },
    ),
  ));

const KNOWN = "src 0 .\nsrc 5 ./a b\nhello" + "src 0 ./d\nsrc 1 ./d/x\n\nhex0 /a /b\n";

test("srcfs() makes the expected bytes", () => {
  const body = (text: string) => ({ kind: "bytes", bytes: encoder.encode(text) }) as const;
  const segments = srcfs([
    { path: "." },
    { path: "./a b", body: body("hello") },
    { path: "./d", body: body("") },
    { path: "./d/x", body: body("\n") },
  ], ["hex0 /a /b"]);
  expect(new TextDecoder().decode(bytesOfSegments(segments))).toBe(KNOWN);
});

test("readSrcfs() reads bytes that were written by hand", () => {
  expect([...readSrcfs(memorySource(encoder.encode(KNOWN)), 0)]).toEqual([
    { kind: "entry", path: ".", sizeBytes: 0, offsetBytes: 0, dataOffsetBytes: 8 },
    { kind: "entry", path: "./a b", sizeBytes: 5, offsetBytes: 8, dataOffsetBytes: 20 },
    { kind: "entry", path: "./d", sizeBytes: 0, offsetBytes: 25, dataOffsetBytes: 35 },
    { kind: "entry", path: "./d/x", sizeBytes: 1, offsetBytes: 35, dataOffsetBytes: 47 },
    { kind: "command", text: "hex0 /a /b", offsetBytes: 48 },
    { kind: "end", offsetBytes: 59 },
  ]);
});

test("srcfs() opens no file: that of a body need not exist", () => {
  const body = { kind: "file", path: "/nowhere", offsetBytes: 3, sizeBytes: 2 ** 40 } as const;
  expect(srcfs([{ path: "x", body }], [])[1]).toBe(body);
});

test("srcfs() accepts a path of 1,023 bytes and refuses paths that builder-hex0 cannot store", () => {
  expect(srcfs([{ path: "ä".repeat(511) + "x" }], [])).toHaveLength(1);
  for (const path of ["", "x".repeat(1024), "ä".repeat(512), "a\nb", "a\0b", "\udc00"]) {
    expect(faultOf(() => srcfs([{ path }], []))).toStartWith("Cannot put ");
  }
  for (const command of ["", "a\nb", "src 0 x", "ä", "a\tb"]) {
    expect(faultOf(() => srcfs([], [command]))).toEndWith("into a srcfs as a command | ");
  }
});

test.each([
  ["no newline at the end", "src 0 .\nhex0 /a", "no newline within 7 bytes of a command", 8],
  ["a line that is too long", `src 0 .\nsrc 1 ${"x".repeat(3000)}\n`, "no newline within 1045", 8],
  ["a line that is not UTF-8", "src 0 .\nsrc 0 \xc3(\n", "a command is not valid UTF-8", 8],
  ["control characters", "src 0 .\nhex0 \x1b[31m\n", "neither a src record nor a shell", 8],
  ["a byte order mark", "src 0 .\n\xef\xbb\xbfsrc 0 a\n", "neither a src record nor a", 8],
  ["an empty line", "src 0 .\n\n", "neither a src record nor a shell", 8],
  ["a size that is not a number", "src x ./a\n", 'not a src record: "src x ./a"', 0],
  ["a size with a sign", "src -1 ./a\n", "not a src record", 0],
  ["a size with a leading zero", "src 01 ./a\n", "not a src record", 0],
  ["a size in hex", "src 0x1 ./a\n", "not a src record", 0],
  ["a size of 17 digits", "src 10000000000000000 ./a\n", "not a src record", 0],
  ["a record without a path", "src 1 \nx", "not a src record", 0],
  ["a path with a NUL", "src 1 a\0b\nx", "not a src record", 0],
  ["a path too long", `src 0 .\nsrc 0 ${"x".repeat(1024)}\n`, "a path is longer than 1023", 8],
  ["a size past the end", "src 0 .\nsrc 9 ./a\n12345678", "claims 9 bytes, but only 8 are", 8],
  ["a huge size", "src 9999999999999999 ./a\n", "claims 10000000000000000 bytes", 0],
])("readSrcfs() detects %s and names its offset", (_, text, message, offset) => {
  const bytes = Buffer.from(text, "latin1");
  const source = watchedSource(concat([new Uint8Array(100), bytes]));
  const fault = faultOf(() => [...readSrcfs(source, 100)]);
  expect(fault).toContain(message);
  expect(fault).toEndWith(`| image, offset ${100 + offset}`);
  assertBounded(source, 2);
});
