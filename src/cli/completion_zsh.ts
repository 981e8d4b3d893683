// SPDX-License-Identifier: MIT
/**
 * The completion for zsh, by its own _arguments.
 *
 * @module
 */

import {
  childrenOf,
  type CompletedCommand,
  type CompletedOption,
  type WordKind,
} from "./completion_model.ts";

/** Returns the script that zsh reads, as a file of fpath or by eval. */
export function zshCompletion(commands: readonly CompletedCommand[]): string {
  const [root, ...others] = commands as [CompletedCommand, ...CompletedCommand[]];
  const outer = others.filter(({ words }) => words.length === 1);
  return `#compdef seedstrap
# zsh completion of seedstrap, made by: seedstrap completion zsh

_seedstrap() {
  local -a names
  if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
${names(commands, root, 4)}
    return
  fi
  case $words[2] in
${outer.map((command) => branch(commands, command)).join("\n")}
    *)
${args(root, 6)} ;;
  esac
}

if [[ $funcstack[1] == _seedstrap ]]; then
  _seedstrap "$@"
else
  compdef _seedstrap seedstrap
fi
`;
}

function branch(commands: readonly CompletedCommand[], command: CompletedCommand): string {
  const [name] = command.words;
  const inner = commands.filter(({ words }) => words.length === 2 && words[0] === name);
  const head = `    ${name})
      shift words
      (( CURRENT-- ))
`;
  if (inner.length === 0) return `${head}${args(command, 6)} ;;`;
  return `${head}      if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
${names(commands, command, 8)}
        return
      fi
      case $words[2] in
${
    inner.map((one) =>
      `        ${one.words[1]})
          shift words
          (( CURRENT-- ))
${args(one, 10)} ;;`
    ).join("\n")
  }
        *)
${args(command, 10)} ;;
      esac ;;`;
}

function names(
  commands: readonly CompletedCommand[],
  command: CompletedCommand,
  indent: number,
): string {
  const space = " ".repeat(indent);
  const list = childrenOf(commands, command).map(({ name, text }) =>
    `${space}  ${quote(`${name}:${text}`)}`
  );
  return `${space}names=(\n${list.join("\n")}\n${space})\n${space}_describe command names`;
}

function args({ options, operands }: CompletedCommand, indent: number): string {
  const space = " ".repeat(indent);
  const specs = [
    ...options.flatMap(optionSpecs),
    ...operands.map(({ isRepeated, ...operand }, at) =>
      `${isRepeated ? "*" : at + 1}:${operand.name}:${action(operand)}`
    ),
  ];
  return [`${space}_arguments`, ...specs.map((spec) => `${space}  ${quote(spec)}`)].join(" \\\n");
}

/**
 * An option takes one specification for each of its names, which exclude each other. Of one with any
 * number of values the first is completed: _arguments would take an option for a further one.
 */
function optionSpecs({ names, text, value }: CompletedOption): string[] {
  const said = `[${text.replaceAll(/[[\]\\]/g, "\\$&")}]`;
  const before = value?.isRepeated ? "*" : `(${names.join(" ")})`;
  const after = value === undefined ? "" : `:${value.name}:${action(value)}`;
  return names.map((name) => {
    const joins = value !== undefined && name.startsWith("--") ? "=" : "";
    return `${before}${name}${joins}${said}${after}`;
  });
}

function action(value: WordKind): string {
  switch (value.kind) {
    case "choice":
      return `(${value.choices.join(" ")})`;
    case "directory":
      return "_files -/";
    case "file":
      return "_files";
    case "text":
      return " ";
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
