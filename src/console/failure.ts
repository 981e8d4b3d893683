// SPDX-License-Identifier: MIT
/**
 * The ways in which a run fails.
 *
 * @module
 */

import type { ErrorKind } from "../errors.ts";

/** How a run failed; the kind of error that it is reported as decides the exit code. */
export const FAILURES = {
  /** A command of a step has failed, or of what runs the steps. */
  step: "step",
  /** The bootstrap has found a wrong checksum. */
  checksum: "checksum",
  /** A kernel has panicked. */
  panic: "crash",
  /** The guest has reset itself, as by a triple fault. */
  reset: "crash",
  /** It came to an end in order, but before the last step was built. */
  "ended-early": "crash",
  /** The console was silent for too long. */
  stall: "stall",
  /** No space is left on a file system of this host that the run needs. */
  "host-disk-full": "host-disk-full",
  /** QEMU, or what else runs the guest, was killed or has failed. */
  died: "died",
  /** KVM cannot run the guest. */
  kvm: "kvm",
  /** Nothing of the bootstrap has run. */
  "not-started": "launch",
} as const satisfies Readonly<Record<string, ErrorKind>>;

/** A key of {@link FAILURES}. */
export type RunFailure = keyof typeof FAILURES;

/** The names of all failures. */
export const FAILURE_NAMES = Object.keys(FAILURES) as RunFailure[];
