// SPDX-License-Identifier: MIT
/**
 * Text that only a request may have: user names, passwords and tokens in URLs.
 *
 * @module
 */

/** A text that no message, JSON or template shows. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** Returns the text, for a request or for what the user wants to have it. */
  reveal(): string {
    return this.#text;
  }

  /** JSON does not have it: a field with it is left out. */
  toJSON(): undefined {
    return undefined;
  }

  toString(): string {
    return "(secret)";
  }
}

/** Variables of the environment that name a proxy, which may have a password. */
const PROXIES = ["http_proxy", "https_proxy", "all_proxy"];

/**
 * Takes user names, passwords and queries out of the URLs in a text, such as an error of the HTTP client.
 *
 * @param env The environment, whose proxies are not shown either.
 */
export function withoutSecrets(
  text: string,
  env: Readonly<Record<string, string | undefined>> = {},
): string {
  let shown = text;
  for (const name of PROXIES.flatMap((name) => [name, name.toUpperCase()])) {
    const value = env[name];
    if (value?.includes("@")) shown = shown.replaceAll(value, `the value of ${name}`);
  }
  return shown.replaceAll(/\/\/[^\s/?#"']*@/g, "//")
    .replaceAll(/(https?:\/\/[^\s?#"']*)[?#][^\s"']*/gi, "$1");
}
