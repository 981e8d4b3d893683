// SPDX-License-Identifier: MIT
/** `seedstrap image digest`: the SHA-256 of whole files. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { formatSums } from "../format/sums.ts";
import { digestEach } from "../hash/pool.ts";
import { runsTask } from "../image/digests.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { openRegular } from "../read.ts";
import { printJsonList } from "./json.ts";
import { printExact } from "./output.ts";
import { withProgress } from "./progress.ts";

export function digestSubcommand(): CommandUnknownOpts {
  return new Command("digest")
    .description("print the SHA-256 of whole images, as sha256sum does")
    .argument("<image...>", "images, bundles, or any other files")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
Builds and image verify need it not: they hash the pieces of an image, on every core. A whole file
takes one core; several files are hashed at once.`,
    )
    .action((paths, { json }) =>
      withInterrupt(async (signal) => {
        const files = await withProgress(async (progress) => {
          const tasks = paths.map((path) => runsTask(path, path, [wholeFile(path)]));
          const total = tasks.reduce((sum, { segment }) => sum + segment.sizeBytes, 0);
          progress.begin("reading", total);
          const onBytes = (bytes: number) => progress.add(bytes);
          const digests = await Array.fromAsync(digestEach(tasks, { onBytes, signal }));
          return paths.map((path, index) => ({ path, sha256: digests[index]! }));
        });
        if (json) await printJsonList("digests", files);
        else for (const file of files) printExact(formatSums([file]).trimEnd());
      })
    );
}

function wholeFile(path: string): {
  readonly path: string;
  readonly offsetBytes: 0;
  readonly sizeBytes: number;
} {
  const { stat, close } = openRegular(path);
  close();
  return { path, offsetBytes: 0, sizeBytes: stat.size };
}
