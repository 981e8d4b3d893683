// SPDX-License-Identifier: MIT
/** `seedstrap sources`: prints what source_manifest.py prints. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import process from "node:process";
import type { Config } from "../tree/config.ts";
import { mergeSources, type PlacedSource, readSources } from "../tree/distfiles.ts";
import { openCheckout } from "../tree/checkout.ts";
import { evaluateEvery, lineAt } from "../tree/extra.ts";
import { readManifests } from "../tree/model.ts";
import { findBoundaries, isPreNetwork, phaseOf } from "../plan/split.ts";
import { extraBuildsOption, treeOption } from "./options.ts";
import { printJson } from "./json.ts";
import { printExact } from "./output.ts";

/** The configuration of a kernel bootstrap, for which passes and phases are computed. */
const CONFIG: Config = [
  ["ARCH", "x86"],
  ["CHROOT", "False"],
  ["KERNEL_BOOTSTRAP", "True"],
  ["PAYLOAD_REQUIRED", "True"],
];

export function sourcesCommand(): CommandUnknownOpts {
  const command = new Command("sources")
    .summary("list every distfile, in manifest order")
    .description("list every distfile: SHA-256, directory, URL and name, in manifest order")
    .allowExcessArguments(false)
    .addOption(treeOption())
    .addOption(extraBuildsOption())
    .addOption(
      new Option("--all", "do not stop at the network (the default, as in source_manifest.py)")
        .conflicts("preNetwork"),
    )
    .option("--pre-network", 'stop at the first improve that has "network" in its line')
    .option("--json", "with steps, passes, alternatives, git references and phases")
    .addHelpText(
      "after",
      `
Example:
  seedstrap sources --tree live-bootstrap | cut -d' ' -f4 | sort -u`,
    );
  command.action(({ tree, extraBuilds, preNetwork, json }) => {
    const root = openCheckout(tree ?? process.cwd());
    const manifests = readManifests(root, extraBuilds);
    const active = evaluateEvery(manifests, CONFIG);
    const boundaries = findBoundaries(manifests, active);
    const sources = readSources(root, manifests)
      .filter(({ index }) => !preNetwork || isPreNetwork(index, manifests));
    if (!json) {
      for (const line of manifestLines(sources)) printExact(line);
      return;
    }
    const passes = new Map(active.map((a) => [a.index, a.pass]));
    printJson({
      sources: mergeSources(sources).map((distfile) => ({
        name: distfile.name,
        sha256: distfile.sha256,
        alternatives: distfile.urls,
        git: distfile.git,
        phase: phaseOf(distfile, boundaries),
        steps: distfile.uses.map(({ step, index }) => {
          const { manifest, line } = lineAt(manifests, index)!;
          return {
            step,
            pass: passes.get(index) ?? null,
            ...(manifest !== manifests.manifest && { manifest: manifest.file }),
            manifestLine: line.line,
          };
        }),
      })),
    });
  });
  return command;
}

/** Returns the lines that source_manifest.py prints, each once. */
export function manifestLines(sources: readonly PlacedSource[]): string[] {
  return [
    ...new Set(
      sources.map(({ source }) => `${source.sha256} distfiles ${source.url} ${source.fileName}`),
    ),
  ];
}
