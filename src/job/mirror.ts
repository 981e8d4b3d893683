// SPDX-License-Identifier: MIT
/**
 * `seedstrap mirror`: a directory with every distfile of every step, by name.
 *
 * Files come from this machine, where it has them; then from their own URLs; then from git, where a
 * step names a repository; then from the mirrors that are given. A URL that does not deliver its file
 * stops nothing: it is in the report.
 *
 * @module
 */

import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { fetchAll } from "../fetch/fetch.ts";
import { hrefOf, indexPage } from "../fetch/index_page.ts";
import { type Mirror, type ServerMirror, serverMirrors } from "../fetch/mirror.ts";
import { publicUrl } from "../fetch/failure.ts";
import { makeSnapshots } from "../fetch/snapshot.ts";
import type { FetchEvent, FetchOptions } from "../fetch/types.ts";
import { DISTFILES_DIR } from "../format/bundle.ts";
import { UNWATCHED } from "../progress.ts";
import { writing } from "../refused.ts";
import { counted } from "../text.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { openCheckout } from "../tree/checkout.ts";
import { type MirroredFile, type NameConflict, readMirroredFiles } from "../tree/mirrored.ts";
import { USER_AGENT } from "../version.ts";
import { type DistfileEvents, locateRight } from "./distfiles.ts";
import {
  inMirror,
  MIRROR_INDEX,
  MIRROR_SUMS,
  type MirrorFile,
  MirrorPlace,
  sumsText,
} from "./mirror_place.ts";
import { severalAtOnce } from "./several.ts";

/** Files that are copied at once: each is synced, which is a wait. */
const TAKEN_AT_ONCE = 8;

/** So many names are in a notice. */
const MOST_NAMED = 5;

/** What to mirror, and how. */
export interface MirrorRequest {
  /** The checkout. */
  readonly tree: string;
  /** Directory of the mirror; made where there is none. */
  readonly dest: string;
  /** Directory that keeps clones of repositories; in the mirror if absent. */
  readonly state?: string | undefined;
  /** A store that may have files. */
  readonly store: string;
  /** Asked for what the files' own URLs do not have. */
  readonly mirrors: readonly Mirror[];
  /** Number of simultaneous downloads. */
  readonly jobs: number;
  /** Most bytes a second of all downloads together; git is not limited. No limit if absent. */
  readonly bytesPerSecond?: number | undefined;
  /** Whether files are removed that seedstrap has put there and no step names any more. */
  readonly prunes: boolean;
}

/**
 * What upstream should mend: a URL or repository that does not answer with its file, a repository
 * that has lost a reference, what has other bytes now, or a name that is used for two files.
 */
export interface MirrorFinding {
  readonly kind: "dead" | "lost" | "changed" | "conflict";
  readonly name: string;
  readonly sha256: string;
  /** `steps/NAME/sources:LINE`. */
  readonly where: string;
  /** The URL, without password; that of a repository has `~REFERENCE` at its end. */
  readonly source: string;
  /** What came of it, as short plain text. */
  readonly answer: string;
  /** Whether the mirror has the file all the same. */
  readonly isMirrored: boolean;
}

/** What has become of a mirror. */
export interface MirrorReport {
  readonly dest: string;
  /** All that it has now. */
  readonly files: readonly MirrorFile[];
  /** Names of those that this run has put there. */
  readonly added: readonly string[];
  /** Names that no step has any more; removed where that was asked for. */
  readonly stale: readonly string[];
  readonly isPruned: boolean;
  /** Names of the files that could not be had. */
  readonly missing: readonly string[];
  readonly findings: readonly MirrorFinding[];
}

/**
 * Makes a mirror, or brings it up to date.
 *
 * @returns What it has, also where files are missing.
 * @throws {UserError} "tree" for the checkout; "usage" for distfiles/ of it; "target" where the mirror
 * cannot be written; "interrupt".
 */
export async function makeMirror(
  request: MirrorRequest,
  events: DistfileEvents,
  signal: AbortSignal,
): Promise<MirrorReport> {
  const root = openCheckout(request.tree);
  const { wanted, unusable } = wantedOf(root, events);
  const ofTree = join(root, DISTFILES_DIR);
  if (resolve(request.dest) === ofTree) {
    throw new UserError("usage", `Cannot make a mirror in ${DISTFILES_DIR}/ of the checkout`, {
      where: ofTree,
      hint: "Builds carry every file there, also those of a mirror: name another directory; " +
        `seedstrap fetch --to ${DISTFILES_DIR} puts distfiles there`,
    });
  }
  const place = MirrorPlace.open(request.dest);
  try {
    return await new Mirroring(root, wanted, place, request, events, signal).run(unusable);
  } finally {
    place.close();
  }
}

/**
 * Reads what a mirror of a checkout has to have, and says what cannot be in one.
 *
 * @throws {UserError} "tree"
 */
export function wantedOf(
  root: string,
  { onNotice }: DistfileEvents,
): { readonly wanted: readonly MirroredFile[]; readonly unusable: readonly MirrorFinding[] } {
  const { files, conflicts } = readMirroredFiles(
    root,
    (where, what) => onNotice?.(`${where}: ${what}`),
  );
  const isOwn = ({ name }: MirroredFile) => name === MIRROR_SUMS || name === MIRROR_INDEX;
  return {
    wanted: files.filter((file) => !isOwn(file)),
    unusable: [...conflicts.map(conflictFinding), ...files.filter(isOwn).map(ownNameFinding)],
  };
}

/** Sorts findings by the names of steps and the numbers of lines. */
export function byLine(a: MirrorFinding, b: MirrorFinding): number {
  return COLLATOR.compare(a.where, b.where);
}

const COLLATOR = new Intl.Collator("en", { numeric: true });

/** One run. */
class Mirroring {
  readonly #findings: MirrorFinding[] = [];
  readonly #added = new Map<string, MirrorFile>();

  constructor(
    readonly root: string,
    readonly wanted: readonly MirroredFile[],
    readonly place: MirrorPlace,
    readonly request: MirrorRequest,
    readonly events: DistfileEvents,
    readonly signal: AbortSignal,
  ) {}

  async run(unusable: readonly MirrorFinding[]): Promise<MirrorReport> {
    const { place, wanted, request, events, signal } = this;
    const names = new Set(wanted.map(({ name }) => name));
    const others = place.made().filter(({ name }) => !names.has(name));
    const right = await place.verified(
      [...wanted, ...others],
      events.progress ?? UNWATCHED,
      signal,
    );
    const present = new Set(right.map(({ name }) => name));
    const absent = wanted.filter(({ name }) => !present.has(name));
    const other = absent.filter(({ name }) => isTaken(place.pathOf(name)));
    if (absent.length > 0) {
      place.announce(absent);
      await this.#takeLocal(absent);
      await this.#askUrls(this.#open(absent));
      await this.#askRepositories(this.#open(absent));
      await this.#askMirrors(this.#open(absent));
    }
    this.#tellReplaced(other);
    const stale = right.filter(({ name }) => !names.has(name));
    if (request.prunes) place.prune(stale);
    const all = new Map([...right, ...this.#added.values()].map((file) => [file.name, file]));
    const kept = [...wanted, ...request.prunes ? [] : stale]
      .flatMap(({ name }) => all.get(name) ?? []);
    place.write(MIRROR_SUMS, sumsText(kept));
    const listed = kept.map((file) => ({ ...file, href: hrefOf(file.name) }));
    const sums = { name: MIRROR_SUMS, href: hrefOf(MIRROR_SUMS) };
    const title = `Distfiles of live-bootstrap: ${counted(kept.length, "file")}`;
    place.write(MIRROR_INDEX, indexPage({ title, entries: [sums, ...listed] }));
    const open = this.#open(absent);
    place.tidy(new Set(open.map(({ sha256 }) => sha256)));
    const missing = open.map(({ name }) => name);
    const lost = new Set(missing);
    return {
      dest: place.dir,
      files: kept,
      added: wanted.flatMap(({ name }) => this.#added.has(name) ? [name] : []),
      stale: stale.map(({ name }) => name),
      isPruned: request.prunes,
      missing,
      findings: [
        ...unusable,
        ...this.#findings.toSorted(byLine).map((found) => ({
          ...found,
          isMirrored: !lost.has(found.name),
        })),
      ],
    };
  }

  /** Tells of files that were there with other bytes than the steps want. */
  #tellReplaced(files: readonly MirroredFile[]): void {
    const replaced = files.filter(({ name }) => this.#added.has(name));
    for (const [some, what] of [[replaced, "replaced"], [this.#open(files), "left"]] as const) {
      if (some.length === 0) continue;
      const first = some.slice(0, MOST_NAMED).map(({ name }) => name).join(", ");
      const more = some.length > MOST_NAMED ? ` and ${some.length - MOST_NAMED} more` : "";
      this.events.onNotice?.(`with other bytes than the steps want, and ${what}: ${first}${more}`);
    }
  }

  #open(files: readonly MirroredFile[]): MirroredFile[] {
    return files.filter(({ name }) => !this.#added.has(name));
  }

  /** Takes what this machine has: in the checkout, the store, or a directory. */
  async #takeLocal(files: readonly MirroredFile[]): Promise<void> {
    const { place, root, request, events, signal } = this;
    const { located } = await locateRight(files, { root, ...request }, events, signal);
    const groups = Map.groupBy(files, ({ sha256 }) => sha256);
    const pieces = [...groups].flatMap(([sha256, alike]) => {
      const file = alike.map(({ name }) => located.get(name)).find((file) => file !== undefined);
      return file === undefined ? [] : [async (signal: AbortSignal) => {
        if (await place.take(file, sha256, signal)) this.#settle(sha256, alike);
      }];
    });
    await severalAtOnce(TAKEN_AT_ONCE, pieces, signal);
  }

  async #askUrls(files: readonly MirroredFile[]): Promise<void> {
    // The last answer of each URL of each file.
    const failed = new Map<string, Extract<FetchEvent, { kind: "failed-attempt" }>>();
    await this.#fetch(files, [], (event) => {
      if (event.kind === "failed-attempt") failed.set(`${event.name} ${event.url}`, event);
      else if (event.kind === "done") failed.delete(`${event.name} ${event.url}`);
    });
    const byDigest = Map.groupBy(files, ({ sha256 }) => sha256);
    for (const { name, url, answer, fault } of failed.values()) {
      const { sha256 } = files.find((file) => file.name === name)!;
      for (const file of byDigest.get(sha256)!) {
        for (const { url: given, where } of file.urls) {
          if (publicUrl(given) !== url) continue;
          this.#findings.push({
            kind: fault === "digest" ? "changed" : "dead",
            name: file.name,
            sha256,
            where,
            source: url,
            answer,
            isMirrored: false,
          });
        }
      }
    }
  }

  /** Makes the snapshots of git references, several repositories at once. */
  async #askRepositories(files: readonly MirroredFile[]): Promise<void> {
    const snapshots = files.flatMap((file) =>
      file.git.map(({ url, reference, where }) => ({ ...file, url, reference, where }))
    );
    if (snapshots.length === 0) return;
    const { place, request, events } = this;
    const state = resolve(request.state ?? place.work);
    writing(state, () => mkdirSync(state, { recursive: true }), "directory with --state");
    const byDigest = Map.groupBy(files, ({ sha256 }) => sha256);
    const repositories = Map.groupBy(snapshots, ({ url }) => url);
    const pieces = [...repositories].map(([url, wanted]) => async (signal: AbortSignal) => {
      const shown = publicUrl(url);
      events.progress?.begin(`git ${shown}`);
      await makeSnapshots(wanted.filter(({ name }) => !this.#added.has(name)), {
        state,
        store: place.work,
        signal,
        onWait: (pid) =>
          events.onNotice?.(`${shown}: waiting for process ${pid}, which is cloning it`),
        onDone: ({ name, sha256 }) => {
          if (!this.#added.has(name)) this.#settle(sha256, byDigest.get(sha256)!);
        },
        onFailure: ({ name, sha256, reference, where }, { kind, message: answer }) => {
          const source = `${shown}~${reference}`;
          this.#findings.push({ kind, name, sha256, where, source, answer, isMirrored: false });
        },
      });
    });
    await severalAtOnce(request.jobs, pieces, this.signal);
  }

  async #askMirrors(files: readonly MirroredFile[]): Promise<void> {
    const mirrors = serverMirrors(this.request.mirrors);
    if (mirrors.length === 0) return;
    await this.#fetch(files.map((file) => ({ ...file, urls: [] })), mirrors);
  }

  /** Downloads files; what several names have in common is downloaded once. */
  async #fetch(
    files: readonly MirroredFile[],
    mirrors: readonly ServerMirror[],
    onEvent: (event: FetchEvent) => void = () => {},
  ): Promise<void> {
    const groups = Map.groupBy(files, ({ sha256 }) => sha256);
    const wanted = [...groups.values()].map((alike) => ({
      name: alike[0]!.name,
      sha256: alike[0]!.sha256,
      urls: [...new Set(alike.flatMap(({ urls }) => urls.map(({ url }) => url)))],
    })).filter(({ urls }) => urls.length > 0 || mirrors.length > 0);
    if (wanted.length === 0) return;
    const digests = new Map(wanted.map(({ name, sha256 }) => [name, sha256]));
    const { work } = this.place;
    const options: FetchOptions = {
      store: work,
      mirrors,
      jobs: this.request.jobs,
      bytesPerSecond: this.request.bytesPerSecond,
      userAgent: USER_AGENT,
      signal: this.signal,
      onProgress: (event) => {
        this.events.onFetch?.(event);
        onEvent(event);
        if (event.kind !== "done") return;
        const sha256 = digests.get(event.name)!;
        this.#settle(sha256, groups.get(sha256)!);
      },
    };
    await inMirror(work, () => fetchAll(wanted, options));
  }

  #settle(sha256: string, files: readonly MirroredFile[]): void {
    const sizeBytes = this.place.settle(sha256, files.map(({ name }) => name));
    for (const { name } of files) this.#added.set(name, { name, sha256, sizeBytes });
  }
}

/**
 * Reports whether something has the path of a file.
 *
 * @throws {UserError} "target" for a directory, which no file can replace.
 */
function isTaken(path: string): boolean {
  const stat = lstatIfThere(path);
  if (stat?.isDirectory() !== true) return stat !== undefined;
  throw new UserError("target", `Cannot replace ${path}: it is a directory`, {
    where: path,
    hint: "Move it away: a distfile has this name",
  });
}

function conflictFinding({ name, sha256, where, first }: NameConflict): MirrorFinding {
  return {
    kind: "conflict",
    name,
    sha256,
    where,
    source: name,
    answer: `${first.where} wants SHA-256 ${first.sha256} under this name`,
    isMirrored: false,
  };
}

function ownNameFinding({ name, sha256, lines }: MirroredFile): MirrorFinding {
  const answer = "a mirror has a file of its own under this name";
  return {
    kind: "conflict",
    name,
    sha256,
    where: lines[0]!,
    source: name,
    answer,
    isMirrored: false,
  };
}

/** Returns the error for a mirror that lacks files. */
export function mirrorError({ dest, files, missing, findings }: MirrorReport): UserError {
  const all = files.length + missing.length;
  const conflicts = findings.filter(({ kind }) => kind === "conflict");
  const parts = [
    ...(missing.length === 0
      ? []
      : [`${missing.length} of ${counted(all, "file")} could not be had`]),
    ...(conflicts.length === 0
      ? []
      : [`${counted(conflicts.length, "file")} cannot have the name that a step gives`]),
  ];
  return new UserError("fetch", `The mirror is not complete: ${parts.join(", ")}`, {
    where: dest,
    hint: "Run again to go on; give another mirror (-m), or put the files into the directory",
  });
}

/** Whether everything that the steps name is in the mirror. */
export function isComplete({ missing, findings }: MirrorReport): boolean {
  return missing.length === 0 && findings.every(({ kind }) => kind !== "conflict");
}
