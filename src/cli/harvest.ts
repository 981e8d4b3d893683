// SPDX-License-Identifier: MIT
/** `seedstrap harvest`: copies the packages that a bootstrap has built out of its disk. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { UserError } from "../errors.ts";
import { openDirectoryView } from "../image/directory.ts";
import { watchedView } from "../image/view.ts";
import type { ReadView } from "../image/types.ts";
import {
  checkNotContainer,
  findRepo,
  type Harvest,
  harvest,
  type HarvestedFile,
  hasRepo,
} from "../job/harvest.ts";
import {
  diffPackages,
  type PackageDifference,
  type Packages,
  packagesOf,
} from "../job/harvest_diff.ts";
import { parsePushPlace, pushPackages, type PushPlace } from "../job/push.ts";
import { writeRootTar } from "../job/root_tar.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { statIfThere } from "../runtime/stat.ts";
import { withGuestView } from "./image_source.ts";
import { printJson } from "./json.ts";
import { printPush } from "./mirror.ts";
import { plainHttpOption } from "./options.ts";
import { counted, formatBytes, formatCount, print, warn } from "./output.ts";
import { type Display, display, withProgress } from "./progress.ts";

/** Files that are pushed at once. */
const PUSH_JOBS = 8;

export function harvestSubcommand(): CommandUnknownOpts {
  return new Command("harvest")
    .summary("copy the packages that it has built out of its disk")
    .description("copy what a bootstrap has built out of its disk or directory, without root")
    .argument("<disk>", "image, block device, or the directory that a bootstrap has run in")
    .argument("[other]", "for --compare: the other run")
    .allowExcessArguments(false)
    .option("-o, --output <dir>", "where the packages go: a new or an empty directory")
    .option(
      "--root",
      "write the whole root, a directory, as a tar file that is the same everywhere",
    )
    .option("--force", "also take packages whose SHA-256 is not the one in a list on the disk")
    .addOption(
      new Option("--push <url>", "also push them: oci://HOST/REPO[:TAG], s3+https://HOST/BUCKET")
        .conflicts(["root", "compare"]),
    )
    .addOption(plainHttpOption())
    .option("--compare", "compare the packages of two runs; exit code 11 where they differ")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap harvest target/init.img -o run1
  seedstrap harvest target --root -o root.tar
  seedstrap harvest --compare run1 run2`,
    )
    .action(
      async (
        disk,
        other,
        { output, root = false, force = false, compare = false, json = false, push, plainHttp },
      ) => {
        if (compare ? other === undefined || output !== undefined : output === undefined || other) {
          throw new UserError(
            "usage",
            compare
              ? "Cannot compare: two runs are needed, and no --output"
              : "Cannot harvest: one disk and --output are needed",
            { hint: "seedstrap harvest DISK -o DIR, or seedstrap harvest --compare A B" },
          );
        }
        if (root) return await harvestRoot(disk, output, { compare, force, json });
        if (compare) await compareRuns(disk, other!, json);
        else {
          const place = push === undefined ? undefined : parsePushPlace(push, plainHttp);
          await harvestDisk(disk, output!, { force, json, place });
        }
      },
    );
}

async function harvestDisk(
  disk: string,
  output: string,
  { force, json, place }: { force: boolean; json: boolean; place: PushPlace | undefined },
): Promise<void> {
  await withRoot(disk, async (view, progress) => {
    const { pushed, ...harvested } = await withInterrupt(async (signal) => {
      const made = await harvest(view, output, { force, signal, progress });
      const options = { jobs: PUSH_JOBS, progress };
      const pushed = place && await pushPackages(output, made, place, options, signal);
      return { ...made, pushed };
    });
    progress.end();
    noteSkipped(harvested.skipped);
    for (const path of harvested.wrong) {
      warn(`${path} is not as a list on the disk says`);
    }
    if (json) return printJson({ ...harvested, ...(pushed && { push: pushed }) });
    const bytes = harvested.files.reduce((sum, { size }: HarvestedFile) => sum + size, 0);
    print(
      `${output}: ${counted(harvested.files.length, "package")} from ${harvested.place}, ${
        formatBytes(bytes)
      }, and SHA256SUMS${
        harvested.skipped.length === 0 ? "" : `; ${formatCount(harvested.skipped.length)} left out`
      }`,
    );
    print(
      harvested.lists.length === 0
        ? "there is no list on the disk to compare them with"
        : `${harvested.verified} of them match ${harvested.lists.join(" and ")}`,
    );
    if (pushed !== undefined) printPush(pushed);
  });
}

/** Writes the root of a bootstrap in a directory as a tar file. */
async function harvestRoot(
  dir: string,
  output: string | undefined,
  { compare, force, json }: { compare: boolean; force: boolean; json: boolean },
): Promise<void> {
  if (compare || force || output === undefined) {
    throw new UserError("usage", `Cannot use --root with ${compare ? "--compare" : "--force"}`, {
      hint: "seedstrap harvest DIR --root -o FILE",
    });
  }
  if (statIfThere(dir)?.isDirectory() !== true) {
    throw new UserError("usage", `Cannot use ${dir} with --root: it is not a directory`, {
      where: dir,
      hint: "Name the directory that a bootstrap has run in; a disk can be mounted, or extracted " +
        "with seedstrap image extract",
    });
  }
  checkNotContainer(dir);
  const tar = await withProgress((progress) => {
    progress.begin("harvesting");
    const onBytes = (bytes: number) => progress.add(bytes);
    return withInterrupt((signal) => writeRootTar(dir, output, { signal, onBytes }));
  });
  noteSkipped(tar.skipped);
  if (json) return printJson(tar);
  print(`${tar.path}: ${formatCount(tar.members)} members, ${formatBytes(tar.sizeBytes)}`);
  print(`SHA-256 ${tar.sha256}`);
}

/** Opens a disk, or the directory that a bootstrap has run in. */
async function withRoot(
  path: string,
  use: (view: ReadView, progress: Display) => Promise<void>,
): Promise<void> {
  if (statIfThere(path)?.isDirectory()) {
    checkNotContainer(path);
    const view = watchedView(openDirectoryView(path), display);
    return await withProgress((progress) => use(view, progress));
  }
  await withGuestView(path, undefined, (view, _, progress) => use(view, progress));
}

function noteSkipped(skipped: Harvest["skipped"]): void {
  for (const { path, why } of skipped) warn(`${path} is left out: ${why}`);
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
          counted(new Set([...one.keys(), ...other.keys()]).size, "package")
        }`,
      );
    }));
}

async function withPackages(
  path: string,
  use: (packages: Packages) => Promise<void>,
): Promise<void> {
  await withRoot(path, async (view) => {
    // A directory of harvested packages has them at its top.
    const isHarvest = statIfThere(path)?.isDirectory() === true && !hasRepo(view);
    await use(packagesOf(view, isHarvest ? "" : findRepo(view)));
  });
}

function bytesOf(packages: Packages): number {
  return packages.values().reduce((sum, found) => sum + ("size" in found ? found.size : 0), 0);
}

/** How many members of a package are shown. */
const MAX_MEMBERS = 20;

function packageDifferenceLines(difference: PackageDifference): string[] {
  const name = difference.name;
  if (difference.kind === "no package") {
    return [`no package: ${name}: ${difference.found.join(" -> ")}`];
  }
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
