// SPDX-License-Identifier: MIT
/** `seedstrap store ls|verify|gc`: looks after what was downloaded. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { UserError } from "../errors.ts";
import { collectStore, listStore, type StoredFile, verifyStore } from "../job/store.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount } from "../plan/options.ts";
import { printJson } from "./json.ts";
import { chosenStore, olderStoreOption, storeOption } from "./options.ts";
import { counted, formatBytes, formatTable, print, warn } from "./output.ts";
import { withProgress } from "./progress.ts";

export function storeSubcommand(): CommandUnknownOpts {
  return new Command("store")
    .summary("what was downloaded: ls, verify, gc")
    .description("list, verify or clean up the store, which has every distfile under its SHA-256")
    .addCommand(lsSubcommand())
    .addCommand(verifySubcommand())
    .addCommand(gcSubcommand());
}

function lsSubcommand(): CommandUnknownOpts {
  return new Command("ls")
    .summary("list what is there")
    .description("list what is there, with its size, its SHA-256 and where it came from")
    .allowExcessArguments(false)
    .addOption(storeOption())
    .addOption(olderStoreOption())
    .option("--json", "for scripts")
    .action((raw) => {
      const { store, files, parts } = listStore(chosenStore(raw));
      if (raw.json) return printJson({ store, files: files.map(fileObject), parts });
      const rows = files.map(({ name, sizeBytes, sha256, url }) => [
        name ?? "",
        formatBytes(sizeBytes),
        sha256 ?? "(by its name)",
        url ?? "",
      ]);
      for (const line of formatTable(rows, "lrll")) print(line);
      const bytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      const unfinished = parts.length === 0
        ? ""
        : `, ${counted(parts.length, "unfinished download")}`;
      print(`${store}: ${counted(files.length, "file")}, ${formatBytes(bytes)}${unfinished}`);
    });
}

function verifySubcommand(): CommandUnknownOpts {
  return new Command("verify")
    .summary("hash every file, and compare")
    .description("hash every file, and compare it with the SHA-256 that is its name")
    .allowExcessArguments(false)
    .addOption(storeOption())
    .addOption(olderStoreOption())
    .option("--remove", "remove what is wrong: it is fetched again when it is needed")
    .option("--json", "for scripts")
    .action((raw) =>
      withInterrupt(async (signal) => {
        const store = chosenStore(raw);
        const removes = raw.remove === true;
        const { verified, wrong } = await withProgress((progress) =>
          verifyStore(store, removes, progress, signal)
        );
        if (raw.json) {
          const list = wrong.map(({ file, got }) => ({ ...fileObject(file), got }));
          printJson({ verified, wrong: list, removed: removes ? wrong.length : 0 });
        } else {
          for (const { file, got } of wrong) {
            warn(`${file.path}: its SHA-256 is ${got}${removes ? "; removed" : ""}`);
          }
          print(`${counted(verified, "file is", "files are")} right, ${wrong.length} wrong`);
        }
        if (wrong.length === 0) return;
        throw new UserError("verify", `${counted(wrong.length, "file")} of the store not right`, {
          where: store,
          ...(!removes && { hint: "seedstrap store verify --remove removes what is wrong" }),
        });
      })
    );
}

function gcSubcommand(): CommandUnknownOpts {
  return new Command("gc")
    .summary("remove what is not needed")
    .description("remove what no checkout needs, and what downloads have left")
    .allowExcessArguments(false)
    .option("--tree <checkout...>", "checkouts or bundles whose distfiles stay")
    .option("--older-than <age>", "remove only what came so long ago: 90d, 12h")
    .option("--dry-run", "only say what would go")
    .addOption(storeOption())
    .addOption(olderStoreOption())
    .option("--json", "for scripts")
    .action(async (raw) => {
      const isDry = raw.dryRun === true;
      const { files, leftovers, bytes, busy } = await collectStore({
        store: chosenStore(raw),
        trees: raw.tree ?? [],
        olderThanMs: parseAge(raw.olderThan),
        isDry,
      });
      if (raw.json) {
        return printJson({ removed: !isDry, files: files.map(fileObject), leftovers, bytes, busy });
      }
      for (const { name, sha256 } of isDry ? files : []) print(`${sha256} ${name ?? ""}`);
      const more = leftovers.length === 0 ? "" : `, ${counted(leftovers.length, "leftover")}`;
      const stays = busy === 0 ? "" : `; ${counted(busy, "file")} in use, not touched`;
      print(
        `${counted(files.length, "file")}${more}: ${formatBytes(bytes)} ${
          isDry ? "would be freed" : "freed"
        }${stays}`,
      );
    });
}

/**
 * Parses an age, to milliseconds.
 *
 * @throws {UserError} "usage"
 */
function parseAge(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, number, unit] = /^(\d{1,5})([dh])$/.exec(text) ?? [];
  if (number === undefined) {
    throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for --older-than`, {
      hint: "It takes days or hours: 90d, 12h",
    });
  }
  const hours = parseCount(number, "--older-than", 0, 99_999) * (unit === "d" ? 24 : 1);
  return hours * 3_600_000;
}

function fileObject({ name, sha256, sizeBytes, path, url, changedMs }: StoredFile): object {
  return {
    name: name ?? null,
    sha256: sha256 ?? null,
    sizeBytes,
    path,
    url: url ?? null,
    changed: new Date(changedMs).toISOString(),
  };
}
