// SPDX-License-Identifier: MIT
/** `--tree oci://HOST/REPO:TAG`: the bundle is pulled before the command that reads it begins. */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { UserError } from "../errors.ts";
import { pullBundle } from "../job/pull.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { fetchPrinter } from "./fetching.ts";
import { chosenStore } from "./options.ts";
import { display, withProgress } from "./progress.ts";

/**
 * Pulls what `--tree` of a command names, if it is in a registry, and names its file in the store
 * instead.
 *
 * @throws {UserError} As {@link pullBundle}; "usage" with `--offline`.
 */
export async function pullTree(command: CommandUnknownOpts): Promise<void> {
  const options: Readonly<Record<string, unknown>> = command.opts();
  const { tree: url, store, distfiles, plainHttp, offline } = options;
  if (typeof url !== "string" || !url.startsWith("oci:")) return;
  if (offline === true) {
    throw new UserError("usage", "Cannot use --tree oci:// with --offline", {
      hint: "Pull it before, and name the file: seedstrap fetch --tree oci://HOST/REPO:TAG",
    });
  }
  const request = {
    url,
    isPlain: plainHttp === true,
    store: chosenStore({
      store: typeof store === "string" ? store : undefined,
      distfiles: typeof distfiles === "string" ? distfiles : undefined,
    }),
  };
  await withInterrupt(async (signal) => {
    const path = await withProgress(() => pullBundle(request, fetchPrinter(display), signal));
    command.setOptionValue("tree", path);
  });
}
