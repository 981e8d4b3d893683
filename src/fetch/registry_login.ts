// SPDX-License-Identifier: MIT
/**
 * The login to an OCI registry: none, Basic, or a token of the server that the registry names.
 *
 * A registry is not trusted with more than it needs. A password goes over TLS only, or to this
 * machine; and to a token server only where that is of the same domain.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import * as v from "valibot";
import { amount, anyText, openObject, parseJson } from "../json.ts";
import { registryLogin } from "./docker_config.ts";
import { UrlFailure } from "./failure.ts";
import { openUrl, readBody } from "./http.ts";
import { isLoopback, type RepositoryPlace } from "./mirror.ts";
import { Secret } from "./secret.ts";

/** What is done in the repository. */
export type Access = "pull" | "pull,push";

/** How a login asks. */
export interface LoginOptions {
  readonly userAgent: string;
  readonly stallMs: number;
}

const MAX_CHALLENGE_CHARS = 4096;
const MAX_TOKEN_BYTES = 64 * 1024;
/** How long a token is good for that does not say it, by docker's specification. */
const TOKEN_SECONDS = 60;
/** A token that ends so soon is not begun with. */
const SPARE_MS = 5_000;

const tokenAnswer = openObject({
  token: v.exactOptional(anyText),
  access_token: v.exactOptional(anyText),
  expires_in: v.exactOptional(amount),
});

/** A way to log in, as `WWW-Authenticate` offers it. */
export interface Challenge {
  /** In lower case. */
  readonly scheme: string;
  /** By lower-case name. */
  readonly fields: ReadonlyMap<string, string>;
}

/**
 * Parses `WWW-Authenticate`.
 *
 * @returns undefined for what does not have its grammar as a whole.
 * @see RFC 9110, section 11.6.1
 */
export function parseChallenges(header: string): Challenge[] | undefined {
  if (header.length > MAX_CHALLENGE_CHARS) return undefined;
  const field =
    /\s*([\w-]+)\s*=\s*(?:"((?:[^"\\\p{Cc}]|\\[^\p{Cc}])*)"|([^\s",=\p{Cc}]+))\s*(,|$)/yu;
  const scheme = /[\s,]*([A-Za-z][\w-]*)(?:\s+|(?=,)|$)/y;
  const found: { scheme: string; fields: Map<string, string> }[] = [];
  for (let at = 0; at < header.length;) {
    const last = found.at(-1);
    field.lastIndex = scheme.lastIndex = at;
    const pair = last === undefined ? null : field.exec(header);
    if (pair !== null) {
      const name = pair[1]!.toLowerCase();
      if (last!.fields.has(name)) return undefined;
      last!.fields.set(name, pair[2]?.replaceAll(/\\(.)/g, "$1") ?? pair[3]!);
      at = field.lastIndex;
      continue;
    }
    const next = scheme.exec(header);
    if (next === null) return undefined;
    found.push({ scheme: next[1]!.toLowerCase(), fields: new Map() });
    at = scheme.lastIndex;
  }
  return found;
}

/** The login to one repository, for a run. */
export class RegistryLogin {
  readonly #place: RepositoryPlace;
  readonly #access: Access;
  readonly #options: LoginOptions;
  #challenge: Promise<Challenge | undefined> | undefined;
  #token: { readonly value: Promise<Token> } | undefined;
  #pair: Promise<Secret | undefined> | undefined;

  constructor(place: RepositoryPlace, access: Access, { userAgent, stallMs }: LoginOptions) {
    this.#place = place;
    this.#access = access;
    // Not the connections of the run: the request that waits for the login has one of them.
    this.#options = { userAgent, stallMs };
  }

  /**
   * Returns the headers that a request to the registry needs. The first time, it is asked what it
   * wants.
   *
   * @throws {UrlFailure} If there is no login that it takes.
   * @throws {UserError} "usage" for a configuration of docker that cannot be used.
   */
  async headers(signal: AbortSignal): Promise<Record<string, string>> {
    this.#challenge ??= keptUnlessTransient(
      this.#probe(signal),
      () => this.#challenge = undefined,
    );
    const challenge = await this.#challenge;
    return challenge === undefined ? {} : await this.#answer(challenge, signal);
  }

  /**
   * Takes what the registry asks for in a 401, for the next requests.
   *
   * @param header `WWW-Authenticate`.
   * @throws {UrlFailure} If nothing is known that it wants.
   */
  challenged(header: string | undefined): void {
    this.#challenge = Promise.resolve(chosen(header));
    this.#token = undefined;
  }

  /** Asks for a blob that every registry may have, in the repository that matters. */
  async #probe(signal: AbortSignal): Promise<Challenge | undefined> {
    const { origin, repository } = this.#place;
    const url = `${origin}/v2/${repository}/blobs/sha256:${EMPTY}`;
    const answer = await openUrl(url, 0, { ...this.#options, method: "HEAD", signal });
    answer.close();
    return answer.status === 401 ? chosen(answer.headers["www-authenticate"]) : undefined;
  }

  async #answer(challenge: Challenge, signal: AbortSignal): Promise<Record<string, string>> {
    if (challenge.scheme === "basic") {
      const pair = await this.#login(signal);
      // netrc may have one.
      return pair === undefined ? {} : { "Authorization": basic(pair) };
    }
    for (let round = 0;; round++) {
      if (this.#token === undefined) {
        const value = keptUnlessTransient(this.#askToken(challenge, signal), () => {
          this.#token = undefined;
        });
        this.#token = { value };
      }
      const asked = this.#token;
      const { text, untilMs } = await asked.value;
      if (performance.now() < untilMs - SPARE_MS || round > 0) {
        return { "Authorization": `Bearer ${text.reveal()}` };
      }
      if (this.#token === asked) this.#token = undefined;
    }
  }

  #login(signal: AbortSignal): Promise<Secret | undefined> {
    return this.#pair ??= registryLogin(this.#place.host, process.env, signal);
  }

  async #askToken({ fields }: Challenge, signal: AbortSignal): Promise<Token> {
    const realm = fields.get("realm") ?? "";
    if (!URL.canParse(realm)) throw new UrlFailure("the registry names no token server");
    const url = new URL(realm);
    const registry = new URL(this.#place.origin);
    if (url.username + url.password !== "") {
      throw new UrlFailure("refused: a token server with a password");
    }
    const isPlain = url.protocol === "http:" && isLoopback(url.host) && isLoopback(registry.host);
    if (url.protocol !== "https:" && !isPlain) {
      throw new UrlFailure(`refused: the token server ${url.origin} is not asked over https`);
    }
    const service = fields.get("service");
    if (service !== undefined) url.searchParams.set("service", service);
    url.searchParams.set("scope", `repository:${this.#place.repository}:${this.#access}`);
    const pair = await this.#login(signal);
    if (pair !== undefined && !isSameDomain(url.hostname, registry.hostname)) {
      throw new UrlFailure(
        `refused: the registry wants its password to be sent to ${url.origin}, which is of another domain`,
      );
    }
    const answer = await openUrl(url.href, 0, {
      ...this.#options,
      signal,
      headers: () => Promise.resolve(pair === undefined ? {} : { "Authorization": basic(pair) }),
    });
    try {
      if (answer.status !== 200) {
        const why = pair === undefined ? "without a login" : "with the login of docker";
        throw new UrlFailure(
          `the token server ${url.origin} answers HTTP ${answer.status} ${why}`,
          { transient: answer.status >= 500 || answer.status === 429 },
        );
      }
      const body = await readBody(answer, MAX_TOKEN_BYTES);
      const read = parseJson(tokenAnswer, new TextDecoder().decode(body));
      const text = typeof read === "string" ? undefined : read.token ?? read.access_token;
      if (typeof read === "string" || text === undefined || !/^[\x21-\x7e]+$/.test(text)) {
        throw new UrlFailure(`the token server ${url.origin} gives no token`);
      }
      const seconds = Math.max(TOKEN_SECONDS, read.expires_in ?? 0);
      return { text: new Secret(text), untilMs: performance.now() + seconds * 1000 };
    } finally {
      answer.close();
    }
  }
}

interface Token {
  readonly text: Secret;
  readonly untilMs: number;
}

/** SHA-256 of no bytes. */
const EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

function chosen(header: string | undefined): Challenge {
  const all = parseChallenges(header ?? "");
  const found = all?.find(({ scheme }) => scheme === "bearer") ??
    all?.find(({ scheme }) => scheme === "basic");
  if (found === undefined) throw new UrlFailure("HTTP 401, and no login is known that it takes");
  return found;
}

function basic(pair: Secret): string {
  return `Basic ${Buffer.from(pair.reveal()).toString("base64")}`;
}

/** Whether two hosts have the same owner, as far as their names tell. */
function isSameDomain(a: string, b: string): boolean {
  if (a === b || (isLoopback(a) && isLoopback(b))) return true;
  if (/^[\d.]+$|:/.test(a) || /^[\d.]+$|:/.test(b)) return false;
  const owner = (host: string) => {
    const labels = host.toLowerCase().split(".");
    // Such as co.uk: what is before it is a name, too.
    return labels.slice((labels.at(-2) ?? "").length <= 3 ? -3 : -2).join(".");
  };
  return owner(a).includes(".") && owner(a) === owner(b);
}

/** Keeps a result for the run, unless asking again may have another. */
async function keptUnlessTransient<T>(work: Promise<T>, forget: () => void): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof UrlFailure) || error.transient) forget();
    throw error;
  }
}
