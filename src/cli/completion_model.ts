// SPDX-License-Identifier: MIT
/**
 * The commands of the program as data, from their declarations, for the completion of shells.
 *
 * @module
 */

import type { CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { DEFAULT_COMMAND, LONG_FORMS } from "./argv.ts";

/** What a word is completed by; `text` is anything, and is not completed. */
export type WordKind =
  | { readonly kind: "directory" | "file" | "text" }
  | { readonly kind: "choice"; readonly choices: readonly string[] };

/** An option of a command. */
export interface CompletedOption {
  /** Short and long: `-t`, `-bw`, `--target`. */
  readonly names: readonly string[];
  readonly text: string;
  /** Its value; absent for a switch. */
  readonly value?: WordKind & { readonly name: string; readonly isRepeated: boolean };
}

/** A command, or a group of them. */
export interface CompletedCommand {
  /** Its words after `seedstrap`; none for the default command. */
  readonly words: readonly string[];
  readonly text: string;
  readonly options: readonly CompletedOption[];
  readonly operands: readonly (WordKind & {
    readonly name: string;
    readonly isRepeated: boolean;
  })[];
}

/** Returns every command of a program, the default one first, groups before what is in them. */
export function completedCommands(root: CommandUnknownOpts): CompletedCommand[] {
  const visit = (command: CommandUnknownOpts, words: readonly string[]): CompletedCommand[] => [
    completed(command, words),
    ...command.commands.flatMap((inner) => visit(inner, [...words, inner.name()])),
  ];
  const isDefault = (command: CommandUnknownOpts) => command.name() === DEFAULT_COMMAND;
  const own = completed(root, []);
  const byDefault = root.commands.filter(isDefault).map((command) => completed(command, []));
  return [
    { ...own, options: [...own.options, ...byDefault.flatMap(({ options }) => options)] },
    ...root.commands.filter((command) => !isDefault(command))
      .flatMap((command) => visit(command, [command.name()])),
  ];
}

function completed(command: CommandUnknownOpts, words: readonly string[]): CompletedCommand {
  const help = command.createHelp();
  // The default command has the help option of the program.
  const isDefault = command.name() === DEFAULT_COMMAND;
  const options = help.visibleOptions(command).filter(({ long }) =>
    !isDefault || long !== "--help"
  );
  return {
    words,
    text: command.summary() || command.description(),
    options: options.map(completedOption),
    operands: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      isRepeated: argument.variadic,
      ...wordKind(argument.name(), argument.argChoices),
    })),
  };
}

function completedOption(option: Option): CompletedOption {
  const { short, long, description, flags, argChoices, variadic } = option;
  const forms = LONG_FORMS.flatMap(([form, meant]) => meant === long ? [form] : []);
  const names = [short, ...forms, long].filter((name) => name != null);
  const name = /[<[]([^\].>]+)/.exec(flags)?.[1];
  if (name === undefined) return { names, text: description };
  const value = { name, isRepeated: variadic, ...wordKind(name, argChoices) };
  return { names, text: description, value };
}

/** The kinds of the names that options and arguments have for their values in the help. */
const DIRECTORIES: ReadonlySet<string> = new Set(["dir", "target", "url"]);
const FILES: ReadonlySet<string> = new Set(
  "a archive b bundle checkout device disk file image other program record".split(" "),
);

function wordKind(name: string, choices: readonly string[] | undefined): WordKind {
  if (choices !== undefined) return { kind: "choice", choices };
  if (DIRECTORIES.has(name)) return { kind: "directory" };
  return { kind: FILES.has(name) ? "file" : "text" };
}

/** Returns the names of what is directly in a group, each with its text. */
export function childrenOf(
  commands: readonly CompletedCommand[],
  { words }: CompletedCommand,
): readonly { readonly name: string; readonly text: string }[] {
  const inner = commands.filter((command) =>
    command.words.length === words.length + 1 &&
    words.every((word, at) => command.words[at] === word)
  );
  return inner.map((command) => ({ name: command.words.at(-1)!, text: command.text }));
}
