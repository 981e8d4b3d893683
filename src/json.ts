// SPDX-License-Identifier: MIT
/**
 * Parses JSON that may come from anywhere, and checks it by a schema of valibot. An error names the
 * path of the field.
 *
 * @module
 */

import * as v from "valibot";

/** How much of a value an error shows. */
const MAX_SHOWN_CHARS = 60;

/** Deepest nesting that is parsed: an in-toto statement of ours has some ten levels. */
const MAX_DEPTH = 64;

/**
 * Most values in a text, as one of a byte takes up to a hundred bytes when it is parsed. The index
 * of a bundle has six for each file; live-bootstrap has some 3,000 files.
 */
const MAX_VALUES = 2_000_000;

/**
 * Parses a text and checks the value by a schema.
 *
 * @param schema Must not transform the value.
 * @returns The value with its keys in the order of the text, or the first fault, such as
 * `options.cores is 0, not a whole number from 1 to 4096`.
 */
export function parseJson<T extends object>(
  schema: v.GenericSchema<unknown, T>,
  text: string,
): T | string {
  const beyond = extentFault(text);
  if (beyond !== undefined) return beyond;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return "it is not JSON";
    throw error;
  }
  const message = ({ expected }: v.BaseIssue<unknown>) => String(expected);
  const read = v.safeParse(schema, value, { abortEarly: true, message });
  // valibot's copy has the keys in the order of the schema.
  return read.success ? value as T : faultOf(read.issues[0]);
}

/** What is beyond reason in a text, before it is parsed; it may be no JSON at all. */
function extentFault(text: string): string | undefined {
  let depth = 0;
  let values = 1;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfText(text, at);
        break;
      case COMMA:
        values++;
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        values++;
        if (++depth > MAX_DEPTH) return `it is nested deeper than ${MAX_DEPTH} levels`;
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        depth--;
    }
    if (values > MAX_VALUES) return `it has more than ${MAX_VALUES} values`;
  }
  return undefined;
}

const [QUOTE, COMMA, BACKSLASH] = [0x22, 0x2c, 0x5c];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/** Index of the quote that ends a text, or the length where none does. */
function endOfText(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === BACKSLASH) at++;
    else if (char === QUOTE) return at;
  }
  return text.length;
}

function faultOf({ path, input, expected, message }: v.BaseIssue<unknown>): string {
  const last = path?.at(-1);
  const name = path?.map(({ key }) => keyText(key)).join(".") ?? "it";
  if (last?.origin === "key") return `${name} is ${expected === "never" ? "not known" : "missing"}`;
  return `${name} is ${valueText(last === undefined ? input : last.value)}, not ${message}`;
}

/** Returns a key for an error, which is one short line: a key may be any text of any length. */
function keyText(key: unknown): string {
  return typeof key === "string" && !/^\w{1,60}$/.test(key) ? valueText(key) : String(key);
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "an object";
  if (typeof value !== "string") return String(value);
  const isLong = value.length > MAX_SHOWN_CHARS;
  return JSON.stringify(isLong ? `${value.slice(0, MAX_SHOWN_CHARS)}…` : value);
}

/** An object with these fields and no others. */
// deno-lint-ignore explicit-function-return-type explicit-module-boundary-types -- a schema's type is its content
export function object<const Fields extends v.ObjectEntries>(fields: Fields) {
  return v.pipe(v.strictObject(fields, "an object"), v.readonly());
}

/** An object with these fields, and any others. */
// deno-lint-ignore explicit-function-return-type explicit-module-boundary-types -- likewise
export function openObject<const Fields extends v.ObjectEntries>(fields: Fields) {
  return v.pipe(v.object(fields, "an object"), v.readonly());
}

/** Like {@link object}, for a type declared elsewhere: it has to name all fields of the type. */
export function objectOf<T extends object>(
  fields: { readonly [K in keyof Required<T>]: FieldOf<T[K]> },
): v.GenericSchema<unknown, T> {
  const schema: v.GenericSchema = v.strictObject(fields, "an object");
  return schema as v.GenericSchema<unknown, T>;
}

/** The schema of a field. It may be optional only if the field may be undefined. */
type FieldOf<T> =
  & v.GenericSchema<unknown, T>
  & (undefined extends T ? unknown : { readonly wrapped?: never });

// deno-lint-ignore explicit-function-return-type explicit-module-boundary-types -- likewise
export function list<const Item extends v.GenericSchema>(item: Item) {
  return v.pipe(v.array(item, "a list"), v.readonly());
}

// deno-lint-ignore explicit-function-return-type explicit-module-boundary-types -- likewise
export function oneOf<const Choices extends readonly (string | number)[]>(choices: Choices) {
  return v.picklist(choices, `one of ${choices.join(", ")}`);
}

/** A string that passes a test; `what` names it in errors, as in "an absolute path". */
export function textThat(
  test: (text: string) => boolean,
  what: string,
): v.GenericSchema<unknown, string> {
  return v.custom<string>((value) => typeof value === "string" && test(value), what);
}

/** A whole number from `least` to `most`. */
export function count(least: number, most: number): v.GenericSchema<unknown, number> {
  return v.custom<number>(
    (value) => Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most,
    `a whole number from ${least} to ${most}`,
  );
}

export const anyText = v.string("a string");
export const bool = v.boolean("true or false");
export const size = count(0, Number.MAX_SAFE_INTEGER);
export const amount = v.custom<number>(Number.isFinite, "a number");
export const sha256 = textThat(
  (value) => /^[0-9a-f]{64}$/.test(value),
  "a SHA-256 in lower-case hex",
);
