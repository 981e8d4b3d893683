// SPDX-License-Identifier: MIT
/**
 * `seedstrap completion`: prints what makes a shell complete the words of seedstrap. It is made from
 * the declarations of the commands, as their help is.
 */

import { Argument, Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import { bashCompletion } from "./completion_bash.ts";
import { fishCompletion } from "./completion_fish.ts";
import { completedCommands } from "./completion_model.ts";
import { zshCompletion } from "./completion_zsh.ts";
import { writeOut } from "./output.ts";

const SCRIPTS = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
} as const;

export function completionSubcommand(): CommandUnknownOpts {
  const shells = ["bash", "zsh", "fish"] as const;
  return new Command("completion")
    .summary("print the completion for a shell: bash, zsh or fish")
    .description("print what makes a shell complete the words of seedstrap")
    .addArgument(new Argument("<shell>", "the shell").choices(shells))
    .allowExcessArguments(false)
    .addHelpText(
      "after",
      `
Where it goes, so that the shell finds it:
  bash  seedstrap completion bash > ~/.local/share/bash-completion/completions/seedstrap
        or in ~/.bashrc: eval "$(seedstrap completion bash)"
  zsh   seedstrap completion zsh > _seedstrap, in a directory of fpath
        or in ~/.zshrc after compinit: eval "$(seedstrap completion zsh)"
  fish  seedstrap completion fish > ~/.config/fish/completions/seedstrap.fish`,
    )
    .action((shell, _, command) => {
      writeOut(process.stdout, SCRIPTS[shell](completedCommands(command.parent!)));
    });
}
