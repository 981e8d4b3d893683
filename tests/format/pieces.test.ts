// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { sha256Of } from "../../src/bytes.ts";
import { cutAt, piecesDigest } from "../../src/format/pieces.ts";

const layout = fc.record({
  gaps: fc.array(fc.nat(5), { minLength: 1, maxLength: 12 }),
  sizes: fc.array(fc.nat(5), { maxLength: 11 }),
});

/** Places files after gaps, and returns them with the end of the data. */
function placed({ gaps, sizes }: { gaps: readonly number[]; sizes: readonly number[] }) {
  let at = 0;
  const files = gaps.slice(0, -1).flatMap((gap, index) => {
    const size = sizes[index] ?? 0;
    const file = { offset: at + gap, size };
    at += gap + size;
    return [file];
  });
  return { files, dataBytes: at + gaps.at(-1)! };
}

test("cutAt() covers every byte once and in order, each file whole and as a piece of its own", () => {
  fc.assert(fc.property(layout, (made) => {
    const { files, dataBytes } = placed(made);
    const pieces = [...cutAt(files, dataBytes)];
    let at = 0;
    for (const { offset, size, file } of pieces) {
      expect(offset).toBe(at);
      expect(size).toBeGreaterThan(0);
      if (file !== undefined) expect({ offset, size }).toEqual(file);
      at += size;
    }
    expect(at).toBe(dataBytes);
    expect(pieces.flatMap(({ file }) => file ?? [])).toEqual(files.filter(({ size }) => size > 0));
    const runs = pieces.map(({ file }) => file === undefined);
    expect(runs.some((isRun, index) => isRun && runs[index + 1] === true)).toBe(false);
  }));
});

test("piecesDigest() is of the sizes and digests, one line each", () => {
  const one = sha256Of("one");
  const two = sha256Of("two");
  const digest = piecesDigest([{ sizeBytes: 3, sha256: one }, { sizeBytes: 10, sha256: two }]);
  expect(digest).toBe(sha256Of(`3 ${one}\n10 ${two}\n`));
  expect(piecesDigest([])).toBe(sha256Of(""));
});

test("piecesDigest() changes with each byte of an image, and where a file begins", () => {
  fc.assert(fc.property(layout, fc.nat(), (made, where) => {
    const { files, dataBytes } = placed(made);
    fc.pre(dataBytes > 0);
    const image = new Uint8Array(dataBytes).map((_, at) => at % 7);
    const digestOf = (bytes: Uint8Array) =>
      piecesDigest(
        [...cutAt(files, dataBytes)].map(({ offset, size }) => ({
          sizeBytes: size,
          sha256: sha256Of(bytes.subarray(offset, offset + size)),
        })),
      );
    const changed = image.slice();
    changed[where % dataBytes]! ^= 1;
    expect(digestOf(changed)).not.toBe(digestOf(image));
  }));
});
