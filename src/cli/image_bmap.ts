// SPDX-License-Identifier: MIT
/** `seedstrap image bmap`: makes the block map of an image. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { UserError } from "../errors.ts";
import { BMAP_SUFFIX } from "../format/bmap.ts";
import { textSegment } from "../format/segment.ts";
import { makeBmap } from "../image/bmap.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { openSource } from "../source/open.ts";
import { checkOutput, writeOutputParts } from "../write/output_parts.ts";
import { print } from "./output.ts";
import { withProgress } from "./progress.ts";

export function bmapSubcommand(): CommandUnknownOpts {
  return new Command("bmap")
    .description("make the block map of an image, for seedstrap write and bmaptool")
    .argument("<image>", "any file")
    .option("-o, --output <file>", "a new file (default: IMAGE.bmap, where both look for it)")
    .addHelpText(
      "after",
      `
A block map lists the parts of an image that are not zeros, with a SHA-256 each. It depends on the
content of the image only.

Example:
  seedstrap image bmap disk.img && bmaptool copy disk.img /dev/sdb`,
    )
    .action((path, { output: named }) =>
      withInterrupt(async (signal) => {
        const output = named ?? `${path}${BMAP_SUFFIX}`;
        const source = openSource(path);
        try {
          if (source.isDevice && named === undefined) {
            throw new UserError(
              "usage",
              `Cannot write a block map beside ${path}: it is a device`,
              {
                where: path,
                hint: "Name a file with --output",
              },
            );
          }
          checkOutput(output);
          const text = await withProgress((progress) => {
            progress.begin(`making ${output}`, source.sizeBytes);
            return makeBmap(source, { progress, signal });
          });
          await writeOutputParts(output, [textSegment(text)], undefined, { signal });
        } finally {
          source.close();
        }
        print(output);
      })
    );
}
