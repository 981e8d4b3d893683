// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { markup } from "../../src/report/html.ts";
import { escapeHtml } from "../../src/text.ts";
import { printable } from "../../src/text.ts";

test("escapeHtml() leaves no character that HTML or a reader obeys, and loses nothing", () => {
  const nasty = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("<", ">", "&", '"', "'", "&lt;", "\0", "\u202e", "\ud800", "\n", "</script>"),
  );
  fc.assert(fc.property(fc.array(nasty).map((parts) => parts.join("")), (text) => {
    const escaped = escapeHtml(text);
    // deno-lint-ignore no-control-regex -- that is what it must not leave
    expect(escaped).not.toMatch(/[<>"'\0-\x1f\u202a-\u202e]|&(?!(?:amp|lt|gt|quot|#39);)/);
    const back = escaped.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
      .replaceAll("&#39;", "'").replaceAll("&amp;", "&");
    expect(back).toBe(printable(text.toWellFormed()));
  }));
});

test("escapeHtml() cuts a long text", () => {
  expect(escapeHtml("<".repeat(10_000_000)).length).toBe(4 * 4095 + 1);
});

test("markup() escapes what is put into it, and nothing twice", () => {
  const name = `"><script>alert(1)</script>`;
  const inner = markup`<b title="${name}">${[1, undefined, false, "<i>"]}</b>`;
  expect(markup`<p>${inner}</p>`.text).toBe(
    '<p><b title="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;">1&lt;i&gt;</b></p>',
  );
});
