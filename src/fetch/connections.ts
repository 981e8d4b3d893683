// SPDX-License-Identifier: MIT
/**
 * Connections to servers, directly or by the proxies of the environment, which serve one request
 * after the other.
 *
 * The agents of node:http know proxies, CONNECT and TLS under both runtimes. What npm has
 * (proxy-agent, hpagent, https-proxy-agent) does the same again with code that Bun's client and
 * Deno's pass by in part.
 *
 * @module
 */
import http from "node:http";
import https from "node:https";
import process from "node:process";
import { UserError } from "../errors.ts";
import { tlsSettings } from "./trust.ts";

/** Requests at once to one server: more are a burden for a small one, and gain little. */
export const REQUESTS_PER_HOST = 8;

/** How long an idle connection is kept; servers keep theirs for 5 s and more. */
const IDLE_MS = 4_000;

/** A server, and the requests that it has and that wait for it. */
interface Host {
  requests: number;
  readonly waiting: (() => void)[];
}

/** The connections of one run. */
export class Connections {
  readonly #perHost: number;
  readonly #hosts = new Map<string, Host>();
  readonly #agents = new Map<string, http.Agent>();

  constructor(perHost = REQUESTS_PER_HOST) {
    this.#perHost = Math.max(1, perHost);
  }

  /**
   * Waits until a server has fewer requests than it may have.
   *
   * @param origin Scheme, host and port.
   * @returns A function to call once the request is over.
   * @throws The reason of `signal`, if it is aborted.
   */
  async take(origin: string, signal: AbortSignal | undefined): Promise<() => void> {
    signal?.throwIfAborted();
    const host = this.#hosts.get(origin) ?? { requests: 0, waiting: [] };
    this.#hosts.set(origin, host);
    if (host.requests < this.#perHost) host.requests++;
    else await turnAt(host, signal);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      // The place goes to the one that has waited longest.
      const next = host.waiting.shift();
      if (next === undefined) host.requests--;
      else next();
    };
  }

  /** Returns the number of requests that a server has, and that wait for it. */
  load(origin: string): number {
    const host = this.#hosts.get(origin);
    return host === undefined ? 0 : host.requests + host.waiting.length;
  }

  /** Returns the agent for a request, see {@link newAgent}. */
  agent(secure: boolean, isKnown: boolean): http.Agent {
    const key = `${secure} ${isKnown}`;
    const agent = this.#agents.get(key) ?? newAgent(secure, isKnown, true);
    this.#agents.set(key, agent);
    return agent;
  }

  /** Ends all connections. */
  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
    this.#agents.clear();
  }
}

function turnAt(host: Host, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const enter = () => {
      signal?.removeEventListener("abort", leave);
      resolve();
    };
    const leave = () => {
      host.waiting.splice(host.waiting.indexOf(enter), 1);
      reject(signal?.reason);
    };
    host.waiting.push(enter);
    signal?.addEventListener("abort", leave, { once: true });
  });
}

/**
 * Returns an agent that uses the proxies of the environment.
 *
 * @param isKnown Whether the server may learn who asks, see {@link tlsSettings}.
 * @throws {UserError} "usage" for a proxy or a certificate that cannot be used.
 */
export function newAgent(secure: boolean, isKnown: boolean, keepAlive: boolean): http.Agent {
  const settings = {
    keepAlive,
    keepAliveMsecs: IDLE_MS,
    maxFreeSockets: REQUESTS_PER_HOST * 4,
    proxyEnv: proxiesOf(process.env),
  };
  try {
    return secure
      ? new https.Agent({ ...settings, ...tlsSettings(isKnown) })
      : new http.Agent(settings);
  } catch (error) {
    if (error instanceof UserError) throw error;
    // The error has the URL, with its password, so it is not the cause either.
    throw new UserError("usage", "Cannot use the proxy of the environment: it is no URL", {
      hint: "Check http_proxy and https_proxy: http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT",
    });
  }
}

/** Returns the variables that name proxies, with all_proxy, which the agents do not know. */
function proxiesOf(env: NodeJS.ProcessEnv): Record<string, string> {
  const value = (name: string) => env[name] || env[name.toUpperCase()] || undefined;
  const all = value("all_proxy");
  const proxies = Object.entries({
    http_proxy: value("http_proxy") ?? all,
    https_proxy: value("https_proxy") ?? all,
    no_proxy: value("no_proxy"),
  });
  for (const [name, proxy] of proxies) {
    if (name === "no_proxy" || !/^socks/i.test(proxy ?? "")) continue;
    throw new UserError("usage", "Cannot use the proxy of the environment: it is a SOCKS proxy", {
      hint: "Set http_proxy and https_proxy to a proxy for HTTP: http://HOST:PORT",
    });
  }
  return Object.fromEntries(proxies.flatMap(([name, proxy]) => proxy ? [[name, proxy]] : []));
}
