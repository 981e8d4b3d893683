// SPDX-License-Identifier: MIT
/**
 * Sends one HTTP request and returns the bytes of its body exactly as the server sent them.
 *
 * This uses node:http and not `fetch`, because node:http gives the same system error codes under
 * Bun and Deno and never decodes a body: a `.tar.gz` that a server labels with
 * `Content-Encoding: gzip` has to arrive unchanged. A connection serves the next request once its
 * answer was read to the end; what a server sends after that ends it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import http from "node:http";
import https from "node:https";
import process from "node:process";
import { systemCode } from "../errors.ts";
import { noteDeadBytes } from "../runtime/garbage.ts";
import { type Connections, newAgent } from "./connections.ts";
import { networkFailure, UrlFailure } from "./failure.ts";
import { type Netrc, readNetrc } from "./netrc.ts";

export type Method = "GET" | "HEAD" | "POST" | "PUT";

/** What a request sends. */
export interface RequestBody {
  readonly sizeBytes: number;
  /** Begins at the first byte each time that it is called. */
  chunks(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** Options of every request. */
export interface HttpOptions {
  /** GET if absent. */
  readonly method?: Method;
  /** Value of the `User-Agent` header. */
  readonly userAgent: string;
  /** Longest wait for the headers and for each chunk, in milliseconds. */
  readonly stallMs: number;
  /** Ends the request; its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
  /** The connections of the run; one of its own if absent. */
  readonly connections?: Connections | undefined;
  /** More headers, such as a token, for the server of the URL: not for one that it leads to. */
  readonly headers?:
    | ((signal: AbortSignal) => Promise<Readonly<Record<string, string>>>)
    | undefined;
  /** With POST and PUT; empty if absent. */
  readonly body?: RequestBody | undefined;
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
 * Reads the rest of a body.
 *
 * @throws {UrlFailure} If it is longer than `limitBytes`, stalls or is cut short.
 */
export async function readBody(answer: HttpAnswer, limitBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of answer.chunks) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) {
      throw new UrlFailure(`the answer is longer than the limit of ${limitBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Longest body that is read for nothing, so that its connection can be used again. */
const MAX_DRAIN_BYTES = 64 * 1024;

/**
 * Sends a request, and follows the redirects of GET and HEAD, to http and https only, and from https
 * to https. A redirect of another method is an answer.
 *
 * Honours `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, and the passwords of the URL and
 * of the netrc file, which only the server gets that they are for.
 *
 * @param startByte First byte wanted; if not 0, a `Range` header requests the rest from there.
 * @throws {UrlFailure} If there is no answer. A status of 4xx or 5xx is an answer.
 * @throws {UserError} "usage" for a proxy, certificate or netrc file that cannot be used.
 */
export async function openUrl(
  url: string,
  startByte: number,
  options: HttpOptions,
): Promise<HttpAnswer> {
  const first = checkedUrl(url, "URL");
  let next = first;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const answer = await request(next, first, startByte, options);
    const isRead = ["GET", "HEAD"].includes(options.method ?? "GET");
    if (!isRead || !REDIRECTS.has(answer.status)) return answer;
    answer.close();
    const location = answer.headers.location;
    if (location === undefined || !URL.canParse(location, next)) {
      throw new UrlFailure(`HTTP ${answer.status} without a usable Location`);
    }
    const target = checkedUrl(new URL(location, next).href, "redirect to");
    if (next.protocol === "https:" && target.protocol === "http:") {
      throw new UrlFailure("refused: redirect from https: to http:");
    }
    next = target;
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

let netrc: Netrc | undefined;

/** Returns the value of `Authorization` for a server: by its own URL, the first one, or netrc. */
function authorization(url: URL, first: URL): string | undefined {
  const source = [url, ...(url.origin === first.origin ? [first] : [])]
    .find(({ username, password }) => username + password !== "");
  netrc ??= readNetrc(process.env);
  const name = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const pair = source === undefined
    ? netrc.get(name)?.reveal()
    : `${decoded(source.username)}:${decoded(source.password)}`;
  return pair === undefined ? undefined : `Basic ${Buffer.from(pair).toString("base64")}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a "%" that begins no escape
  }
}

async function request(
  url: URL,
  first: URL,
  startByte: number,
  options: HttpOptions,
): Promise<HttpAnswer> {
  const release = await options.connections?.take(url.origin, options.signal);
  const watch = watchdog(options);
  const end = () => {
    watch.close();
    release?.();
  };
  try {
    const isKnown = url.origin === first.origin;
    const isSecure = url.protocol === "https:";
    const secret = authorization(url, first);
    const headers: Record<string, string> = {
      "Accept": "*/*",
      "Accept-Encoding": "identity",
      "User-Agent": options.userAgent,
      ...(secret !== undefined && { "Authorization": secret }),
      ...(isKnown && await options.headers?.(watch.signal)),
      ...(startByte > 0 && { "Range": `bytes=${startByte}-` }),
      ...(["POST", "PUT"].includes(options.method ?? "") &&
        { "Content-Length": String(options.body?.sizeBytes ?? 0) }),
    };
    const agentOf = (isKept: boolean) =>
      (isKept ? options.connections?.agent(isSecure, isKnown) : undefined) ??
        newAgent(isSecure, isKnown, false);
    const agent = agentOf(true);
    const { method = "GET", body } = options;
    const onChunk = watch.touch;
    const message = await watch.during(async () => {
      const sent = send(url, { method, headers, agent, signal: watch.signal }, body, onChunk);
      try {
        return await sent.answer;
      } catch (error) {
        // The server was closing the connection that it was sent on.
        const isStale = sent.isReused() && STALE.has(systemCode(error) ?? "");
        if (!isStale || watch.signal.aborted) throw error;
        const fresh = { method, headers, agent: agentOf(false), signal: watch.signal };
        return await send(url, fresh, body, onChunk).answer;
      }
    });
    message.on("error", () => {}); // the reader of the body gets it, if there still is one
    return {
      status: message.statusCode ?? 0,
      headers: message.headers,
      url: url.href,
      chunks: bodyChunks(message, watch, options.stallMs),
      close() {
        if (message.complete || drains(message, options)) {
          message.resume(); // what was read to its end, too, has an end to be seen
          watch.leave();
          release?.();
        } else {
          message.destroy();
          end();
        }
      },
    };
  } catch (error) {
    end();
    throw error;
  }
}

const STALE: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE"]);

function send(
  url: URL,
  settings: http.RequestOptions,
  body: RequestBody | undefined,
  onChunk: () => void,
): { answer: Promise<http.IncomingMessage>; isReused: () => boolean } {
  const bare = new URL(url.href);
  bare.username = "";
  bare.password = "";
  const sent = (url.protocol === "https:" ? https : http).request(bare.href, settings);
  const answer = new Promise<http.IncomingMessage>((resolve, reject) => {
    sent.on("response", resolve);
    let interim = 0;
    sent.on("information", () => {
      if (++interim > MAX_INTERIM) {
        sent.destroy(new UrlFailure(`more than ${MAX_INTERIM} interim answers`));
      }
    });
    sent.on("error", reject); // also catches the error that closing causes later
    if (body === undefined) sent.end();
    else pump(sent, body, onChunk).catch((error) => sent.destroy(error));
  });
  return { answer, isReused: () => sent.reusedSocket };
}

/** Sends a body, as fast as the server takes it. */
async function pump(
  sent: http.ClientRequest,
  body: RequestBody,
  onChunk: () => void,
): Promise<void> {
  for await (const chunk of body.chunks()) {
    if (sent.destroyed) return;
    onChunk();
    if (sent.write(chunk) || sent.destroyed) continue;
    await new Promise<void>((resolve) => {
      const go = () => {
        sent.off("drain", go);
        sent.off("close", go);
        resolve();
      };
      sent.on("drain", go);
      sent.on("close", go);
    });
  }
  onChunk();
  sent.end();
}

/** Lets the rest of a short body come, if it does so soon, for the next request. */
function drains(message: http.IncomingMessage, { method, connections }: HttpOptions): boolean {
  const length = Number(message.headers["content-length"] ?? NaN);
  if (connections === undefined) return false;
  if (method !== "HEAD" && !(length <= MAX_DRAIN_BYTES)) return false;
  const timer = setTimeout(() => message.destroy(), DRAIN_MS);
  timer.unref();
  message.on("close", () => clearTimeout(timer));
  return true;
}

const DRAIN_MS = 1_000;

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
    noteDeadBytes(step.value.length);
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
  /** Notes that something has been sent: the wait begins again. */
  touch(): void;
  /** Lets the request be, as it is over. */
  leave(): void;
  /** Ends the request. */
  close(): void;
}

function watchdog({ stallMs, signal: outer }: HttpOptions): Watchdog {
  const inner = new AbortController();
  const interrupt = () => inner.abort(outer?.reason);
  if (outer?.aborted) interrupt();
  else outer?.addEventListener("abort", interrupt, { once: true });

  let touch = () => {};
  const during = async <T>(work: () => Promise<T>): Promise<T> => {
    inner.signal.throwIfAborted();
    let giveUp = () => {};
    // A race, because not every stage of a request rejects when its signal is aborted.
    const ended = new Promise<never>((_, reject) => {
      giveUp = () => reject(inner.signal.reason);
    });
    inner.signal.addEventListener("abort", giveUp, { once: true });
    const wait = () =>
      setTimeout(() => {
        const reach = { transient: true, hostDown: true };
        inner.abort(new UrlFailure(`timed out: no byte for ${seconds(stallMs)}`, reach));
      }, stallMs);
    let timer = wait();
    touch = () => {
      clearTimeout(timer);
      timer = wait();
    };
    try {
      return await Promise.race([work(), ended]);
    } catch (error) {
      inner.signal.throwIfAborted(); // the reason says more than the broken stream
      throw networkFailure(error);
    } finally {
      touch = () => {};
      clearTimeout(timer);
      inner.signal.removeEventListener("abort", giveUp);
    }
  };

  return {
    signal: inner.signal,
    during,
    touch: () => touch(),
    leave() {
      outer?.removeEventListener("abort", interrupt);
    },
    close() {
      outer?.removeEventListener("abort", interrupt);
      inner.abort(new UrlFailure("closed"));
    },
  };
}
