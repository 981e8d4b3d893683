// SPDX-License-Identifier: MIT
/**
 * The limits of the machine, drawn: what the plan uses, what the steps add by estimate, and where
 * the limit is.
 *
 * @module
 */

import {
  formatAmount,
  isFloor,
  type Limit,
  limitFigures,
  type LimitState,
  limitState,
} from "../plan/limits.ts";
import { counted } from "../text.ts";
import { type Html, markup } from "./html.ts";
import type { Placement } from "./places.ts";
import { badge, share, type Tone } from "./words.ts";

const TONES: Readonly<Record<LimitState, Tone>> = {
  ok: "good",
  near: "warn",
  unknown: "plain",
  broken: "bad",
};

/** Draws limits, those that are broken or near first. */
export function limitsOf(limits: readonly Limit[], places: Placement): Html {
  const order: readonly LimitState[] = ["broken", "near", "unknown", "ok"];
  const sorted = limits.toSorted((a, b) =>
    order.indexOf(limitState(a)) - order.indexOf(limitState(b)) || part(b) - part(a)
  );
  return markup`<ul class="limits">${sorted.map((limit) => gauge(limit, places))}</ul>`;
}

/** What the limits come to, in a few words. */
export function limitsNote(limits: readonly Limit[]): string {
  const count = (state: LimitState) => limits.filter((limit) => limitState(limit) === state).length;
  const states = (["broken", "near", "unknown"] as const).filter((state) => count(state) > 0);
  if (states.length === 0) return `all ${limits.length} hold`;
  return states.map((state) => `${count(state)} ${state}`).join(", ");
}

/** The part of a limit that is used, by estimate; a floor is no limit to come near to. */
function part(limit: Limit): number {
  if (limit.limit === null || isFloor(limit)) return 0;
  return (limit.used + limit.expected) / limit.limit;
}

function gauge(limit: Limit, places: Placement): Html {
  const { title, used, expected, note, contributors, remedy, unit, unknownSizes } = limit;
  const most = limit.limit ?? 0;
  const whole = Math.max(used + expected, most) * 1.02 || 1;
  const bar = (x: number, width: number) =>
    places.put({ x: x / whole, y: 0, width: width / whole, height: 1 });
  const state = limitState(limit);
  const figures = limitFigures(limit);
  const amount = (value: number) => formatAmount(value, unit);
  const estimate = expected > 0 && markup` + about ${amount(expected)}`;
  const of = isFloor(limit) ? "at least" : "of";
  const percent = part(limit) === 0 ? "" : `, ${share(used + expected, most)}`;
  return markup`<li class="${TONES[state]}"><p class="title">${
    badge(TONES[state], state)
  } ${title}</p><p class="figures"><strong>${figures.used}</strong>${estimate} ${of} ${figures.limit}${percent}</p><div class="gauge" aria-hidden="true"><i class="used" id="${
    bar(0, used)
  }"></i>${
    expected > 0 &&
    markup`<i class="expected" id="${bar(used, expected)}"></i>`
  }${
    limit.limit !== null &&
    markup`<i class="limit" id="${bar(most, 0)}"></i>`
  }</div>${
    unknownSizes !== undefined &&
    markup`<p class="note">${counted(unknownSizes, "size is", "sizes are")} not known</p>`
  }${
    note !== undefined &&
    markup`<p class="note">${note}</p>`
  }${
    contributors.length > 0 &&
    markup`<details class="folded"><summary>largest parts</summary><table><caption class="unseen">Largest parts of ${title}</caption><thead class="unseen"><tr><th scope="col">Part</th><th scope="col">Amount</th></tr></thead><tbody>${
      contributors.map(({ name, amount: value }) =>
        markup`<tr><td class="name">${name}</td><td class="number">${amount(value)}</td></tr>`
      )
    }</tbody></table></details>`
  }${(limit.broken || limit.near) && markup`<p class="remedy">${remedy}</p>`}</li>`;
}
