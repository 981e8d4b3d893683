// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { seedstrap } from "../support/run.ts";

const help = async (...args: string[]) => (await seedstrap([...args, "--help"])).stdout;
/** Names of commands that a help text lists. */
const commands = (text: string) =>
  [...text.matchAll(/^ {2}([a-z]+) /gm)].map((match) => match[1]!).filter((name) =>
    name !== "help" && name !== "seedstrap"
  );

test("the manual page names every command and every option that --help does", async () => {
  const page = (await seedstrap(["man"])).stdout.replaceAll("\\-", "-").replace(/\\f[BIR]/g, "");
  const top = await help();
  const names = commands(top.slice(0, top.indexOf("Exit codes")));
  expect(names).toContain("build");
  expect(names).toContain("preflight");
  for (const name of names) {
    if (name !== "bootstrap") expect(page).toContain(name);
    const text = await help(name);
    const inner = name === "image"
      ? await Promise.all(commands(text).map((c) => help(name, c)))
      : [];
    for (const [option] of [text, ...inner].join("\n").matchAll(/--[a-z][a-z-]+/g)) {
      if (option === "--help") continue;
      expect(`${name} ${option}: ${page.includes(option)}`).toBe(`${name} ${option}: true`);
    }
  }
});
