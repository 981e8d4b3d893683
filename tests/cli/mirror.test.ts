// SPDX-License-Identifier: MIT
/** What `seedstrap mirror` says, and with which exit code it ends. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Bench, sampleBody, sha256 } from "../fetch/servers.ts";
import { writeFiles } from "../support/files.ts";
import { type Ran, seedstrap } from "../support/run.ts";

const bench = new Bench();
afterAll(() => bench.release());
const BODY = sampleBody(5000);
let dir: string;
let url: string;

beforeAll(async () => {
  dir = await bench.dir();
  ({ url } = await bench.http((request, response) => {
    const isThere = request.url === "/a.tar.gz";
    response.writeHead(isThere ? 200 : 404, isThere ? { "Content-Length": BODY.length } : {});
    response.end(isThere ? BODY : undefined);
  }));
  writeFiles(dir, {
    "tree/steps/manifest": "",
    "tree/steps/a-1.0/sources": `f ${url}/a.tar.gz ${sha256(BODY)}\n`,
  });
});

function mirror(...words: readonly string[]): Promise<Ran> {
  const places = ["--tree", join(dir, "tree"), "--store", join(dir, "store")];
  return seedstrap(["mirror", ...words, ...places]);
}

test("the first run says what is new, the second one that nothing was to do", async () => {
  const dest = join(dir, "m");
  expect(await mirror(dest)).toMatchObject({
    code: 0,
    stdout: `${dest}: 1 file, 4.88 KiB; 1 new\n`,
  });
  expect(await mirror(dest)).toMatchObject({
    code: 0,
    stdout: `${dest}: 1 file, 4.88 KiB; nothing was to do\n`,
    stderr: "",
  });
});

test("a dead URL is named with the line of its step, and the exit code is 4", async () => {
  const dead = `f ${url}/gone.tar.gz ${sha256("x")}\n`;
  writeFiles(dir, { "tree/steps/gone-1.0/sources": dead });
  const ran = await mirror(join(dir, "n"));
  expect(ran.code).toBe(4);
  const lines =
    `Dead URLs:\n  steps/gone-1.0/sources:1: gone.tar.gz\n    ${url}/gone.tar.gz: HTTP 404 Not Found\n`;
  expect(ran.stdout).toStartWith(lines);
  expect(ran.stderr).toContain("The mirror is not complete: 1 of 2 files could not be had\n");
  const checked = await mirror("--check");
  expect(checked.code).toBe(4);
  expect(checked.stdout).toBe(`${lines}2 URLs and 0 repositories asked\n`);
  expect(checked.stderr).toContain("Not everything is as the steps say: 1 line of steps to mend\n");
});

test("words that make no sense are refused before anything is made", async () => {
  const before = readdirSync(dir);
  const dest = join(dir, "never");
  expect(await mirror()).toMatchObject({ code: 2 });
  expect(await mirror(dest, "--check", "--prune")).toMatchObject({ code: 2 });
  expect(await mirror(dest, "--check", "-m", url)).toMatchObject({ code: 2 });
  expect(await mirror(dest, "--jobs", "0")).toMatchObject({ code: 2 });
  expect(await mirror(dest, dest)).toMatchObject({ code: 2 });
  expect(readdirSync(dir)).toEqual(before);
});
