// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { hrefOf, indexPage } from "../../src/fetch/index_page.ts";

test("a page has names, sizes and digests, and escapes all that comes from outside", () => {
  const page = indexPage({
    title: "a <b> & \u001b[31m",
    entries: [
      { name: `"x" <y>`, href: hrefOf(`"x" <y>`), sizeBytes: 2048, sha256: "ab".repeat(32) },
      { name: "dir", href: "./dir/", isDirectory: true },
      { name: "\u202Egnp", href: `"onclick="alert(1)` },
    ],
  });
  expect(page).toStartWith("<!DOCTYPE html>\n");
  expect(page).toContain("<title>a &lt;b&gt; &amp; \\x1b[31m</title>");
  expect(page).toContain(
    `<a href="./%22x%22%20%3Cy%3E">&quot;x&quot; &lt;y&gt;</a></td><td class="size">2.00 KiB</td>`,
  );
  expect(page).toContain(`<td class="sum">${"ab".repeat(32)}</td>`);
  expect(page).toContain(`<a href="./dir/">dir/</a>`);
  expect(page).toContain(`href="&quot;onclick=&quot;alert(1)"`);
  for (const bad of ["<script", "\u001b", "\u202E"]) expect(page).not.toContain(bad);
});

test("a page without digests has no column for them", () => {
  const page = indexPage({ title: "t", entries: [{ name: "a", href: "./a" }] });
  expect(page).not.toContain("SHA-256");
});
