// SPDX-License-Identifier: MIT
/**
 * Sends one HTTP request and returns the bytes of its body exactly as the server sent them.
 *
 * This uses node:http and not `fetch`, because node:http gives the same system error codes under
 * Bun and Deno and never decodes a body: a `.tar.gz` that a server labels with
 * `Content-Encoding: gzip` has to arrive unchanged. Each request has its own connection: compared
 * with the bodies a handshake is cheap, and no answer can run into the next one.
 *
 * @module
 */
import http from "node:http";
import https from "node:https";
import process from "node:process";
import { UserError } from "../errors.ts";
import { networkFailure, UrlFailure } from "./failure.ts";

/** Options of every request. */
export interface HttpOptions {
  /** GET if absent. */
  readonly method?: "GET" | "HEAD";
  /** Value of the `User-Agent` header. */
  readonly userAgent: string;
  /** Longest wait for the headers and for each chunk, in milliseconds. */
  readonly stallMs: number;
  /** Ends the request; its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/** An answer whose body has not been read yet. Always close it. */
export interface HttpAnswer {
  readonly status: number;
  /** Header values by lower-case name. */
  readonly headers: http.IncomingHttpHeaders;
  /** The URL of this answer, after all redirects. */
  readonly url: string;
  /** The body, to be read once. Throws {@link UrlFailure} if it stalls or is cut short. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Ends the connection, whether or not the body has been read. */
  close(): void;
}

const MAX_REDIRECTS = 10;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Most answers such as `100 Continue` before the answer itself. */
const MAX_INTERIM = 20;

/** A body slower than this over a whole `stallMs` is aborted like one that stalls. */
const MIN_BYTES_PER_SECOND = 1024;

/**
 * Sends a GET, or a HEAD, and follows redirects, to http and https only.
 *
 * Honours `http_proxy`, `https_proxy` and `no_proxy`.
 *
 * @param startByte First byte wanted; if not 0, a `Range` header requests the rest from there.
 * @throws {UrlFailure} If there is no answer. A status of 4xx or 5xx is an answer.
 * @throws {UserError} "usage" for a proxy in the environment that is no URL.
 */
export async function openUrl(
  url: string,
  startByte: number,
  options: HttpOptions,
): Promise<HttpAnswer> {
  let next = checkedUrl(url, "URL");
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const answer = await request(next, startByte, options);
    if (!REDIRECTS.has(answer.status)) return answer;
    answer.close();
    const location = answer.headers.location;
    if (location === undefined || !URL.canParse(location, next)) {
      throw new UrlFailure(`HTTP ${answer.status} without a usable Location`);
    }
    next = checkedUrl(new URL(location, next).href, "redirect to");
  }
  throw new UrlFailure(`more than ${MAX_REDIRECTS} redirects`);
}

function checkedUrl(url: string, what: string): URL {
  if (!URL.canParse(url)) throw new UrlFailure("not a URL");
  const parsed = new URL(url);
  if (parsed.protocol !== "http:" && parsed.protocol !== "https:") {
    throw new UrlFailure(`refused: ${what} ${parsed.protocol} is neither http: nor https:`);
  }
  return parsed;
}

/**
 * Returns an agent that uses the proxies of the environment.
 *
 * @throws {UserError} "usage" for a proxy that is no URL.
 */
function agentFor(secure: boolean): http.Agent {
  try {
    return secure
      ? new https.Agent({ proxyEnv: process.env })
      : new http.Agent({ proxyEnv: process.env });
  } catch {
    // The error has the URL, with its password, so it is not the cause either.
    throw new UserError("usage", "Cannot use the proxy of the environment: it is no URL", {
      hint: "Check http_proxy and https_proxy: http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT",
    });
  }
}

async function request(url: URL, startByte: number, options: HttpOptions): Promise<HttpAnswer> {
  const secure = url.protocol === "https:";
  const agent = agentFor(secure);
  const watch = watchdog(options);
  const headers: Record<string, string> = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": options.userAgent,
  };
  if (startByte > 0) headers["Range"] = `bytes=${startByte}-`;
  try {
    const message = await watch.during(() =>
      new Promise<http.IncomingMessage>((resolve, reject) => {
        const { method = "GET" } = options;
        const settings = { method, headers, agent, signal: watch.signal };
        const sent = secure
          ? https.request(url.href, settings, resolve)
          : http.request(url.href, settings, resolve);
        let interim = 0;
        sent.on("information", () => {
          if (++interim > MAX_INTERIM) {
            sent.destroy(new UrlFailure(`more than ${MAX_INTERIM} interim answers`));
          }
        });
        sent.on("error", reject); // also catches the error that closing causes later
        sent.end();
      })
    );
    message.on("error", () => {}); // the reader of the body gets it, if there still is one
    return {
      status: message.statusCode ?? 0,
      headers: message.headers,
      url: url.href,
      chunks: bodyChunks(message, watch, options.stallMs),
      close() {
        message.destroy();
        watch.close();
      },
    };
  } catch (error) {
    watch.close();
    throw error;
  }
}

async function* bodyChunks(
  message: http.IncomingMessage,
  watch: Watchdog,
  stallMs: number,
): AsyncGenerator<Uint8Array> {
  const reader: AsyncIterator<Uint8Array> = message[Symbol.asyncIterator]();
  let waitedMs = 0;
  let windowBytes = 0;
  while (true) {
    const asked = performance.now();
    const step = await watch.during(() => reader.next());
    if (step.done) break;
    waitedMs += performance.now() - asked; // counts the wait for the network, not for our disk
    windowBytes += step.value.length;
    if (waitedMs >= stallMs) {
      if (windowBytes < MIN_BYTES_PER_SECOND * waitedMs / 1000) {
        throw new UrlFailure(`too slow: ${windowBytes} bytes in ${seconds(waitedMs)}`, {
          transient: true,
        });
      }
      waitedMs = 0;
      windowBytes = 0;
    }
    yield step.value;
  }
  if (!message.complete) {
    throw new UrlFailure("connection closed by the server", { transient: true });
  }
}

function seconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(1))} s`;
}

/** Ends a request that stalls or is no longer wanted. */
interface Watchdog {
  readonly signal: AbortSignal;
  /** Waits for `work`, for `stallMs` at most, or until the request is aborted. */
  during<T>(work: () => Promise<T>): Promise<T>;
  close(): void;
}

function watchdog({ stallMs, signal: outer }: HttpOptions): Watchdog {
  const inner = new AbortController();
  const interrupt = () => inner.abort(outer?.reason);
  if (outer?.aborted) interrupt();
  else outer?.addEventListener("abort", interrupt, { once: true });

  const during = async <T>(work: () => Promise<T>): Promise<T> => {
    inner.signal.throwIfAborted();
    let giveUp = () => {};
    // A race, because not every stage of a request rejects when its signal is aborted.
    const ended = new Promise<never>((_, reject) => {
      giveUp = () => reject(inner.signal.reason);
    });
    inner.signal.addEventListener("abort", giveUp, { once: true });
    const timer = setTimeout(() => {
      const reach = { transient: true, hostDown: true };
      inner.abort(new UrlFailure(`timed out: no byte for ${seconds(stallMs)}`, reach));
    }, stallMs);
    try {
      return await Promise.race([work(), ended]);
    } catch (error) {
      inner.signal.throwIfAborted(); // the reason says more than the broken stream
      throw networkFailure(error);
    } finally {
      clearTimeout(timer);
      inner.signal.removeEventListener("abort", giveUp);
    }
  };

  return {
    signal: inner.signal,
    during,
    close() {
      outer?.removeEventListener("abort", interrupt);
      inner.abort(new UrlFailure("closed"));
    },
  };
}
