// SPDX-License-Identifier: MIT
/**
 * Serves a mirror: a directory, the store, or the distfiles of a checkout.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { distfileNameFault } from "../fetch/distfile_name.ts";
import { type FileServer, type Finder, type Served, startServer } from "../fetch/http_server.ts";
import { directoryFinder, firstOf, type NamedFile, namedFinder } from "../fetch/served.ts";
import { DIGESTS_DIR, storePath } from "../fetch/store.ts";
import { formatSums, parseSums } from "../format/sums.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { readWholeText } from "../read.ts";
import { lstatIfThere, statIfThere } from "../runtime/stat.ts";
import { readEveryDistfile } from "../tree/model.ts";
import { locateRight } from "./distfiles.ts";
import { MIRROR_SUMS } from "./mirror_place.ts";
import { listStore } from "./store.ts";

/** What to serve, and where. */
export interface ServeRequest {
  /** A directory, a store, a checkout, or a bundle. */
  readonly place: string;
  /** Where distfiles of a checkout may be, besides its distfiles/. */
  readonly store: string;
  readonly host: string;
  readonly port: number;
}

/** Told what happens. */
export interface ServeEvents {
  /** Told once, when it listens: what is served, and how many files it is, where that is known. */
  readonly onStart?: (server: FileServer, what: ServedKind, files: number | undefined) => void;
  readonly onServed?: (served: Served) => void;
  readonly onNotice?: (text: string) => void;
  readonly progress?: Progress;
}

/** What a place is. */
export type ServedKind = "directory" | "store" | "checkout";

/** An answer that has begun goes on for so long after the end was asked for. */
const GRACE_MS = 10_000;
/** Longer than any list of a mirror. */
const MAX_SUMS_BYTES = 16 * 1024 * 1024;

/**
 * Serves until the signal is raised; answers that have begun then come to their end.
 *
 * @throws {UserError} "target" where there is nothing to serve; "launch" where it cannot listen.
 */
export async function serveMirror(
  { place, store, host, port }: ServeRequest,
  events: ServeEvents,
  signal: AbortSignal,
): Promise<void> {
  const at = resolve(place);
  const kind = kindOf(at);
  const { find, files } = kind === "directory"
    ? { find: await directoryOf(at), files: undefined }
    : kind === "store"
    ? storeOf(at)
    : await checkoutOf(at, store, events, signal);
  signal.throwIfAborted();
  const server = await startServer(find, {
    host,
    port,
    hint: (isInUse) =>
      isInUse
        ? "Another process uses it: name another with --listen"
        : "Name another with --listen",
    ...(events.onServed && { onServed: events.onServed }),
  });
  try {
    events.onStart?.(server, kind, files);
    await new Promise<void>((end) => {
      if (signal.aborted) end();
      signal.addEventListener("abort", () => end(), { once: true });
    });
  } finally {
    await server.close(GRACE_MS);
  }
}

function kindOf(place: string): ServedKind {
  const found = statIfThere(place);
  if (found?.isFile()) return "checkout";
  if (found?.isDirectory() !== true) {
    throw new UserError("target", `Cannot serve ${place}: there is no such directory`, {
      where: place,
      hint: "Name a directory, the store, a checkout or a bundle",
    });
  }
  if (statIfThere(join(place, "steps/manifest")) !== undefined) return "checkout";
  return lstatIfThere(join(place, DIGESTS_DIR))?.isDirectory() ? "store" : "directory";
}

/** A directory, whose SHA256SUMS tell the digests of files that are older than it. */
async function directoryOf(dir: string): Promise<Finder> {
  const path = join(dir, MIRROR_SUMS);
  const read = () => {
    const found = statIfThere(path);
    if (found?.isFile() !== true || found.size > MAX_SUMS_BYTES) return undefined;
    const sums = parseSums(readWholeText(path, { limitBytes: MAX_SUMS_BYTES }));
    return { mtimeMs: found.mtimeMs, sums };
  };
  let known = read();
  return await directoryFinder(dir, dir, (name) => {
    const now = statIfThere(path)?.mtimeMs;
    if (now !== known?.mtimeMs) known = read();
    const sha256 = known?.sums.get(name);
    if (sha256 === undefined) return undefined;
    const changed = statIfThere(join(dir, name))?.mtimeMs ?? Infinity;
    return changed <= known!.mtimeMs ? sha256 : undefined;
  });
}

/**
 * A store: each file by its digest, as `/sha256/AB/SHA256`, and by the name under which it was
 * downloaded, where only one has it.
 */
function storeOf(store: string): { readonly find: Finder; readonly files: number } {
  const byName = () => {
    const files = listStore(store).files.filter(({ name }) =>
      name !== undefined && distfileNameFault(name) === undefined
    );
    const groups = Map.groupBy(files, ({ name }) => name!);
    return new Map(
      [...groups].flatMap(([name, [file, other]]) =>
        other === undefined ? [[name, file!] as const] : []
      ),
    );
  };
  let names = byName();
  const named = namedFinder(
    (name) => {
      const file = names.get(name);
      if (file !== undefined && lstatIfThere(file.path) !== undefined) return file;
      // It may have come since.
      names = byName();
      return names.get(name);
    },
    {
      title: store,
      names: () => [...(names = byName()).keys()].sort(),
    },
  );
  const byDigest: Finder = (path) => {
    const [, shard, sha256] = /^\/sha256\/([0-9a-f]{2})\/([0-9a-f]{64})$/.exec(path) ?? [];
    if (sha256 === undefined || !sha256.startsWith(shard!)) return Promise.resolve(undefined);
    return namedFinder(() => ({ path: storePath(store, sha256), sha256 }))(`/${sha256}`);
  };
  return { find: firstOf(byDigest, named), files: names.size };
}

/** The distfiles of a checkout that are on this machine, verified when it starts. */
async function checkoutOf(
  root: string,
  store: string,
  { onNotice, progress = UNWATCHED }: ServeEvents,
  signal: AbortSignal,
): Promise<{ readonly find: Finder; readonly files: number }> {
  // Of two files with one name, that of steps/.
  const every = readEveryDistfile(root).map((file) => [file.name, file] as const).toReversed();
  const distfiles = [...new Map(every).values()];
  const places = { root, store, mirrors: [] };
  const events = { ...(onNotice && { onNotice }), progress };
  const { located } = await locateRight(distfiles, places, events, signal);
  const files = new Map<string, NamedFile>();
  let bundled = 0;
  for (const { name, sha256 } of distfiles) {
    const file = located.get(name);
    if (file?.bundled !== undefined) bundled++;
    else if (file !== undefined) files.set(name, { ...file, sha256 });
  }
  if (bundled > 0) {
    throw new UserError("usage", `Cannot serve ${root}: it is a bundle`, {
      where: root,
      hint: "Unpack it with seedstrap bundle unpack, and serve what is in it",
    });
  }
  const absent = distfiles.length - files.size;
  if (absent > 0) {
    onNotice?.(`${absent} of ${distfiles.length} distfiles are not here: seedstrap fetch`);
  }
  const sums = new TextEncoder().encode(
    formatSums([...files].map(([path, { sha256 }]) => ({ path, sha256: sha256! }))),
  );
  const named = namedFinder((name) => files.get(name), {
    title: root,
    names: () => [...files.keys()],
  });
  const sumsFinder: Finder = (path) =>
    Promise.resolve(
      path !== `/${MIRROR_SUMS}` ? undefined : {
        kind: "file",
        sizeBytes: sums.length,
        type: "text/plain; charset=utf-8",
        open: () =>
          Promise.resolve({
            read: (into: Uint8Array, offset: number) => {
              const part = sums.subarray(offset, offset + into.length);
              into.set(part);
              return Promise.resolve(part.length);
            },
            close: () => Promise.resolve(),
          }),
      },
    );
  return { find: firstOf(sumsFinder, named), files: files.size };
}
