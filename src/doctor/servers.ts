// SPDX-License-Identifier: MIT
/**
 * Checks that servers answer.
 *
 * @module
 */

import { messageOf } from "../errors.ts";
import { openUrl } from "../fetch/http.ts";
import { serverMirrors, serverUrl } from "../fetch/mirror.ts";
import { withoutSecrets } from "../fetch/secret.ts";
import type { BuildOptions } from "../plan/options.ts";
import type { Plan } from "../plan/types.ts";
import { counted } from "../text.ts";
import { VERSION } from "../version.ts";
import { absent, type Finding, good } from "./check.ts";

/** Most hosts that are asked where no mirror is. */
const MAX_HOSTS = 3;
const ASK_MS = 20_000;

/**
 * Returns the servers to ask: the mirrors, else the hosts that have most distfiles.
 *
 * @returns URLs, with the secrets of mirrors in them.
 */
export function serversOf(options: BuildOptions, plan: Plan | undefined): string[] {
  const mirrors = serverMirrors(options.mirrors).map(serverUrl);
  if (mirrors.length > 0) return mirrors;
  const hosts = new Map<string, number>();
  for (const url of plan?.distfiles.flatMap(({ urls }) => urls) ?? []) {
    if (!/^https?:/.test(url) || !URL.canParse(url)) continue;
    const { origin } = new URL(url);
    hosts.set(origin, (hosts.get(origin) ?? 0) + 1);
  }
  return [...hosts].sort(([, a], [, b]) => b - a).slice(0, MAX_HOSTS)
    .map(([origin]) => `${origin}/`);
}

/** Asks servers, all at once. */
export async function checkServers(urls: readonly string[], signal: AbortSignal): Promise<Finding> {
  const faults = await Promise.all(urls.map((url) => faultOf(url, signal)));
  const failed = faults.filter((fault) => fault !== undefined);
  if (failed.length === 0) return good(`${counted(urls.length, "server")} answered`);
  return absent(failed.join("; "), "Check the network, the clock, and the proxy (https_proxy)");
}

/** Returns why a server gives no answer. Any status is one, as the URL is only that of a directory. */
async function faultOf(url: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const options = { userAgent: `seedstrap/${VERSION}`, stallMs: ASK_MS, signal };
    (await openUrl(url, 0, { ...options, method: "HEAD" })).close();
    return undefined;
  } catch (error) {
    return withoutSecrets(`${url}: ${messageOf(error)}`);
  }
}
