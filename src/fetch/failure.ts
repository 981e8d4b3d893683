// SPDX-License-Identifier: MIT
/**
 * The reasons why a URL did not deliver a file, in the same words under every runtime.
 *
 * @module
 */
import { messageOf, systemCode, type UserError } from "../errors.ts";
import process from "node:process";
import { withoutSecrets } from "./secret.ts";
import { onOneLine } from "../text.ts";

/** The scope of a failure of one URL. */
export interface FailureReach {
  /** The same URL may work in a moment: after a stall, a reset, or a 5xx. */
  readonly transient?: boolean;
  /** The host itself could not be reached, so other files from it are likely to fail as well. */
  readonly hostDown?: boolean;
  /** The body has another SHA-256 than the file. */
  readonly isWrong?: boolean;
  /** The server wants no request before so many milliseconds have passed. */
  readonly restMs?: number | undefined;
  /** The store has no room for the file. */
  readonly noRoom?: UserError | undefined;
}

/** One URL did not deliver the file; another one may. Never thrown out of `fetch/`. */
export class UrlFailure extends Error {
  readonly transient: boolean;
  readonly hostDown: boolean;
  readonly isWrong: boolean;
  readonly restMs: number | undefined;
  readonly noRoom: UserError | undefined;

  /** @param answer What the URL answered: short plain text on one line, no final period. */
  constructor(answer: string, reach: FailureReach = {}, cause?: unknown) {
    super(plainText(withoutSecrets(answer, process.env)), { cause });
    this.name = "UrlFailure";
    this.transient = reach.transient ?? false;
    this.hostDown = reach.hostDown ?? false;
    this.isWrong = reach.isWrong ?? false;
    this.restMs = reach.restMs;
    this.noRoom = reach.noRoom;
  }
}

const MAX_ANSWER_CHARS = 300;

/** Makes text of a server safe for a terminal: one line, no control characters, limited length. */
export function plainText(text: string): string {
  const line = onOneLine(text).trim();
  return line.length > MAX_ANSWER_CHARS ? `${line.slice(0, MAX_ANSWER_CHARS)}...` : line;
}

/** Removes user name and password from a URL, so that it can be shown and recorded. */
export function publicUrl(url: string): string {
  // What is no URL may still have a password.
  if (!URL.canParse(url)) return plainText(url.replace(/\/\/.*@/s, "//"));
  const shown = new URL(url);
  if (shown.username === "" && shown.password === "") return url;
  shown.username = "";
  shown.password = "";
  return shown.href;
}

/** Removes the query and the fragment too: a mirror's, and a redirect's, may have a key. */
export function bareUrl(url: string): string {
  const shown = publicUrl(url);
  if (!URL.canParse(shown)) return shown;
  const bare = new URL(shown);
  if (bare.search === "" && bare.hash === "") return shown;
  bare.search = "";
  bare.hash = "";
  return bare.href;
}

/** Returns scheme, host and port of a URL; what is no URL stays as it is. */
export function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : url;
}

const HOST_DOWN: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ENOTFOUND: "no such host",
  EHOSTUNREACH: "host unreachable",
  ENETUNREACH: "network unreachable",
};

const HOST_DOWN_FOR_NOW: Readonly<Record<string, string>> = {
  EAI_AGAIN: "host name could not be looked up",
  ETIMEDOUT: "connection timed out",
};

const CUT: Readonly<Record<string, string>> = {
  ECONNRESET: "connection closed by the server",
  ECONNABORTED: "connection closed by the server",
  EPIPE: "connection closed by the server",
  ERR_STREAM_PREMATURE_CLOSE: "connection closed by the server",
};

/** Codes from OpenSSL; their text differs between runtimes. */
const TLS = /^(ERR_SSL_|ERR_TLS_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_)/;

/** What is wrong with a certificate, and what helps. */
const CERTIFICATE: readonly (readonly [code: RegExp, answer: string])[] = [
  [
    /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN)$/,
    "the server's certificate is self-signed: if it is the right one, name it with --ca-cert",
  ],
  [
    /^(UNABLE_TO_|CERT_UNTRUSTED|CERT_REJECTED)/,
    "the server's certificate is from an authority that is not known, or not valid: name the " +
    "authority's certificate with --ca-cert, and check the clock",
  ],
  [
    /^(CERT_HAS_EXPIRED|CERT_NOT_YET_VALID)$/,
    "the server's certificate has expired, or is not valid yet: check the clock of this machine; " +
    "if that is right, the server has to renew it",
  ],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    "the server's certificate is for another host name: check the name in the URL",
  ],
  [
    /^ERR_SSL_.*ALERT_(CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA)$/,
    "the server refuses this client: it may ask for --client-cert and --client-key",
  ],
];

/** Translates an error of the HTTP client. */
export function networkFailure(error: unknown): UrlFailure {
  if (error instanceof UrlFailure) return error;
  const code = systemCode(error) ?? "";
  const down = HOST_DOWN[code];
  if (down !== undefined) return new UrlFailure(down, { hostDown: true }, error);
  const forNow = HOST_DOWN_FOR_NOW[code];
  if (forNow !== undefined) {
    return new UrlFailure(forNow, { hostDown: true, transient: true }, error);
  }
  const cut = CUT[code];
  if (cut !== undefined) return new UrlFailure(cut, { transient: true }, error);
  if (code.startsWith("HPE_")) return new UrlFailure("not an HTTP answer", {}, error);
  if (TLS.test(code)) {
    const known = CERTIFICATE.find(([pattern]) => pattern.test(code));
    const answer = known === undefined ? `TLS failed: ${code}` : `${known[1]} (${code})`;
    return new UrlFailure(answer, {}, error);
  }
  const text = messageOf(error);
  return new UrlFailure(code === "" || text.includes(code) ? text : `${code}: ${text}`, {}, error);
}
