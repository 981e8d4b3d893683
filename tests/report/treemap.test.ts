// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { type Box, squarify } from "../../src/report/treemap.ts";

const side = fc.integer({ min: 1, max: 2000 });
const sizes = fc.array(fc.oneof(fc.nat(), fc.integer({ min: 0, max: 3 })), { maxLength: 200 })
  .map((some) => some.sort((a, b) => b - a));

test("squarify() fills the whole with areas in the proportion of the sizes, none over another", () => {
  fc.assert(fc.property(sizes, side, side, (sizes, width, height) => {
    const whole = { x: 3, y: -7, width, height };
    const boxes = squarify(sizes, whole);
    expect(boxes.length).toBe(sizes.length);
    const sum = sizes.reduce((a, b) => a + b, 0);
    const near = (a: number, b: number) => expect(Math.abs(a - b)).toBeLessThan(1e-6 * area(whole));
    boxes.forEach((box, index) => {
      near(area(box), sum === 0 ? 0 : area(whole) * sizes[index]! / sum);
      for (const part of Object.values(box)) expect(part).toBeFinite();
      expect(box.width).toBeGreaterThanOrEqual(0);
      expect(box.height).toBeGreaterThanOrEqual(0);
      near(common(box, whole), area(box));
    });
    for (const [index, box] of boxes.slice(0, 40).entries()) {
      for (const other of boxes.slice(index + 1, 40)) near(common(box, other), 0);
    }
  }));
});

function area({ width, height }: Box): number {
  return width * height;
}

/** The area that is in both. */
function common(a: Box, b: Box): number {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return Math.max(0, width) * Math.max(0, height);
}

test("squarify() lays out the example of the paper as the paper has it", () => {
  const boxes = squarify([6, 6, 4, 3, 2, 2, 1], { x: 0, y: 0, width: 6, height: 4 });
  const rounded = boxes.map(({ x, y, width, height }) =>
    [x, y, width, height].map((part) => Number(part.toFixed(2)))
  );
  expect(rounded).toEqual([
    [0, 0, 3, 2],
    [0, 2, 3, 2],
    [3, 0, 1.71, 2.33],
    [4.71, 0, 1.29, 2.33],
    [3, 2.33, 1.2, 1.67],
    [4.2, 2.33, 1.2, 1.67],
    [5.4, 2.33, 0.6, 1.67],
  ]);
});
