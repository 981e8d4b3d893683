// SPDX-License-Identifier: MIT
/**
 * The URLs that may have a file, and the order in which to ask them.
 *
 * @module
 */
import { hostOf } from "./failure.ts";
import { type HttpMirror, requestUrl } from "./mirror.ts";

/**
 * Returns the URLs to ask for a file: first the mirrors, shuffled for each file so that they share
 * the load, then the file's own URLs in order. Each URL is in it once.
 */
export function alternatives(
  name: string,
  urls: readonly string[],
  mirrors: readonly HttpMirror[],
  random: () => number,
): string[] {
  const mirrored = shuffled(mirrors, random).map((mirror) => {
    const url = new URL(requestUrl(mirror));
    url.pathname += `${url.pathname.endsWith("/") ? "" : "/"}${encodeURIComponent(name)}`;
    return url.href;
  });
  return [...new Set([...mirrored, ...urls])];
}

/** Returns the items in a uniformly random order (Fisher-Yates). */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items];
  for (let last = order.length - 1; last > 0; last--) {
    const picked = Math.floor(random() * (last + 1));
    const [moved] = order.splice(picked, 1);
    if (moved !== undefined) order.splice(last, 0, moved);
  }
  return order;
}

/**
 * Remembers which hosts do not answer, so that a dead mirror costs a few timeouts and not one for
 * every file.
 */
export class HostHealth {
  /** Failures in a row, by origin. */
  readonly #failures = new Map<string, number>();

  /** When a host may be asked again, by origin. */
  readonly #restUntil = new Map<string, number>();

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
