// SPDX-License-Identifier: MIT
/**
 * The completion for bash, from 3.2 on. It needs no other package.
 *
 * @module
 */

import { childrenOf, type CompletedCommand, type WordKind } from "./completion_model.ts";

/** Returns the script that bash reads. */
export function bashCompletion(commands: readonly CompletedCommand[]): string {
  const path = ({ words }: CompletedCommand) => words.join(" ");
  const values = commands.flatMap((command) =>
    command.options.flatMap(({ names, value }) =>
      value === undefined ? [] : names.map((name) => ({
        pattern: `${path(command)} ${name}`,
        action: `expected=${quote(kindWord(value))} repeats=${value.isRepeated ? "yes" : ""}`,
      }))
    )
  );
  const operands = commands.flatMap((command) =>
    command.operands.map((operand, at) => ({
      pattern: `${path(command)} ${at}`,
      isRepeated: operand.isRepeated,
      action: `expected=${quote(kindWord(operand))}`,
    }))
  );
  const inner = commands.filter(({ words }) => words.length > 0).map(path);
  const list = (words: readonly string[]) => quote(words.join(" "));
  return `# bash completion of seedstrap, made by: seedstrap completion bash

_seedstrap() {
  local current=\${COMP_WORDS[COMP_CWORD]} path='' expected='' repeats='' is_first=yes
  local word index operand=0
  COMPREPLY=()
  # To bash, --option=value is three words.
  [ "$current" = = ] && current=''
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    [ "$word" = = ] && continue
    if [ -n "$expected" ]; then
      case $repeats$word in
        yes-*) ;;
        *) [ -n "$repeats" ] || expected=''
          continue ;;
      esac
    fi
    expected='' repeats=''
    case $word in
      -*)
        is_first=''
        case "$path $word" in
${cases(values, 10)}
        esac ;;
      *)
        if [ -n "$is_first" ]; then
          case "$path\${path:+ }$word" in
            ${inner.map(quote).join(" | \\\n              ")})
              path="$path\${path:+ }$word"
              continue ;;
          esac
        fi
        is_first=''
        operand=$((operand + 1)) ;;
    esac
  done
  case $repeats$current in
    yes-*) expected='' ;;
  esac
  if [ -z "$expected" ]; then
    case $current in
      -*)
        case $path in
${
    cases(
      commands.map((command) => ({
        pattern: path(command),
        action: `expected=${list(command.options.flatMap(({ names }) => names))}`,
      })),
      10,
    )
  }
        esac ;;
      *)
        if [ -n "$is_first" ]; then
          case $path in
${
    cases(
      commands.flatMap((command) => {
        const names = childrenOf(commands, command).map(({ name }) => name);
        return names.length === 0
          ? []
          : [{ pattern: path(command), action: `expected=${list(names)}` }];
      }),
      12,
    )
  }
          esac
        fi
        [ -n "$expected" ] || case "$path $operand" in
${cases(operands.filter(({ isRepeated }) => !isRepeated), 10)}
${
    operands.filter(({ isRepeated }) => isRepeated)
      .map(({ pattern, action }) =>
        `          ${quote(pattern.replace(/\d+$/, ""))}*) ${action} ;;`
      )
      .join("\n")
  }
        esac ;;
    esac
  fi
  case $expected in
    '' | :text) return ;;
    :directory) _seedstrap_files -d ;;
    :file) _seedstrap_files -f ;;
    *)
      while IFS= read -r word; do
        COMPREPLY+=("$word")
      done < <(compgen -W "$expected" -- "$current") ;;
  esac
}

_seedstrap_files() {
  local word
  while IFS= read -r word; do
    COMPREPLY+=("$word")
  done < <(compgen "$1" -- "$current")
  compopt -o filenames 2>/dev/null || true
}

complete -F _seedstrap seedstrap
`;
}

/** The word by which the script knows how to complete: of a list, the list. */
function kindWord(value: WordKind): string {
  return value.kind === "choice" ? value.choices.join(" ") : `:${value.kind}`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Returns the branches of a case; those with the same action are one. */
function cases(
  branches: readonly { readonly pattern: string; readonly action: string }[],
  indent: number,
): string {
  const space = " ".repeat(indent);
  return [...Map.groupBy(branches, ({ action }) => action)].map(([action, same]) => {
    const patterns = same.map(({ pattern }) => quote(pattern)).join(` | \\\n${space}  `);
    return `${space}${patterns}) ${action} ;;`;
  }).join("\n");
}
