// SPDX-License-Identifier: MIT
/**
 * How the booted machine downloads distfiles, as far as the scripts of a checkout say.
 *
 * Before it builds a step, `default_src_get` of steps/helpers.sh runs curl for each line of the
 * step's sources whose file is not there: with one mirror of MIRRORS, chosen at random, and if that
 * does not have it with the URL of the line, unless it is `_`. The first curl is built without TLS:
 * https works only after it was built again.
 *
 * @module
 */

import { hasTreeFile, readTreeText } from "./checkout.ts";
import type { Manifest } from "./manifest.ts";

/** How the booted machine downloads. */
export interface Downloads {
  /** Paths of the scripts that build a curl with TLS. */
  readonly tlsScripts: readonly string[];
  /** Whether it knows mirrors; it did not before October 2025. */
  readonly asksMirrors: boolean;
}

const HELPERS_PATH = "steps/helpers.sh";

/** Returns the script of a pass of a step. */
export function passScript(step: string, pass: number): string {
  return `steps/${step}/pass${pass}.sh`;
}

/** Reads how the booted machine downloads. */
export function readDownloads(root: string, manifest: Manifest): Downloads {
  const passes = new Map<string, number>();
  for (const { kind, name } of manifest.lines) {
    if (kind === "build" && /^curl-\d/.test(name)) passes.set(name, (passes.get(name) ?? 0) + 1);
  }
  const scripts = [...passes].flatMap(([step, count]) =>
    Array.from({ length: count }, (_, at) => passScript(step, at + 1))
  );
  return {
    tlsScripts: scripts.filter((path) =>
      hasTreeFile(root, path) && configuresTls(readTreeText(root, path))
    ),
    asksMirrors: hasTreeFile(root, HELPERS_PATH) &&
      /\bMIRRORS\b/.test(readTreeText(root, HELPERS_PATH)),
  };
}

/** Reports whether a script configures curl with TLS, for which curl wants a library by name. */
function configuresTls(script: string): boolean {
  const code = script.replace(/(^|\s)#.*$/gm, "$1");
  return !/--without-ssl\b/.test(code) &&
    /--with-(?:ssl|openssl|gnutls|mbedtls|wolfssl|bearssl|rustls|nss)\b/.test(code);
}
