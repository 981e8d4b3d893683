// SPDX-License-Identifier: MIT
/**
 * Keeps the times of a run beside its log.
 *
 * @module
 */

import { arch, cpus, totalmem } from "node:os";
import type { ConsoleEvent } from "../console/events.ts";
import type { Outcome } from "../console/outcome.ts";
import type { RunPlan } from "../console/position.ts";
import type { PartTimes } from "../console/remaining.ts";
import { MIB } from "../format/segment.ts";
import { type BuildOptions, usesRunningKernel } from "../plan/options.ts";
import { eventsHeader, EventsWriter, type Machine, type Starter } from "../record/events.ts";
import { earlierTimes } from "../record/history.ts";
import type { RunFiles } from "../record/run.ts";

/** A run that is recorded. */
interface Recording {
  /** The target, absolute. */
  readonly dir: string;
  readonly options: BuildOptions;
  readonly files: RunFiles;
  readonly plan: RunPlan;
}

/** Records when what happened in a run, and knows of earlier ones. */
export class RunRecorder {
  readonly #run: Recording;
  readonly #onProblem: (text: string) => void;
  readonly #machine: Machine;
  #writer: EventsWriter | undefined;
  #beganMs = 0;

  /** @param onProblem Takes the one message about a record that cannot be written. */
  constructor(run: Recording, onProblem: (text: string) => void) {
    const { options } = run;
    const isHost = usesRunningKernel(options.mode);
    this.#run = run;
    this.#onProblem = onProblem;
    this.#machine = {
      cpu: cpus()[0]?.model ?? arch(),
      cores: options.cores,
      memoryMib: isHost ? Math.floor(totalmem() / MIB) : options.qemuRamMib,
    };
  }

  /** The guest starts. Returns the times of earlier runs like this one. */
  begin(by: Starter): readonly PartTimes[] {
    const { files, plan } = this.#run;
    const header = eventsHeader(new Date(), by, this.#machine, plan);
    const earlier = this.#earlier(by);
    this.#beganMs = performance.now();
    this.#writer = new EventsWriter(files, header, this.#onProblem);
    return earlier;
  }

  /** It starts again from its beginning; likewise. */
  restart(by: Starter): readonly PartTimes[] {
    this.#writer?.event(this.#ms, { kind: "restart", by });
    return this.#earlier(by);
  }

  /** The console has said something. */
  event(event: ConsoleEvent): void {
    this.#writer?.event(this.#ms, event);
  }

  /** The log has so many bytes. */
  logged(sizeBytes: number): void {
    this.#writer?.logged(this.#ms, sizeBytes);
  }

  /** It is over. */
  end(outcome: Pick<Outcome, "verdict" | "why">): void {
    this.#writer?.end(this.#ms, outcome);
  }

  get #ms(): number {
    return performance.now() - this.#beganMs;
  }

  #earlier(by: Starter): readonly PartTimes[] {
    const { dir, plan } = this.#run;
    return earlierTimes(dir, plan, { by, machine: this.#machine });
  }
}
