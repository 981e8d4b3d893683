// SPDX-License-Identifier: MIT
/** How a run is shown, and in which words. */

import type { RunStart } from "../../job/run_request.ts";

/** How a run is shown. */
export interface ShownRun {
  /** Events and the outcome as lines of JSON. */
  readonly json?: boolean | undefined;
  /** Without what the guest prints. */
  readonly quiet?: boolean | undefined;
}

/** What starts a guest. */
export const STARTED: Readonly<Record<RunStart["by"], string>> = {
  kvm: "in QEMU with KVM",
  hvf: "in QEMU with HVF",
  tcg: "in QEMU under TCG, without KVM",
  chroot: "by chroot",
  bwrap: "by bwrap",
  podman: "in a container of podman",
  docker: "in a container of docker",
};
