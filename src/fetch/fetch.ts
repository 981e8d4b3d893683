// SPDX-License-Identifier: MIT
/**
 * Fetches all distfiles of a build and verifies each by its SHA-256.
 *
 * @module
 */
import { mkdir } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { messageOf, systemCode, UserError } from "../errors.ts";
import { statIfThere } from "../runtime/stat.ts";
import { alternatives, HostHealth } from "./alternatives.ts";
import { Connections } from "./connections.ts";
import { download, MAX_DISTFILE_BYTES } from "./download.ts";
import { MirrorLogins } from "./logins.ts";
import { bareUrl, plainText, publicUrl, UrlFailure } from "./failure.ts";
import { local } from "./part.ts";
import { RateLimit } from "./rate.ts";
import { type Candidate, checkDistfileName, locateStored, takeOver, verifyFile } from "./store.ts";
import { takeTurn, tidyStore } from "./turn.ts";
import type {
  Attempt,
  Fault,
  Fetched,
  FetchEvent,
  FetchOptions,
  FetchReport,
  Wanted,
} from "./types.ts";

const DEFAULT_JOBS = 8;
const DEFAULT_STALL_MS = 20_000;
const DEFAULT_RETRY_DELAY_MS = 1000;

/** Longest rest that a server asks for and gets; for a longer one it is not asked again. */
const MAX_REST_MS = 120_000;

/** Number of rounds in which URLs with temporary failures are asked again. */
const RETRY_ROUNDS = 2;

/** A wanted file and the state of its fetch. */
interface Task extends Wanted {
  found: Fetched | undefined;
  /** By public URL, in the order first tried. */
  readonly attempts: Map<string, Attempt>;
  /** URLs to try again. */
  again: string[];
  /** The file in the store that was looked at and is wrong. */
  looked: string | undefined;
  /** Why the store could not take it, if so. */
  noRoom: UserError | undefined;
}

/** The state that all tasks share. */
interface Run {
  readonly rate: RateLimit | undefined;
  readonly options: FetchOptions;
  readonly store: string;
  readonly health: HostHealth;
  readonly connections: Connections;
  readonly logins: MirrorLogins;
  readonly signal: AbortSignal;
  readonly tell: (event: FetchEvent) => void;
}

/**
 * Gets every wanted file into the store, from the first source whose bytes have the right SHA-256:
 * the store itself, mirrors in random order, the file's own URLs.
 *
 * A file that cannot be fetched stops nothing; it is in the report. URLs with a temporary failure
 * are asked again after all other files.
 *
 * @param wanted Each name once.
 * @throws {UserError} "tree" for a bad name; "target" if the store fails; "interrupt" if
 * `options.signal` is aborted.
 */
export async function fetchAll(
  wanted: readonly Wanted[],
  options: FetchOptions,
): Promise<FetchReport> {
  const tasks = wanted.map(taskOf);
  const stop = new AbortController();
  const interrupt = () => stop.abort(interrupted(options.signal?.reason));
  if (options.signal?.aborted) interrupt();
  options.signal?.addEventListener("abort", interrupt, { once: true });
  const run: Run = {
    options,
    store: resolve(options.store),
    health: new HostHealth(),
    connections: new Connections(),
    logins: new MirrorLogins(options.mirrors, options.userAgent),
    signal: stop.signal,
    rate: options.bytesPerSecond === undefined ? undefined : new RateLimit(options.bytesPerSecond),
    tell: options.onProgress ?? (() => {}),
  };
  run.tell({ kind: "begin", files: tasks.length });
  try {
    await eachOf(tasks, options, stop, (task) => firstRound(task, run));
    for (let round = 1; round <= RETRY_ROUNDS; round++) {
      const open = tasks.filter((task) => task.again.length > 0);
      if (open.length === 0) break;
      // Not all at the same moment, if many machines have met the same failure.
      const jitter = 0.5 + (options.random ?? Math.random)();
      const delayMs = (options.retryDelayMs ?? DEFAULT_RETRY_DELAY_MS) * 2 ** (round - 1);
      await pause(delayMs * jitter, run.signal);
      await eachOf(open, options, stop, (task) => nextRound(task, run));
    }
  } finally {
    options.signal?.removeEventListener("abort", interrupt);
    run.connections.close();
    run.tell({ kind: "end" });
  }
  await tidyStore(run.store);
  // What another URL might have had does not matter then: the next run would end in the same way.
  const full = tasks.find(({ found, noRoom }) => found === undefined && noRoom !== undefined);
  if (full?.noRoom !== undefined) throw full.noRoom;
  return {
    store: run.store,
    files: new Map(tasks.flatMap(({ name, found }) => found ? [[name, found] as const] : [])),
    failures: tasks.filter(({ found }) => found === undefined)
      .map(({ name, sha256, attempts }) => ({ name, sha256, attempts: [...attempts.values()] })),
  };
}

function taskOf({ name, sha256, urls }: Wanted): Task {
  checkDistfileName(name);
  return {
    name,
    sha256,
    urls,
    found: undefined,
    attempts: new Map(),
    again: [],
    looked: undefined,
    noRoom: undefined,
  };
}

/** Calls `work` for each task, several at a time; an error stops the others. */
async function eachOf(
  tasks: readonly Task[],
  { jobs = DEFAULT_JOBS }: FetchOptions,
  stop: AbortController,
  work: (task: Task) => Promise<void>,
): Promise<void> {
  const queue = tasks.values();
  const worker = async () => {
    try {
      for (const task of queue) { // all workers draw from the same iterator
        stop.signal.throwIfAborted();
        await work(task);
      }
    } catch (error) {
      stop.abort(error);
    }
  };
  const count = Math.max(1, Math.min(Math.floor(jobs) || 1, tasks.length));
  await Promise.all(Array.from({ length: count }, worker));
  stop.signal.throwIfAborted();
}

async function firstRound(task: Task, run: Run): Promise<void> {
  if (await tryStore(task, run)) return;
  const random = run.options.random ?? Math.random;
  const urls = alternatives(
    task,
    task.urls,
    run.options.mirrors,
    random,
    (url) => run.health.weight(url),
  );
  if (urls.length > 0) await local(run.store, () => mkdir(run.store, { recursive: true }));
  await tryUrls(task, urls, run, false);
}

async function nextRound(task: Task, run: Run): Promise<void> {
  const urls = task.again.filter((url) => !run.health.seemsDead(url));
  task.again = [];
  await tryUrls(task, urls, run, true);
}

/** Takes the file from the store if it is there and verified. */
async function tryStore(task: Task, run: Run): Promise<boolean> {
  const candidates = await locateStored(task, run.store);
  const looked = candidates.map(({ path }) => identityOf(path)).join("\n");
  if (looked === task.looked) return false;
  task.looked = looked;
  for (const candidate of candidates) {
    if (await tryStored(candidate, task, run)) return true;
  }
  return false;
}

async function tryStored(candidate: Candidate, task: Task, run: Run): Promise<boolean> {
  const url = pathToFileURL(candidate.path).href;
  try {
    const { ok, got, sizeBytes } = await verifyFile(candidate.path, task.sha256, run.signal);
    if (ok) {
      const path = await takeOver(run.store, candidate.path, task.sha256);
      finish(task, { path, sizeBytes, source: pathToFileURL(path).href }, run);
    } else note(task, url, `wrong SHA-256: got ${got}, ${sizeBytes} bytes`, "digest", run);
    return ok;
  } catch (error) {
    run.signal.throwIfAborted();
    if (systemCode(error) === undefined) throw error;
    note(task, url, plainText(messageOf(error)), "other", run);
    return false;
  }
}

/** Tells a file from one that has replaced it. */
function identityOf(path: string): string {
  const stat = statIfThere(path);
  return `${stat?.dev} ${stat?.ino} ${stat?.size} ${stat?.mtimeMs} ${stat?.ctimeMs}`;
}

/** Waits until no other process fetches the file, then tries the URLs until one delivers it. */
async function tryUrls(
  task: Task,
  urls: readonly string[],
  run: Run,
  waits: boolean,
): Promise<void> {
  if (urls.length === 0) return;
  const turn = await takeTurn(run.store, task.sha256, {
    signal: run.signal,
    onWait: (pid) => run.tell({ kind: "wait", name: task.name, pid }),
  });
  try {
    // Another process may have fetched it since the store was looked at, and be done already.
    if (await tryStore(task, run)) return;
    await askUrls(task, urls, run, waits);
  } finally {
    turn.release();
  }
}

/** @param waits Whether the rest that a server asks for is waited for, or its URL put off. */
async function askUrls(
  task: Task,
  urls: readonly string[],
  run: Run,
  waits: boolean,
): Promise<void> {
  const order = run.health.deadLast(urls);
  for (const [index, url] of order.entries()) {
    const shown = shownUrl(task, url);
    if (!await mayAsk(task, url, run, waits)) continue;
    if (task.attempts.has(shown)) run.tell({ kind: "retry", name: task.name, url: shown });
    try {
      const { path, sizeBytes, finalUrl } = await downloadFrom(
        task,
        url,
        run,
        // Later there is no other.
        waits ? [] : order.slice(index + 1),
      );
      // A part of an earlier run was already whole: its URL is not known.
      if (finalUrl === undefined) {
        return finish(task, { path, sizeBytes, source: pathToFileURL(path).href }, run);
      }
      run.health.answered(url);
      run.health.judged(url, true);
      const redirectedTo = bareUrl(finalUrl);
      const isSame = publicUrl(finalUrl) === new URL(publicUrl(url)).href;
      return finish(
        task,
        { path, sizeBytes, source: shown, ...(!isSame && { redirectedTo }) },
        run,
      );
    } catch (error) {
      if (!(error instanceof UrlFailure)) throw error;
      run.health.judged(url, false);
      if (error.hostDown) run.health.down(url);
      else run.health.answered(url);
      if (error.restMs !== undefined) run.health.rest(url, error.restMs);
      if (error.noRoom !== undefined) task.noRoom = error.noRoom;
      if (error.transient) task.again.push(url);
      const fault = error.hostDown ? "host" : error.isWrong ? "digest" : "other";
      note(task, shown, error.message, fault, run);
    }
  }
}

/** Waits until the server of a URL may be asked, or puts the URL off, or gives it up. */
async function mayAsk(task: Task, url: string, run: Run, waits: boolean): Promise<boolean> {
  // Others ask the same server meanwhile, and it may want another rest.
  for (let restMs = run.health.restMs(url); restMs > 0; restMs = run.health.restMs(url)) {
    if (restMs > MAX_REST_MS) {
      const shown = shownUrl(task, url);
      const rest = `Retry-After ${Math.ceil(restMs / 1000)} s`;
      if (!task.attempts.has(shown)) {
        note(task, shown, `not asked: the server said ${rest}`, "other", run);
      }
      return false;
    }
    if (!waits) {
      task.again.push(url);
      return false;
    }
    await pause(restMs, run.signal);
  }
  return true;
}

/** Returns a URL as it may be shown and recorded; the query of a mirror's may be a key. */
function shownUrl(task: Task, url: string): string {
  return task.urls.includes(url) ? publicUrl(url) : bareUrl(url);
}

/** @param others URLs that are asked after this one. */
async function downloadFrom(
  task: Task,
  url: string,
  run: Run,
  others: readonly string[],
): ReturnType<typeof download> {
  const shown = shownUrl(task, url);
  const { userAgent, stallMs, maxBytes } = run.options;
  let kind: "start" | "bytes" = "start";
  const began = performance.now();
  let [startBytes, lastBytes]: (number | undefined)[] = [];
  try {
    return await download({ name: task.name, sha256: task.sha256, url, shownUrl: shown }, {
      store: run.store,
      userAgent,
      stallMs: stallMs ?? DEFAULT_STALL_MS,
      maxBytes: maxBytes ?? MAX_DISTFILE_BYTES,
      signal: run.signal,
      // A checkout that names what a mirror has does not ask with the user's credentials.
      headers: task.urls.includes(url) ? undefined : run.logins.headersOf(url, "GET"),
      rate: run.rate,
      isOutdone: (bytes, ms, leftBytes) =>
        run.health.isOutdone(url, { bytes, ms }, others, leftBytes),
      connections: run.connections,
      onBytes(bytes, total) {
        startBytes ??= bytes;
        lastBytes = bytes;
        run.tell({ kind, name: task.name, url: shown, bytes, total });
        kind = "bytes";
      },
    });
  } finally {
    if (startBytes !== undefined && lastBytes! > startBytes) {
      run.health.sent(url, lastBytes! - startBytes, performance.now() - began);
    }
  }
}

function note(task: Task, url: string, answer: string, fault: Fault, run: Run): void {
  const tries = (task.attempts.get(url)?.tries ?? 0) + 1;
  task.attempts.set(url, { url, answer, fault, tries });
  run.tell({ kind: "failed-attempt", name: task.name, url, answer, fault });
}

function finish(task: Task, found: Fetched, run: Run): void {
  task.found = found;
  task.again = [];
  const { source: url, sizeBytes } = found;
  run.tell({ kind: "done", name: task.name, url, bytes: sizeBytes, total: sizeBytes });
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted(); // the reason says more than "aborted"
    throw error;
  }
}

function interrupted(reason: unknown): UserError {
  if (reason instanceof UserError) return reason;
  return new UserError("interrupt", "Fetching was interrupted", {
    hint: "Run again to continue where it stopped",
    cause: reason,
  });
}
