// SPDX-License-Identifier: MIT
/**
 * Which distfiles the booted machine can download itself.
 *
 * @module
 */

import { type Mirror, serverMirrors } from "../fetch/mirror.ts";
import type { Distfile } from "../tree/distfiles.ts";
import { passScript } from "../tree/downloads.ts";
import type { ActiveLine } from "../tree/manifest.ts";
import type { TreeModel } from "../tree/model.ts";
import { guestMirrors } from "./config.ts";
import type { BuildOptions } from "./options.ts";
import type { Plan, PlannedDistfile, Reach } from "./types.ts";

/** What decides it besides the distfile. */
export interface Network {
  readonly manifest: TreeModel["manifest"];
  readonly distfiles: TreeModel["distfiles"];
  /** The URLs that a build line has for a distfile, by {@link urlKey}. */
  readonly urls: ReadonlyMap<string, readonly string[]>;
  /** The keys of lines that the machine does not read when it downloads. */
  readonly unread: ReadonlySet<string>;
  /** Index in `manifest.lines` of the line after which https works; Infinity if none is known. */
  readonly tls: number;
  /** The way that every mirror of the machine takes; undefined without mirrors. */
  readonly mirrors: "http" | "https" | undefined;
  /** The mirrors of this machine, from which what the other one cannot download is carried. */
  readonly sources: readonly Mirror[];
}

/** Finds out how the machine downloads under a configuration. */
export function networkOf(
  tree: TreeModel,
  options: BuildOptions,
  active: readonly ActiveLine[],
): Network {
  const urls = tree.downloads.asksMirrors ? guestMirrors(options) : [];
  const own = new Map<string, string[]>();
  const unread = new Set<string>();
  for (const { index, source: { fileName, url, isUnread } } of tree.sources) {
    const key = urlKey(index, fileName);
    if (isUnread) unread.add(key);
    if (url === "_" || isUnread) continue;
    const known = own.get(key);
    if (known === undefined) own.set(key, [url]);
    else known.push(url);
  }
  return {
    manifest: tree.manifest,
    distfiles: tree.distfiles,
    urls: own,
    unread,
    tls: findTls(tree, active),
    // It asks only one of them, at random.
    mirrors: urls.length === 0 ? undefined : urls.every(isHttp) ? "http" : "https",
    sources: options.mirrors,
  };
}

/** Finds the line after which there is a curl with TLS, and the certificates that it reads. */
function findTls({ downloads }: TreeModel, active: readonly ActiveLine[]): number {
  const builds = active.filter(({ line }) => line.kind === "build");
  const curl = builds.find(({ line, pass }) =>
    downloads.tlsScripts.includes(passScript(line.name, pass))
  );
  const certificates = builds.find(({ line }) => line.name.startsWith("ca-certificates-"));
  return curl === undefined ? Infinity : Math.max(curl.index, certificates?.index ?? 0);
}

function urlKey(index: number, fileName: string): string {
  return `${index}/${fileName}`;
}

/** Classes a distfile that the machine would download. */
export function reachOf({ name, uses }: Distfile, { urls, unread, tls, mirrors }: Network): Reach {
  const { index } = uses[0]!;
  // Only the sources of that step count: without the file, its build fails.
  const key = urlKey(index, name);
  const when = index <= tls ? "before TLS" : "after TLS";
  if (unread.has(key)) return { when, by: "nowhere", isUnread: true };
  const some = urls.get(key);
  const own = some === undefined ? undefined : some.some(isHttp) ? "http" : "https";
  const ways = [own, mirrors];
  return {
    when,
    by: ways.includes("http") ? "http" : ways.includes("https") ? "https" : "nowhere",
  };
}

/** Reports whether the machine can download a distfile. */
export function isReachable({ when, by }: Reach): boolean {
  return by === "http" || (by === "https" && when === "after TLS");
}

/** Says why the machine cannot download a distfile. */
export function obstacleOf({ by, isUnread }: Reach): string {
  if (isUnread) return "the machine does not read its line of sources, which has no newline";
  return by === "https"
    ? "only https has it, and the machine has no TLS yet"
    : "it has no URL, and the machine knows no mirror";
}

/**
 * Reports whether this machine has somewhere to get a distfile from.
 *
 * @param isHere Whether it has the file, also in a mirror that is a directory.
 */
export function isObtainable(
  { urls, isInNoMirror }: Pick<Distfile, "urls" | "isInNoMirror">,
  isHere: boolean,
  mirrors: readonly Mirror[],
): boolean {
  return isHere || urls.length > 0 || (isInNoMirror !== true && serverMirrors(mirrors).length > 0);
}

/** Where live-bootstrap lists mirrors. */
const MIRROR_LIST = "https://github.com/fosslinux/live-bootstrap/wiki/Mirrors";

/** Distfiles that a bootstrap would lack, and why. */
export interface ReachFault {
  readonly what: string;
  readonly names: readonly string[];
  readonly remedy: string;
}

/** Finds the distfiles that neither the machine can download nor the media have. */
export function reachFaults(
  { distfiles, options: { mirrors }, downloads }: Pick<
    Plan,
    "distfiles" | "options" | "downloads"
  >,
): ReachFault[] {
  const ways = new Map(downloads.map((download) => [download.name, download]));
  const lacking = (test: (distfile: PlannedDistfile, way: Reach | undefined) => boolean) =>
    distfiles.filter((distfile) => test(distfile, ways.get(distfile.name)))
      .map(({ name }) => name);
  const isAbsent = (file: PlannedDistfile) => !isObtainable(file, file.size !== null, mirrors);
  const source =
    `Name a mirror that has them (--mirrors; ${MIRROR_LIST} lists some), or put them into ` +
    "distfiles/ of the checkout";
  return [
    {
      what: "without a URL, and neither here nor in a mirror",
      names: lacking(isAbsent),
      remedy: source,
    },
    {
      what: "which the machine cannot download: no URL, and it knows no mirror",
      names: lacking((file, way) =>
        !isAbsent(file) && file.place === "network" && way?.by === "nowhere"
      ),
      remedy: "Leave out --payload never, so that they are carried",
    },
    {
      what: "which the machine needs before it has TLS, and which only https has",
      names: lacking((file, way) =>
        !isAbsent(file) && file.place === "network" && way?.by === "https" && !isReachable(way)
      ),
      remedy: "Leave out --payload never, so that they are carried, or use mirrors over http",
    },
  ].filter(({ names }) => names.length > 0);
}

/** Returns the part of a plan about what the machine would download. */
export function plannedDownloads(
  network: Network,
  distfiles: readonly PlannedDistfile[],
  { externalSources }: Pick<BuildOptions, "externalSources">,
): Pick<Plan, "downloads" | "tls"> {
  const { manifest, distfiles: all, tls } = network;
  const late = new Set(
    distfiles.filter(({ phase }) => phase === "network" && !externalSources)
      .map(({ name }) => name),
  );
  const line = manifest.lines[tls];
  return {
    downloads: all.filter(({ name }) => late.has(name))
      .map((distfile) => ({ name: distfile.name, ...reachOf(distfile, network) })),
    tls: line && `${line.name} (manifest line ${line.line})`,
  };
}

/**
 * Returns a note about distfiles that are carried because the machine cannot download them, where it
 * downloads others.
 */
export function carriedNote(
  distfiles: readonly PlannedDistfile[],
  downloads: Plan["downloads"],
): string[] {
  const carried = new Set(
    distfiles.filter(({ place }) => place !== "network").map(({ name }) => name),
  );
  if (carried.size === distfiles.length) return [];
  const some = downloads.filter(({ name }) => carried.has(name));
  if (some.length === 0) return [];
  const early = some.filter(({ by }) => by === "https").length;
  const parts = [
    [early, "that it needs before it has TLS and that only https has"],
    [some.length - early, "that have no URL or mirror"],
  ] as const;
  const which = parts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  return [`distfiles that the machine cannot download are carried: ${which.join(", ")}`];
}

function isHttp(url: string): boolean {
  return /^http:/i.test(url);
}
