// SPDX-License-Identifier: MIT
/**
 * What a run is asked for, and what it tells.
 *
 * @module
 */

import type { FollowEvents } from "../console/follow.ts";
import type { Outcome } from "../console/outcome.ts";
import type { RunningChild } from "../launch/process.ts";
import type { QemuOptions } from "../launch/qemu.ts";
import type { Checkpoint } from "../record/checkpoints.ts";
import type { Starter } from "../record/events.ts";
import type { ExpectedRun } from "../record/expected.ts";
import type { RunFiles } from "../record/run.ts";
import type { TargetRecord } from "../record/types.ts";
import type { CheckpointTimes, ResumeRequest } from "./checkpoint.ts";
import type { FoundPass, KeptRun } from "./container_pass.ts";
import type { NamedByUser } from "./named.ts";
import type { SavedCheckpoint } from "./saver.ts";

export type AccelChoice = QemuOptions["accel"];

/** What to run. */
export interface RunRequest {
  /** Directory that was built. */
  readonly target: string;
  readonly accel: AccelChoice;
  /** Arguments that QEMU gets after all others, as the user gives them; no record has any. */
  readonly extraArgs?: readonly string[];
  /**
   * What of this machine the run may use, as the user names it; undefined where the target was
   * built a moment ago from the user's own options.
   */
  readonly named: NamedByUser | undefined;
  /** Age in milliseconds from which on a run is interrupted by a second key only; 10 min if absent. */
  readonly confirmAfterMs?: number;
  /** The guest is ended when its console is silent for so long, in milliseconds; never if absent. */
  readonly stallMs?: number | undefined;
  /** When the guest is saved; never if absent, and only under QEMU. */
  readonly checkpoints?: CheckpointTimes | undefined;
  /** Whether it goes on without a terminal. */
  readonly isDetached?: boolean;
  /** Goes on from a checkpoint, and not from the beginning. */
  readonly resume?: ResumeRequest | undefined;
}

/** How a guest starts. */
export interface RunStart {
  /** The accelerator of QEMU, or what starts a directory. */
  readonly by: Starter;
  readonly logPath: string;
  /** Number of the run of the target. */
  readonly run: number;
  /** Whether the terminal is the guest's, Ctrl-C included. */
  readonly isInteractive: boolean;
  /** Whether it starts again under TCG where KVM cannot run it. */
  readonly fallsBack?: boolean;
}

/** Told what happens in a run. */
export interface RunEvents extends FollowEvents {
  /** Called before the guest starts, once for each mirror directory that it downloads from. */
  readonly onServe?: (path: string, port: number) => void;
  /** Told once, before the guest starts. */
  readonly onStart?: (start: RunStart) => void;
  /** What the guest prints on its console, as it comes. */
  readonly onSerial?: (chunk: Uint8Array) => void;
  /** Told when the guest's process has started, again where it is started again. */
  readonly onProcess?: (guest: RunningChild) => void;
  /**
   * Told when the guest runs, again where it is started again: QEMU says so, or it has printed
   * something; the first process of a directory is there.
   */
  readonly onReady?: () => void;
  /** Keys that are typed while the guest runs and does not have the terminal for itself. */
  readonly onKeys?: (keys: Uint8Array) => void;
  readonly onWarning?: (text: string) => void;
  /** Told what the guest goes on from, before it starts. */
  readonly onResume?: (from: Checkpoint) => void;
  /** Told each time that a checkpoint was saved. */
  readonly onCheckpoint?: (saved: SavedCheckpoint) => void;
  /** Told once, when it is over, also where it failed. */
  readonly onOutcome?: (outcome: Outcome, logPath: string) => void;
}

/** A run on its way. */
export interface Run {
  readonly record: TargetRecord;
  readonly command: readonly string[];
  /** The target, absolute. */
  readonly dir: string;
  readonly files: RunFiles;
  readonly expected: ExpectedRun;
  readonly from: Checkpoint | undefined;
  /** The container that a later pass goes on in; undefined for all else. */
  readonly pass: FoundPass | undefined;
}

/** Told also what concerns the record of a run, and what only QEMU or a container tells. */
export type GuestEvents =
  & RunEvents
  & {
    /** Told where a container has the package of the last step. */
    readonly onPackaged: () => void;
    /** Told which container stays, where the bootstrap in it has ended with exit code 0. */
    readonly onKept: (kept: KeptRun) => void;
  }
  & Required<Pick<QemuOptions, "onRestart" | "onLogged" | "onReset">>;
