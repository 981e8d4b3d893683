// SPDX-License-Identifier: MIT
/** `seedstrap --help`: every command in a line, on a screen of 24 rows and 80 columns. */

import type { CommandUnknownOpts, Help } from "@commander-js/extra-typings";

/** Headings of options that several commands have. */
export const GROUPS = {
  place: "Checkout and target:",
  mode: "Where it will start, one of these:",
  distfiles: "Distfiles and payload:",
  bootstrap: "The bootstrap:",
  machine: "QEMU and kernel:",
  /** Commands about the others; they are in the last line. */
  help: "Help:",
} as const;

/** Formats the help of the program; that of a command is commander's. */
export function programHelp(root: CommandUnknownOpts, helper: Help): string {
  const listed = helper.visibleCommands(root).filter((command) =>
    command.helpGroup() !== "" && command.helpGroup() !== GROUPS.help
  );
  const groups = Map.groupBy(listed, (command) => command.helpGroup());
  const width = Math.max(...listed.map((command) => command.name().length));
  return [
    "Usage: seedstrap COMMAND [options]",
    "       seedstrap [options]   build and start in one go, as rootfs.py does",
    ...[...groups].flatMap(([heading, commands]) => [
      heading,
      ...commands.map((command) =>
        `  ${command.name().padEnd(width)}  ${helper.subcommandDescription(command)}`
      ),
    ]),
    "Options: COMMAND --help, seedstrap -q --help. Also: checkpoint, man, completion",
    "",
  ].join("\n");
}
