// SPDX-License-Identifier: MIT
/**
 * The URLs that may have a file, and the order in which to ask them.
 *
 * @module
 */
import { hostOf } from "./failure.ts";
import { fileUrl, type ServerMirror } from "./mirror.ts";

/**
 * Returns the URLs to ask for a file: first the mirrors, in an order of their own for each file, so
 * that they share the load, then the file's own URLs in order. Each URL is in it once.
 *
 * @param weightOf How often a mirror comes first, beside the others.
 */
export function alternatives(
  file: { readonly name: string; readonly sha256: string },
  urls: readonly string[],
  mirrors: readonly ServerMirror[],
  random: () => number,
  weightOf: (url: string) => number = () => 1,
): string[] {
  const mirrored = mirrors.map((mirror) => fileUrl(mirror, file));
  return [...new Set([...shuffled(mirrored, random, weightOf), ...urls])];
}

/** Returns the items in a random order: each comes next as often as it weighs among those left. */
function shuffled<T>(
  items: readonly T[],
  random: () => number,
  weigh: (item: T) => number,
): T[] {
  const left = items.map((item) => ({ item, weight: weigh(item) }));
  const order: T[] = [];
  while (left.length > 0) {
    let point = (1 - random()) * left.reduce((sum, { weight }) => sum + weight, 0);
    const at = left.findIndex(({ weight }) => (point -= weight) <= 0);
    const [next] = left.splice(at < 0 ? left.length - 1 : at, 1);
    order.push(next!.item);
  }
  return order;
}

/** A host counts no longer as what it was: the last megabytes weigh as much as all before. */
const MEMORY_BYTES = 8 * 1024 * 1024;
/** A host that is so many times slower than another is left for that, in the middle of a body. */
const SLOWER = 4;
/** What another host would save has to be worth a new request. */
const WORTH_MS = 3000;

/** What came from a host, and in which time. */
interface Speed {
  bytes: number;
  ms: number;
}

/** How many files a host has had, and how many not. */
interface Standing {
  had: number;
  missed: number;
}

/**
 * Remembers how hosts did in this fetch: which do not answer, so that a dead mirror costs a few
 * timeouts and not one for every file; and how fast they are.
 */
export class HostHealth {
  readonly #speeds = new Map<string, Speed>();
  readonly #records = new Map<string, Standing>();
  /** Failures in a row, by origin. */
  readonly #failures = new Map<string, number>();
  /** When a host may be asked again, by origin. */
  readonly #restUntil = new Map<string, number>();

  /** Notes whether a host has had a file. */
  judged(url: string, had: boolean): void {
    const record = this.#records.get(hostOf(url)) ?? { had: 0, missed: 0 };
    this.#records.set(hostOf(url), record);
    if (had) record.had++;
    else record.missed++;
  }

  /** Notes that a host has sent so many bytes in a time, from the request on. */
  sent(url: string, bytes: number, ms: number): void {
    const speed = this.#speeds.get(hostOf(url)) ?? { bytes: 0, ms: 0 };
    this.#speeds.set(hostOf(url), speed);
    speed.bytes += bytes;
    speed.ms += ms;
    if (speed.bytes <= MEMORY_BYTES) return;
    speed.bytes /= 2;
    speed.ms /= 2;
  }

  /** Bytes a millisecond of a host; undefined where nothing came from it yet. */
  #rateOf(url: string): number | undefined {
    const speed = this.#speeds.get(hostOf(url));
    return speed === undefined || speed.ms === 0 ? undefined : speed.bytes / speed.ms;
  }

  /**
   * How much of the load a host gets beside others, by its rate and by how often it has had a file;
   * one that is not known gets as much as the fastest.
   */
  weight(url: string): number {
    const rates = [...this.#speeds.keys()].map((host) => this.#rateOf(host) ?? 0);
    const rate = this.#rateOf(url) ?? (Math.max(0, ...rates) || 1);
    const { had, missed } = this.#records.get(hostOf(url)) ?? { had: 0, missed: 0 };
    return Math.max(rate * (had + 1) / (had + missed + 1), Number.MIN_VALUE);
  }

  /**
   * Reports whether a body had better come from another URL: that of a host that is known to be much
   * faster, and saves more than a new request costs.
   *
   * @param url Where it comes from, so many bytes in a time.
   * @param others The other URLs that have not failed.
   * @param leftBytes Of the body.
   */
  isOutdone(
    url: string,
    { bytes, ms }: { readonly bytes: number; readonly ms: number },
    others: readonly string[],
    leftBytes: number,
  ): boolean {
    const rates = others.filter((other) => hostOf(other) !== hostOf(url))
      .filter((other) => !this.seemsDead(other) && this.restMs(other) === 0)
      .map((other) => this.#rateOf(other) ?? 0);
    const best = Math.max(0, ...rates);
    const rate = bytes / ms;
    if (best < SLOWER * rate) return false;
    return leftBytes / rate - leftBytes / best > WORTH_MS;
  }

  /** Notes that a host answered, with any status. */
  answered(url: string): void {
    this.#failures.delete(hostOf(url));
  }

  /** Notes that a host could not be reached. */
  down(url: string): void {
    this.#failures.set(hostOf(url), (this.#failures.get(hostOf(url)) ?? 0) + 1);
  }

  /** Notes that a host wants no request for some time, in milliseconds. */
  rest(url: string, restMs: number): void {
    const until = performance.now() + restMs;
    this.#restUntil.set(hostOf(url), Math.max(until, this.#restUntil.get(hostOf(url)) ?? 0));
  }

  /** How long a host still wants no request, in milliseconds; 0 if it may be asked. */
  restMs(url: string): number {
    return Math.max(0, (this.#restUntil.get(hostOf(url)) ?? 0) - performance.now());
  }

  /** Reports whether a host has failed to answer several times in a row. */
  seemsDead(url: string): boolean {
    return (this.#failures.get(hostOf(url)) ?? 0) >= 3;
  }

  /** Returns the same URLs, with those of hosts that seem dead at the end. */
  deadLast(urls: readonly string[]): string[] {
    const dead = (url: string) => this.seemsDead(url);
    return [...urls.filter((url) => !dead(url)), ...urls.filter(dead)];
  }
}
