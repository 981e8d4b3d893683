// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Buffer } from "node:buffer";
import {
  payload,
  payloadEnds,
  type PayloadEntry,
  type PayloadLayout,
  readPayload,
  readPayloadHeader,
} from "../../src/format/payload.ts";
import { memorySource, WINDOW_BYTES } from "../../src/format/reader.ts";
import { MIB } from "../../src/format/segment.ts";
import { sampleBody } from "../fetch/servers.ts";
import { assertBounded, bytesOfSegments, faultOf, watchedSource } from "../support/sources.ts";

const encoder = new TextEncoder();
const utf8Bytes = (text: string) => encoder.encode(text).length;

const names = fc.oneof(
  fc.constantFrom("a b.tar", "ü.tar", "\u{1F4BE}", " ", "...", "x".repeat(1024), "ä".repeat(512)),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }),
).filter((name) =>
  !/[/\\\0]/.test(name) && name !== "." && name !== ".." && name === name.toWellFormed() &&
  utf8Bytes(name) <= 1024
);
const sizes = fc.oneof(
  fc.constantFrom(0, 1, 511, 512, 513, WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 1),
  fc.nat(2000),
);
const layouts = fc.constantFrom<PayloadLayout[]>(64, 32);
const files = fc.uniqueArray(fc.record({ name: names, size: sizes }), {
  selector: ({ name }) => name,
  maxLength: 12,
});

const file = (name: string, bytes: Uint8Array): PayloadEntry => ({
  name,
  body: { kind: "bytes", bytes },
});

test("readPayload() returns what was written, in both layouts", () =>
  fc.assert(
    fc.property(files, layouts, (files, layout) => {
      const bodies = new Map(files.map(({ name, size }, i) => [name, sampleBody(size, i + 1)]));
      const image = bytesOfSegments(payload([...bodies].map(([n, b]) => file(n, b)), layout));
      expect(image.length % MIB).toBe(0);
      const source = watchedSource(image);
      const records = [...readPayload(source)];
      const sorted = [...bodies.keys()].sort((a, b) =>
        Buffer.compare(Buffer.from(a), Buffer.from(b))
      );
      expect(records.map(({ name }) => name)).toEqual(sorted);
      for (const { name, sizeBytes, dataOffsetBytes } of records) {
        const got = image.subarray(dataOffsetBytes, dataOffsetBytes + sizeBytes);
        expect(Buffer.from(got).equals(bodies.get(name)!)).toBe(true);
      }
      if (files.length > 0) expect(readPayloadHeader(source).layout).toBe(layout);
      assertBounded(source, 2);
    }),
  ));

test("payloadEnds() returns the ends of the files in a payload before it is made", () =>
  fc.assert(
    fc.property(files, layouts, (files, layout) => {
      const bodies = new Map(files.map(({ name, size }) => [name, sampleBody(size, 1)]));
      const image = bytesOfSegments(payload([...bodies].map(([n, b]) => file(n, b)), layout));
      const records = [...readPayload(memorySource(image))];
      const sizes = [...bodies].map(([name, bytes]) => ({ name, sizeBytes: bytes.length }));
      expect([...payloadEnds(sizes, layout)]).toEqual(
        records.map(({ name, sizeBytes, dataOffsetBytes }) => [name, dataOffsetBytes + sizeBytes]),
      );
    }),
  ));

test("payload() makes the same bytes for any order of its entries", () =>
  fc.assert(
    fc.property(
      files.chain((list) =>
        fc.tuple(
          fc.constant(list),
          fc.shuffledSubarray(list, {
            minLength: list.length,
          }),
        )
      ),
      ([a, b]) => {
        const image = (list: typeof a) =>
          bytesOfSegments(payload(list.map(({ name }) => file(name, encoder.encode(name)))));
        expect(Buffer.from(image(a)).equals(image(b))).toBe(true);
      },
    ),
    { numRuns: 30 },
  ));

/** Returns the bytes of hex as printed by `xxd -p`, white space ignored, with zeros up to a MiB. */
function image(hex: string): Uint8Array {
  const bytes = new Uint8Array(MIB);
  bytes.set(Buffer.from(hex.replace(/\s/g, ""), "hex"));
  return bytes;
}

// struct.pack("<8sQ", b"LBPAYLD1", 2) + struct.pack("<QQ", 1, 3) + b"a" + b"abc"
// + struct.pack("<QQ", 2, 0) + "ü".encode()
const KNOWN_64 = `4c425041594c4431 0200000000000000
  0100000000000000 0300000000000000 61 616263
  0200000000000000 0000000000000000 c3bc`;
// struct.pack("<8sI", b"LBPAYLD1", 2) + struct.pack("<II", 1, 3) + b"a" + b"abc"
// + struct.pack("<II", 2, 0) + "ü".encode()
const KNOWN_32 = `4c425041594c4431 02000000 01000000 03000000 61 616263 02000000 00000000 c3bc`;

test("payload() and readPayload() agree with bytes packed by another program", () => {
  for (const [layout, known] of [[64, KNOWN_64], [32, KNOWN_32]] as const) {
    const entries = [file("ü", new Uint8Array()), file("a", encoder.encode("abc"))];
    expect(Buffer.from(bytesOfSegments(payload(entries, layout))).equals(image(known))).toBe(true);
    const offsetBytes = layout === 64 ? 16 : 12;
    const dataOffsetBytes = offsetBytes + layout / 4 + 1;
    expect([...readPayload(memorySource(image(known)))]).toEqual([
      { name: "a", sizeBytes: 3, offsetBytes, dataOffsetBytes },
      {
        name: "ü",
        sizeBytes: 0,
        offsetBytes: dataOffsetBytes + 3,
        dataOffsetBytes: dataOffsetBytes + 5 + layout / 4,
      },
    ]);
  }
});

test("readPayload() reads an empty payload of either layout, and a file right at the end", () => {
  expect([...readPayload(memorySource(bytesOfSegments(payload([]))))]).toEqual([]);
  expect([...readPayload(memorySource(bytesOfSegments(payload([], 32))))]).toEqual([]);
  const whole = Buffer.from(KNOWN_64.replace(/\s/g, ""), "hex");
  expect([...readPayload(memorySource(whole))]).toHaveLength(2);
});

test("payload() refuses names that the format does not allow", () => {
  for (const name of ["", ".", "..", "a/b", "a\\b", "a\0", "\ud800", "x".repeat(1025)]) {
    expect(faultOf(() => payload([file(name, new Uint8Array())]))).toStartWith(
      `Cannot put ${JSON.stringify(name)} into a payload: `,
    );
  }
  expect(faultOf(() => payload([file("a", new Uint8Array()), file("a", new Uint8Array(1))]))).toBe(
    'Cannot put "a" into a payload twice | ',
  );
});

test("payload() refuses a file of 4 GiB in layout 32 and accepts it in layout 64", () => {
  const body = { kind: "file", path: "/nowhere", offsetBytes: 0, sizeBytes: 2 ** 32 } as const;
  expect(faultOf(() => payload([{ name: "a", body }], 32))).toStartWith(
    'Cannot put "a" into a payload of layout 32: it has 4294967296 bytes',
  );
  expect(payload([{ name: "a", body: { ...body, sizeBytes: 2 ** 32 - 1 } }], 32)).toContainEqual({
    ...body,
    sizeBytes: 2 ** 32 - 1,
  });
  expect(payload([{ name: "a", body }])).toContainEqual(body);
});

const LE64 = (value: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes.toString("hex");
};
const HEAD = "4c425041594c4431";
const one = (length: bigint, size: bigint, name: string) =>
  `${HEAD}${LE64(1n)}${LE64(length)}${LE64(size)}${name}`;
const two = (first: string, second: string) =>
  `${HEAD}${LE64(2n)}${LE64(1n)}${LE64(0n)}${first}${LE64(1n)}${LE64(0n)}${second}`;

test.each([
  ["no magic", "4c425041594c4432", "no LBPAYLD1 here", 0],
  ["an empty name", one(0n, 0n, ""), "the name of file 1 of 1 has 0 bytes", 16],
  ["a name too long", one(1025n, 0n, "61".repeat(1025)), "the name of file 1 of 1 has 1025", 16],
  ["a name past 2^53", one(2n ** 63n, 0n, ""), "the name of file 1 of 1 has 9223372", 16],
  ["a name that is not UTF-8", one(2n, 0n, "c328"), "file 1 of 1 is not valid UTF-8", 16],
  ["a name with a slash", one(3n, 0n, "612f62"), 'named "a/b"', 16],
  ["a name with a backslash", one(1n, 0n, "5c"), "must not contain a slash, backslash", 16],
  ["a name with a NUL", one(1n, 0n, "00"), "must not contain a slash", 16],
  ["the name .", one(1n, 0n, "2e"), 'a name must not be "." or ".."', 16],
  ["the name ..", one(2n, 0n, "2e2e"), 'a name must not be "." or ".."', 16],
  ["a repeated name", two("61", "61"), '"a", is repeated or not in order', 33],
  ["names out of order", two("62", "61"), '"a", is repeated or not in order', 33],
  ["a size past the end", one(1n, 2n ** 40n, "61"), '"a" claims 1099511627776 bytes', 16],
  ["a size past 2^53", one(1n, 2n ** 64n - 1n, "61"), '"a" claims 18446744073709552000', 16],
  [
    "a size that is too large by one",
    one(1n, BigInt(MIB - 32), "61"),
    "but only 1048543 are left",
    16,
  ],
  ["too few files", `${HEAD}${LE64(2n)}${LE64(1n)}${LE64(0n)}61`, "file 2 of 2 has 0 bytes", 33],
])("readPayload() detects %s and names its offset", (_, hex, message, offset) => {
  const source = watchedSource(image(hex));
  const fault = faultOf(() => [...readPayload(source)]);
  expect(fault).toContain(message);
  expect(fault).toEndWith(`| image, offset ${offset}`);
  assertBounded(source, 2);
});

test("readPayload() names the offset at which a payload is truncated", () => {
  const whole = Buffer.from(KNOWN_64.replace(/\s/g, ""), "hex");
  for (let length = 0; length < whole.length; length++) {
    const place = length < 8 ? 0 : length < 16 ? 8 : length < 32 ? 16 : length < 33 ? 32 : 0;
    const at = place || (length < 36 ? (length < 8 ? 0 : 16) : length < 52 ? 36 : 52);
    expect(faultOf(() => [...readPayload(memorySource(whole.subarray(0, length)))])).toEndWith(
      `| memory, offset ${at}`,
    );
  }
});

test("readPayload() does not trust the count", () => {
  for (const count of ["0000000000000080", `${"00".repeat(4)}01000000`]) {
    expect(faultOf(() => [...readPayload(memorySource(image(`${HEAD}${count}`)))])).toEndWith(
      "the file count is zero, but a file follows | memory, offset 8",
    );
  }
  const hex = `${HEAD}ffffffff00000000${LE64(1n)}${LE64(0n)}61`;
  const source = watchedSource(image(hex));
  expect(faultOf(() => [...readPayload(source)])).toContain("file 2 of 4294967295 has 0 bytes");
  assertBounded(source, 2);
});
