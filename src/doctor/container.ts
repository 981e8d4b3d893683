// SPDX-License-Identifier: MIT
/**
 * Checks that containers can be run here.
 *
 * @module
 */

import { throwIfInterrupted } from "../errors.ts";
import { engineAnswers, findEngine } from "../launch/engine.ts";
import { absent, type Finding, good } from "./check.ts";

/**
 * Asks the engine of this machine for what it is.
 *
 * @throws {UserError} "launch" if there is none; "interrupt"
 */
export async function checkEngine(signal: AbortSignal): Promise<Finding> {
  const engine = await findEngine();
  const answers = await engineAnswers(engine, signal);
  throwIfInterrupted(signal);
  return answers ? good(`${engine.path} answers; no container was started`) : absent(
    `${engine.name} info fails`,
    engine.name === "docker"
      ? "Start its daemon, and be a user who may ask it: docker info says more"
      : "podman info says more",
  );
}
