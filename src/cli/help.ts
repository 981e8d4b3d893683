// SPDX-License-Identifier: MIT
/** `seedstrap --help`: every command, on a screen of 24 rows and 80 columns. */

import type { CommandUnknownOpts, Help } from "@commander-js/extra-typings";

/** Headings of options that several commands have. */
export const GROUPS = {
  place: "Checkout and target:",
  mode: "Where it will start, one of these:",
  distfiles: "Distfiles and payload:",
  bootstrap: "The bootstrap:",
  machine: "QEMU and kernel:",
} as const;

/** A line of the help: commands that belong together, and what they do. */
interface Line {
  readonly commands: readonly string[];
  readonly text: string;
}

/** The lines, under their headings. */
const LINES: Readonly<Record<string, readonly Line[]>> = {
  "Build and start:": [
    { commands: ["plan"], text: "what would be built, and how near to every limit it is" },
    { commands: ["build"], text: "build the media, and start nothing" },
    { commands: ["run", "resume"], text: "start what was built; go on from a checkpoint" },
    { commands: ["ps", "attach", "stop"], text: "runs that go on without a terminal" },
    { commands: ["watch"], text: "follow a machine on its serial line, or a log" },
    { commands: ["demo"], text: "plan, build and boot a miniature tree: a first try" },
  ],
  "Distfiles:": [
    { commands: ["sources", "fetch"], text: "list every distfile; download them" },
    {
      commands: ["store", "mirror", "serve"],
      text: "what was downloaded; make a mirror; serve one",
    },
  ],
  "Look and check:": [
    {
      commands: ["image"],
      text: "ls, cat, extract, verify, digest, diff, bmap, convert",
    },
    { commands: ["preflight"], text: "check whether a machine could carry a bootstrap" },
    { commands: ["doctor"], text: "check whether this machine has what a bootstrap needs" },
  ],
  "Media, and what came of them:": [
    {
      commands: ["devices", "write"],
      text: "list drives; write an image to one, and read it back",
    },
    {
      commands: ["bundle"],
      text: "all for an offline site in a tar: create, verify, unpack",
    },
    {
      commands: ["explain", "report"],
      text: "how a run ended, where and why; a page of HTML of it",
    },
    { commands: ["harvest"], text: "copy the packages that it has built out of its disk" },
    { commands: ["reproduce"], text: "build again what a record says was built, and compare" },
  ],
};

/** Commands that are in the last line. */
const OTHERS: readonly string[] = ["checkpoint", "man", "completion"];

/** Formats the help of the program; that of a command is commander's. */
export function programHelp(root: CommandUnknownOpts, helper: Help): string {
  const there = new Set(helper.visibleCommands(root).map((command) => command.name()));
  const lines = Object.entries(LINES).map(([heading, lines]) => ({
    heading,
    lines: lines.flatMap(({ commands, text }) => {
      const names = commands.filter((name) => there.has(name)).join(", ");
      return names === "" ? [] : [{ names, text }];
    }),
  }));
  const width = Math.max(...lines.flatMap(({ lines }) => lines.map(({ names }) => names.length)));
  return [
    "Usage: seedstrap COMMAND [options]",
    "       seedstrap [options]   build and start in one go, as rootfs.py does",
    ...lines.flatMap(({ heading, lines }) => [
      heading,
      ...lines.map(({ names, text }) => `  ${names.padEnd(width)}  ${text}`),
    ]),
    `Options: COMMAND --help, seedstrap -q --help. Also: ${OTHERS.join(", ")}`,
    "",
  ].join("\n");
}
