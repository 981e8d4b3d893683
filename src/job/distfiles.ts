// SPDX-License-Identifier: MIT
/**
 * Locates the distfiles of a job on this machine, and downloads the others.
 *
 * @module
 */

import { readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { sortedByBytes } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { distfileNameFault } from "../fetch/distfile_name.ts";
import { fetchAll } from "../fetch/fetch.ts";
import { type Mirror, mirrorDirectories, serverMirrors } from "../fetch/mirror.ts";
import { askSizes, type SizeAnswers } from "../fetch/sizes.ts";
import { fetchError, offlineError } from "../fetch/report.ts";
import { DIGESTS_DIR, locate, locateStored, storePath, takeOver } from "../fetch/store.ts";
import { tidyStore } from "../fetch/turn.ts";
import type { Failure, FetchEvent, WrongPlace } from "../fetch/types.ts";
import { DISTFILES_DIR } from "../format/bundle.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { type FileSegment, fileSegment } from "../format/segment.ts";
import { digestEach } from "../hash/pool.ts";
import type { Located, LocatedFile } from "../plan/images.ts";
import { reading, writing } from "../refused.ts";
import { removeFile } from "../runtime/remove.ts";
import { statIfThere } from "../runtime/stat.ts";
import { bundleAt, findBundledDistfile } from "../tree/bundled.ts";
import type { Distfile } from "../tree/distfiles.ts";
import { USER_AGENT } from "../version.ts";
import { partsOf } from "../source/run.ts";

/** Where distfiles come from, and how they are fetched. */
export interface DistfileRequest {
  /** Directory for downloads. */
  readonly store: string;
  /** Mirrors that are searched before the URLs of distfiles. */
  readonly mirrors: readonly Mirror[];
  /** Whether nothing is downloaded, so that every distfile has to be on this machine. */
  readonly isOffline: boolean;
  /** Number of simultaneous downloads. */
  readonly jobs: number;
}

/** All places that may already have a distfile: the checkout, the store and mirrors. */
export interface Places extends Pick<DistfileRequest, "store" | "mirrors"> {
  /** Directory of the checkout, or a bundle. */
  readonly root: string;
}

/** Callbacks about distfiles. */
export interface DistfileEvents {
  readonly onNotice?: (text: string) => void;
  readonly onFetch?: (event: FetchEvent) => void;
  readonly progress?: Progress;
}

/** Files in distfiles/ of a checkout that no sources file names. */
export interface OwnDistfiles {
  readonly distfiles: readonly Distfile[];
  /** What there is that cannot be carried, and why. */
  readonly remarks: readonly string[];
}

/**
 * Finds the files that users have put into distfiles/ of a checkout, as rootfs.py does. A bundle has
 * none.
 *
 * @param named Names of the distfiles that the checkout names.
 * @throws {UserError} "tree" if one cannot be read.
 */
export async function findOwnDistfiles(
  root: string,
  named: ReadonlySet<string>,
  signal?: AbortSignal,
): Promise<OwnDistfiles> {
  const dir = join(root, DISTFILES_DIR);
  if (statIfThere(root)?.isDirectory() !== true || statIfThere(dir)?.isDirectory() !== true) {
    return { distfiles: [], remarks: [] };
  }
  const files: { name: string; segment: FileSegment }[] = [];
  const remarks: string[] = [];
  for (const name of sortedByBytes(reading(dir, () => readdirSync(dir)), (name) => name)) {
    // A dot begins what seedstrap keeps in a store, which this directory may be.
    const isOfStore = name.startsWith(".") || name === DIGESTS_DIR;
    if (named.has(name) || isOfStore || name.endsWith(".part")) continue;
    const path = join(dir, name);
    const stat = statIfThere(path);
    const fault = stat?.isFile() === true ? distfileNameFault(name) : "it is not a file";
    if (fault !== undefined) {
      remarks.push(`${DISTFILES_DIR}/${name} is not carried: ${fault}`);
      continue;
    }
    files.push({ name, segment: fileSegment({ path, sizeBytes: stat!.size }) });
  }
  const distfiles: Distfile[] = [];
  const tasks = files.map(({ segment }) => ({ segment, kind: "tree" } as const));
  try {
    for await (const sha256 of digestEach(tasks, { signal })) {
      const { name } = files[distfiles.length]!;
      distfiles.push({ name, sha256: sha256!, urls: [], git: [], uses: [] });
    }
  } catch (error) {
    if (!(error instanceof UserError) || error.kind !== "tree") throw error;
    const { message, where } = error;
    throw new UserError("tree", message, {
      ...(where !== undefined && { where }),
      hint: "Move it out of the checkout, or leave --external-sources out",
      cause: error,
    });
  }
  return { distfiles, remarks };
}

type Wanted = Pick<Distfile, "name" | "sha256">;

/** Returns the directories of the places, in the order in which they are searched. */
function directoriesOf({ root, store, mirrors }: Places): Pick<LocatedFile, "path" | "from">[] {
  return [
    { path: join(root, "distfiles"), from: "checkout" },
    { path: store, from: "store" },
    ...mirrorDirectories(mirrors).map((path) => ({ path, from: "mirror" } as const)),
  ];
}

/** Returns the files with the name of a distfile, in order; their content is not checked. */
async function candidatesOf({ name, sha256 }: Wanted, places: Places): Promise<LocatedFile[]> {
  const bundle = bundleAt(places.root);
  const bundled = bundle && findBundledDistfile(bundle, name, sha256);
  const found = await Promise.all(
    directoriesOf(places).map(async ({ path: dir, from }) => {
      const there = from === "store"
        ? await locateStored({ name, sha256 }, dir)
        : await locate(name, [dir]);
      return there.map(({ path, sizeBytes }) => ({ path, sizeBytes, from }));
    }),
  );
  return [
    ...bundled === undefined ? [] : [{ ...bundled, from: "checkout" } as const],
    ...found.flat(),
  ];
}

/** Returns the file to use for each distfile on this machine; it is verified when it is written. */
export async function locateAll(wanted: readonly Wanted[], places: Places): Promise<Located> {
  const found = await Promise.all(
    wanted.map(async (distfile) => ({ distfile, files: await candidatesOf(distfile, places) })),
  );
  return new Map(
    found.flatMap(({ distfile: { name }, files: [first] }) => first ? [[name, first]] : []),
  );
}

/** Asks the mirrors for the sizes of distfiles that are not on this machine; nothing is verified. */
export function askMirrors(
  files: readonly Wanted[],
  mirrors: readonly Mirror[],
  signal: AbortSignal | undefined,
): Promise<SizeAnswers> {
  return askSizes(files, { mirrors: serverMirrors(mirrors), userAgent: USER_AGENT, signal });
}

/** Distfiles of this machine, verified. */
export interface RightFiles {
  /** The file to use for each. */
  readonly located: Located;
  /** Where there are wrong ones, by the name of the distfile. */
  readonly wrong: ReadonlyMap<string, readonly WrongPlace[]>;
}

/**
 * Finds the file to use for each distfile on this machine, verified. A wrong file is reported and
 * not used; one in the store that has not its digest is removed.
 */
export async function locateRight(
  wanted: readonly Wanted[],
  places: Places,
  events: DistfileEvents,
  signal: AbortSignal | undefined,
): Promise<RightFiles> {
  const { progress = UNWATCHED } = events;
  const onBytes = (bytes: number) => progress.add(bytes);
  progress.begin("checking distfiles");
  const searches = await Promise.all(wanted.map(async (distfile): Promise<Search> => ({
    distfile,
    candidates: await candidatesOf(distfile, places),
    wrong: [],
  })));
  // The first candidate of each, then the second one of those whose first was wrong.
  for (let left = searches; left.length > 0;) {
    left = left.filter(({ wrong, candidates }) => wrong.length < candidates.length);
    const firsts = left.map((search) => ({
      search,
      file: search.candidates[search.wrong.length]!,
    }));
    const tasks = firsts.map(({ file }) => ({ segment: fileSegment(file), kind: "tree" } as const));
    let done = 0;
    for await (const got of digestEach(tasks, { onBytes, signal })) {
      const { search, file } = firsts[done++]!;
      const { sha256 } = search.distfile;
      const isStored = file.from === "store" && file.bundled === undefined;
      if (got === sha256) {
        const path = isStored ? await takeOver(places.store, file.path, sha256) : file.path;
        search.right = { ...file, path };
        continue;
      }
      search.wrong.push(wrongFile(search.distfile, file, got!, places.store));
      // What has its own name there may be the file of another checkout.
      if (isStored && file.path === storePath(places.store, sha256)) {
        writing(file.path, () => removeFile(file.path), "--store");
      }
    }
    left = left.filter(({ right }) => right === undefined);
  }
  const right = new Map(
    searches.flatMap(({ distfile: { name }, right }) => right ? [[name, right]] : []),
  );
  const wrong = searches.flatMap((search) => search.wrong);
  const byPlace = Map.groupBy(wrong, ({ place }) => place.path);
  for (const files of byPlace.values()) events.onNotice?.(wrongNotice(files));
  return {
    located: right,
    wrong: new Map(
      [...Map.groupBy(wrong, ({ name }) => name)].map(([name, files]) =>
        [name, files.map(({ place }) => place)] as const
      ),
    ),
  };
}

/** The search for the file of a distfile. */
interface Search {
  readonly distfile: Wanted;
  readonly candidates: readonly LocatedFile[];
  /** The first candidates. */
  readonly wrong: WrongFile[];
  right?: LocatedFile;
}

/** A file with other bytes than its distfile. */
interface WrongFile {
  readonly name: string;
  readonly place: WrongPlace;
  /** Its name in messages. */
  readonly fileInPlace: string;
  readonly got: string;
  readonly sha256: string;
}

function wrongFile(
  { name, sha256 }: Wanted,
  { path, from, bundled }: LocatedFile,
  got: string,
  store: string,
): WrongFile {
  const place = bundled === undefined
    ? { path: from === "store" ? store : dirname(path), isBundle: false }
    : { path: partsOf(path, bundled), isBundle: true };
  const fileInPlace = bundled === undefined ? path : `${bundled.name} in ${place.path}`;
  return { name, place, fileInPlace, got, sha256 };
}

/** Returns one line about the wrong files of one place: that of another checkout has many. */
function wrongNotice(files: readonly WrongFile[]): string {
  const { name, place: { path, isBundle }, fileInPlace, got, sha256 } = files[0]!;
  const damage = isBundle ? "damaged and " : "";
  if (files.length === 1) {
    return `${fileInPlace} is ${damage}not used: its SHA-256 is ${got}, expected ${sha256}`;
  }
  return `${files.length} distfiles in ${path} are ${damage}not used, as they have another ` +
    `SHA-256: ${name} and ${files.length - 1} more`;
}

/** How to fetch, and what of this machine was found to be wrong before. */
interface FetchRequest extends Pick<DistfileRequest, "jobs" | "isOffline"> {
  readonly wrong?: RightFiles["wrong"] | undefined;
  /** Most bytes a second of all downloads together. */
  readonly bytesPerSecond?: number | undefined;
}

/**
 * Downloads the distfiles that are not located.
 *
 * @returns The located files and the downloaded ones.
 * @throws {UserError} "fetch", with all distfiles that could not be fetched; "verify" where every
 * source of each has other bytes.
 */
export async function fetchAbsent(
  wanted: readonly Pick<Distfile, "name" | "sha256" | "urls">[],
  located: Located,
  places: Places,
  { jobs, isOffline, wrong, bytesPerSecond }: FetchRequest,
  events: DistfileEvents,
  signal: AbortSignal | undefined,
): Promise<Located> {
  const absent = wanted.filter(({ name }) => !located.has(name));
  if (absent.length === 0) {
    await tidyStore(places.store);
    return located;
  }
  const directories = directoriesOf(places);
  const withWrong = <T extends Pick<Failure, "name">>(file: T) => ({
    ...file,
    wrong: wrong?.get(file.name),
  });
  if (isOffline) {
    throw offlineError(absent.map(withWrong), directories.map(({ path }) => path));
  }
  const { store, mirrors } = places;
  const report = await fetchAll(absent, {
    store,
    mirrors: serverMirrors(mirrors),
    jobs,
    bytesPerSecond,
    userAgent: USER_AGENT,
    signal,
    onProgress: events.onFetch,
  });
  if (report.failures.length > 0) {
    const failures = report.failures.map(withWrong);
    throw fetchError({ ...report, failures }, mirrorDirectories(mirrors));
  }
  // The store may be the same directory as an earlier one in the list.
  const { from } = directories.find(({ path }) => resolve(path) === resolve(store))!;
  const fetched = [...report.files].map(([name, { path, sizeBytes }]) =>
    [name, { path, sizeBytes, from }] as const
  );
  return new Map([...located, ...fetched]);
}
