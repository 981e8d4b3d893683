// SPDX-License-Identifier: MIT
/** `seedstrap harvest`: copies the packages that a bootstrap has built out of its disk. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { UserError } from "../errors.ts";
import { harvest, type HarvestedFile } from "../job/harvest.ts";
import {
  diffPackages,
  type Package,
  type PackageDifference,
  packagesIn,
  packagesOn,
} from "../job/harvest_diff.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { statIfThere } from "../runtime/stat.ts";
import { withView } from "./image_source.ts";
import { formatBytes, formatCount, note, paint, print, printJson } from "./output.ts";
import { display, withProgress } from "./progress.ts";

export function harvestSubcommand(): CommandUnknownOpts {
  return new Command("harvest")
    .description("copy the packages that a bootstrap has built out of its disk, without root")
    .argument("<disk>", "image or block device; with --compare also a directory")
    .argument("[other]", "for --compare: the other run")
    .allowExcessArguments(false)
    .option("-o, --output <dir>", "where the packages go: a new or an empty directory")
    .option("--force", "also take packages whose SHA-256 is not the one in a list on the disk")
    .option("--compare", "compare the packages of two runs; exit code 11 where they differ")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap harvest target/init.img -o run1
  seedstrap harvest --compare run1 run2`,
    )
    .action(async (disk, other, { output, force = false, compare = false, json = false }) => {
      if (compare ? other === undefined || output !== undefined : output === undefined || other) {
        throw new UserError(
          "usage",
          compare
            ? "Cannot compare: two runs are needed, and no --output"
            : "Cannot harvest: one disk and --output are needed",
          { hint: "seedstrap harvest DISK -o DIR, or seedstrap harvest --compare A B" },
        );
      }
      if (compare) await compareRuns(disk, other!, json);
      else await harvestDisk(disk, output!, force, json);
    });
}

async function harvestDisk(
  disk: string,
  output: string,
  force: boolean,
  json: boolean,
): Promise<void> {
  await withView(disk, undefined, async (view, _, progress) => {
    const harvested = await withInterrupt((signal) =>
      harvest(view, output, { force, signal, progress })
    );
    progress.end();
    for (const { path, why } of harvested.skipped) {
      note([paint("yellow", "skipped:"), ` ${path}: ${why}`]);
    }
    for (const path of harvested.wrong) {
      note([paint("yellow", "warning:"), ` ${path} is not as a list on the disk says`]);
    }
    if (json) return printJson(harvested);
    const bytes = harvested.files.reduce((sum, { size }: HarvestedFile) => sum + size, 0);
    print(
      `${output}: ${formatCount(harvested.files.length)} packages from ${harvested.place}, ${
        formatBytes(bytes)
      }, and SHA256SUMS`,
    );
    print(
      harvested.lists.length === 0
        ? "there is no list on the disk to compare them with"
        : `${harvested.verified} of them match ${harvested.lists.join(" and ")}`,
    );
  });
}

async function compareRuns(a: string, b: string, json: boolean): Promise<void> {
  await withPackages(a, (one) =>
    withPackages(b, async (other) => {
      const differences = await withProgress((progress) => {
        progress.begin("comparing", bytesOf(one) + bytesOf(other));
        return diffPackages(one, other);
      });
      if (json) printJson({ equal: differences.length === 0, differences });
      else for (const line of differences.flatMap(packageDifferenceLines)) print(line);
      if (differences.length === 0) {
        if (!json) print(`all ${formatCount(one.size)} packages are the same`);
        return;
      }
      throw new UserError(
        "different",
        `${a} and ${b} differ in ${differences.length} of ${
          new Set([...one.keys(), ...other.keys()]).size
        } packages`,
      );
    }));
}

async function withPackages(
  path: string,
  use: (packages: ReadonlyMap<string, Package>) => Promise<void>,
): Promise<void> {
  if (statIfThere(path)?.isDirectory()) return await use(packagesIn(path, display));
  await withView(path, undefined, (view) => use(packagesOn(view)));
}

function bytesOf(packages: ReadonlyMap<string, Package>): number {
  return packages.values().reduce((sum, { size }) => sum + size, 0);
}

/** How many members of a package are shown. */
const MAX_MEMBERS = 20;

function packageDifferenceLines(difference: PackageDifference): string[] {
  const name = difference.name;
  if (difference.kind !== "different") return [`${difference.kind}: ${name}`];
  const { digests, members, unread } = difference;
  const lines = [`different: ${name}`, `    ${digests[0]} -> ${digests[1]}`];
  if (members === undefined) return [...lines, `    ${unread ?? ""}`];
  if (members.length === 0) {
    return [
      ...lines,
      "    the members are the same: only times, owners, order or compression differ",
    ];
  }
  const more = members.length - MAX_MEMBERS;
  return [
    ...lines,
    ...members.slice(0, MAX_MEMBERS).map(({ kind, path }) => `    ${kind}: ${path}`),
    ...(more > 0 ? [`    and ${more} more; --json lists all`] : []),
  ];
}
