// SPDX-License-Identifier: MIT
/**
 * The layout of a treemap: rectangles whose areas are in the proportion of sizes, and as near to
 * squares as can be (Bruls, Huizing, van Wijk: Squarified Treemaps, 2000). Pure.
 *
 * @module
 */

/** A rectangle, in any unit. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/**
 * Lays out sizes in a rectangle, the largest at the top left.
 *
 * @param sizes In descending order, none negative.
 * @returns A rectangle for each, in the same order. They fill the whole one and do not overlap; one
 * of size 0 has no area.
 */
export function squarify(sizes: readonly number[], whole: Box): Box[] {
  const sum = sizes.reduce((total, size) => total + size, 0);
  if (sum === 0) return sizes.map(() => ({ ...whole, width: 0, height: 0 }));
  const scale = whole.width * whole.height / sum;
  const areas = sizes.map((size) => size * scale);
  const boxes: Box[] = [];
  let rest = whole;
  for (let first = 0; first < areas.length;) {
    const side = Math.min(rest.width, rest.height);
    let end = first + 1;
    let rowArea = areas[first]!;
    while (end < areas.length) {
      const longer = rowArea + areas[end]!;
      const before = worstAspect(areas[first]!, areas[end - 1]!, rowArea, side);
      if (worstAspect(areas[first]!, areas[end]!, longer, side) > before) break;
      rowArea = longer;
      end++;
    }
    const row = areas.slice(first, end);
    boxes.push(...inRow(row, rowArea, rest));
    rest = withoutRow(rowArea, rest, end === areas.length);
    first = end;
  }
  return boxes;
}

/** The longest shape of a row along a side, by its largest and its smallest area. */
function worstAspect(largest: number, smallest: number, row: number, side: number): number {
  const [side2, row2] = [side * side, row * row];
  return Math.max(side2 * largest / row2, row2 / (side2 * smallest));
}

/** Lays a row along the shorter side. */
function inRow(areas: readonly number[], rowArea: number, rest: Box): Box[] {
  const isWide = rest.width >= rest.height;
  const thickness = quotient(rowArea, isWide ? rest.height : rest.width);
  let done = 0;
  return areas.map((area) => {
    const length = quotient(area, thickness);
    const box = isWide
      ? { x: rest.x, y: rest.y + done, width: thickness, height: length }
      : { x: rest.x + done, y: rest.y, width: length, height: thickness };
    done += length;
    return box;
  });
}

function withoutRow(rowArea: number, rest: Box, isLast: boolean): Box {
  const { x, y, width, height } = rest;
  if (width >= height) {
    const taken = isLast ? width : Math.min(width, quotient(rowArea, height));
    return { x: x + taken, y, width: width - taken, height };
  }
  const taken = isLast ? height : Math.min(height, quotient(rowArea, width));
  return { x, y: y + taken, width, height: height - taken };
}

/** Without area there is nothing to divide: what is left over is 0. */
function quotient(area: number, length: number): number {
  return length === 0 ? 0 : area / length;
}
