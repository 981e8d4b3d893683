// SPDX-License-Identifier: MIT
/**
 * How long the parts of a run took in the earlier runs of a target.
 *
 * @module
 */

import { nextState, type RunPlan, startOfRun, stepNumbers } from "../console/position.ts";
import { PartClock, type PartTimes } from "../console/remaining.ts";
import {
  type Machine,
  manifestDigest,
  readEvents,
  type RecordedEvents,
  type Starter,
} from "./events.ts";
import { eventsPaths } from "./run.ts";

/**
 * Times of the earlier runs that a run can be compared with: of the same steps, with the same
 * accelerator, on the same machine. Runs that failed have times of what they came to.
 *
 * @param dir The target, absolute.
 */
export function earlierTimes(
  dir: string,
  plan: RunPlan,
  { by, machine }: { readonly by: Starter; readonly machine: Machine },
): PartTimes[] {
  if (plan.steps === undefined) return [];
  const manifest = manifestDigest(plan.steps);
  return eventsPaths(dir).flatMap((path) => {
    const run = readEvents(path);
    const isLike = run?.header.manifest === manifest && startedBy(run) === by &&
      run.header.machine.cpu === machine.cpu && run.header.machine.cores === machine.cores;
    return isLike ? [partTimes(run, plan)] : [];
  });
}

/** What started a guest that ran to the end. */
function startedBy({ header, events }: RecordedEvents): Starter {
  return events.findLast((event) => event.kind === "restart")?.by ?? header.by;
}

function partTimes({ events }: RecordedEvents, plan: RunPlan): PartTimes {
  const numbers = stepNumbers(plan);
  let clock = new PartClock();
  let state = startOfRun(plan, 0);
  for (const event of events) {
    if (event.kind === "restart") {
      clock = new PartClock();
      state = startOfRun(plan, event.ms);
    } else if (event.kind === "end") {
      if (event.verdict === "done") clock.end(event.ms);
    } else {
      state = nextState(state, event, { steps: plan.steps, numbers, atMs: event.ms });
      clock.take(state, event.ms);
    }
  }
  return clock.times;
}
