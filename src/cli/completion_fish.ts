// SPDX-License-Identifier: MIT
/**
 * The completion for fish, from 3.0 on.
 *
 * @module
 */

import { childrenOf, type CompletedCommand, type WordKind } from "./completion_model.ts";

/** Returns the script that fish reads. */
export function fishCompletion(commands: readonly CompletedCommand[]): string {
  const path = ({ words }: CompletedCommand) => words.join(" ");
  const inner = commands.filter(({ words }) => words.length > 0).map(path);
  return `# fish completion of seedstrap, made by: seedstrap completion fish

# Whether the words so far call this command; with a second argument, whether nothing follows it.
function __seedstrap_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l path
    while set -q words[1]
        set -l next (string join -- ' ' $path $words[1])
        contains -- $next ${inner.map(quote).join(" ")}; or break
        set path $next
        set -e words[1]
    end
    test "$path" = "$argv[1]"; or return
    not set -q argv[2]; or not set -q words[1]
end

complete -c seedstrap -f
${
    commands.flatMap((command) => {
      const at = quote(`__seedstrap_at ${quote(path(command))}`);
      const first = quote(`__seedstrap_at ${quote(path(command))} first`);
      return [
        ...childrenOf(commands, command).map(({ name, text }) =>
          `complete -c seedstrap -n ${first} -a ${name} -d ${quote(text)}`
        ),
        ...command.options.map(({ names, text, value }) =>
          [
            `complete -c seedstrap -n ${at}`,
            ...names.map(nameWords),
            ...value === undefined ? [] : [takes(value)],
            `-d ${quote(text)}`,
          ].join(" ")
        ),
        ...command.operands.filter(({ kind }) => kind !== "text").map((operand) =>
          `complete -c seedstrap -n ${at} ${given(operand)}`
        ),
      ];
    }).join("\n")
  }
`;
}

/** `-bw` is neither a short option of fish nor a long one. */
function nameWords(name: string): string {
  if (name.startsWith("--")) return `-l ${name.slice(2)}`;
  return `${name.length === 2 ? "-s" : "-o"} ${name.slice(1)}`;
}

/** What follows an option. */
function takes(value: WordKind): string {
  return value.kind === "file" ? "-r -F" : value.kind === "text" ? "-x" : `-x ${given(value)}`;
}

function given(value: WordKind): string {
  switch (value.kind) {
    case "choice":
      return `-a ${quote(value.choices.join(" "))}`;
    case "directory":
      return "-a '(__fish_complete_directories)'";
    default:
      return "-F";
  }
}

function quote(text: string): string {
  return `'${text.replaceAll(/['\\]/g, "\\$&")}'`;
}
