// SPDX-License-Identifier: MIT
/** `seedstrap man`: prints the manual page, which is embedded in the binary. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import page from "./seedstrap.1" with { type: "text" };

export function manSubcommand(): CommandUnknownOpts {
  return new Command("man")
    .summary("print the manual page: seedstrap man | man -l -")
    .description("print the manual page: seedstrap man | man -l -")
    .allowExcessArguments(false)
    .action(() => {
      process.stdout.write(page);
    });
}
