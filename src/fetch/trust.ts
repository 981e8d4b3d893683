// SPDX-License-Identifier: MIT
/**
 * Whom this process trusts, and as whom it shows itself: certificates for TLS.
 *
 * They are the same for every request of a process, as the variables of the environment are that
 * they stand beside, so they are set once, by the command line.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import tls from "node:tls";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { messageOf, UserError } from "../errors.ts";

/** Files in PEM, as options name them. */
export interface TrustFiles {
  /** Certificates of authorities, or of servers, that are trusted besides those of the runtime. */
  readonly caCert?: string | undefined;
  /** The certificate to show to a server that asks for one, with those that signed it. */
  readonly clientCert?: string | undefined;
  /** The key of {@link clientCert}; the same file if absent. */
  readonly clientKey?: string | undefined;
}

/** Options of a TLS connection. */
export interface TlsSettings {
  readonly ca?: string[];
  readonly cert?: string;
  readonly key?: string;
}

/** What the options name; SSL_CERT_FILE is added when it is needed. */
let chosen: TlsSettings = {};
let settings: TlsSettings | undefined;

/**
 * Sets the files for all requests from now on.
 *
 * @throws {UserError} "usage" for a file that cannot be read or is not what it has to be.
 */
export function setTrust({ caCert, clientCert, clientKey }: TrustFiles): void {
  if (clientCert === undefined && clientKey !== undefined) {
    throw new UserError("usage", "Cannot use --client-key without --client-cert", {
      hint: "Name the certificate that belongs to the key",
    });
  }
  const cert = clientCert === undefined
    ? undefined
    : readPem(clientCert, "--client-cert", isCertificate);
  const keyFile = clientKey ?? clientCert;
  const key = keyFile === undefined
    ? undefined
    : readPem(keyFile, "--client-key", createPrivateKey);
  chosen = {
    ...(caCert !== undefined && { ca: [readPem(caCert, "--ca-cert", isCertificate)] }),
    ...(cert !== undefined && key !== undefined && { cert, key }),
  };
  settings = undefined;
}

/**
 * Returns the certificates for a connection.
 *
 * @param isKnown Whether the server is one that was named, and not where a redirect leads: only
 * such a one learns who asks.
 * @throws {UserError} "usage" for a file of SSL_CERT_FILE that is of no use.
 */
export function tlsSettings(isKnown: boolean): TlsSettings {
  settings ??= { ...chosen, ...authorities(chosen.ca ?? []) };
  if (isKnown || settings.cert === undefined) return settings;
  return settings.ca === undefined ? {} : { ca: settings.ca };
}

/** NODE_EXTRA_CA_CERTS is among the defaults in both runtimes, SSL_CERT_FILE only in Bun's. */
function authorities(more: readonly string[]): TlsSettings {
  const named = process.env["SSL_CERT_FILE"] || undefined;
  const extra = [
    ...(named === undefined ? [] : [readPem(named, "SSL_CERT_FILE", isCertificate)]),
    ...more,
  ];
  // A list replaces the one of the runtime.
  return extra.length === 0 ? {} : { ca: [...tls.getCACertificates("default"), ...extra] };
}

function isCertificate(pem: string): void {
  new X509Certificate(pem);
}

function readPem(path: string, option: string, check: (pem: string) => unknown): string {
  const hint = option === "--client-key"
    ? "It takes a private key in PEM, without a passphrase"
    : "It takes certificates in PEM: -----BEGIN CERTIFICATE-----";
  try {
    const pem = readFileSync(path, "utf8");
    check(pem);
    return pem;
  } catch (error) {
    const message = `Cannot use ${path} for ${option}: ${messageOf(error)}`;
    throw new UserError("usage", message, { where: path, hint, cause: error });
  }
}
