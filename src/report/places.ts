// SPDX-License-Identifier: MIT
/**
 * Where things lie in the drawings of a report. The policy of the page forbids style attributes, so
 * places are rules of its style sheet.
 *
 * @module
 */

import type { Box } from "./treemap.ts";

/** Collects the places of elements. */
export class Placement {
  readonly #rules: string[] = [];
  readonly #narrow: string[] = [];
  #count = 0;

  /**
   * Gives an element a place.
   *
   * @param box In parts of what is around it, from 0 to 1.
   * @param narrow The same on a narrow screen.
   * @returns The id of the element.
   */
  put(box: Box, narrow?: Box): string {
    const id = `p${++this.#count}`;
    this.#rules.push(rule(id, box));
    if (narrow !== undefined) this.#narrow.push(rule(id, narrow));
    return id;
  }

  /** The style sheet. */
  get css(): string {
    return `${this.#rules.join("")}@media (max-width:40rem){${this.#narrow.join("")}}`;
  }
}

function rule(id: string, { x, y, width, height }: Box): string {
  return `#${id}{left:${percent(x)};top:${percent(y)};` +
    `width:${percent(width)};height:${percent(height)}}`;
}

function percent(part: number): string {
  return `${Number((100 * Math.min(1, Math.max(0, part))).toFixed(3))}%`;
}
