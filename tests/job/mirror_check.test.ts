// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { checkMirror, type CheckReport } from "../../src/job/mirror_check.ts";
import { Bench, deadUrl, sampleBody, sha256 } from "../fetch/servers.ts";
import { git, type Lab, lab, makeRepository, serveGit } from "./mirrors.ts";

const bench = new Bench();
afterAll(() => bench.release());
const A = sampleBody(10_000, 1);

function check({ request }: Lab, dest?: string): Promise<CheckReport> {
  return checkMirror({ tree: request.tree, dest }, {}, new AbortController().signal);
}

const found = ({ findings }: CheckReport) =>
  findings.map(({ kind, name, answer }) => `${name}: ${kind}: ${answer}`);

test("a check asks every URL by HEAD, writes nothing, and finds nothing where all is well", async () => {
  const files = await bench.files(A);
  const own = await lab(bench);
  own.step("one-1.0", `f ${files.url}/a.tar.gz ${sha256(A)}\n`);
  own.step("two-1.0", `f ${files.url}/b.tar.gz ${sha256(A)}\n`);
  await own.mirror();
  const names = () => readdirSync(own.dest, { recursive: true, encoding: "utf8" }).sort();
  const before = names().map((name) => [name, statSync(join(own.dest, name)).mtimeMs]);
  files.seen.length = 0;
  const report = await check(own, own.dest);
  expect(report).toMatchObject({ findings: [], missing: [], urls: 2, repositories: 0 });
  expect(files.seen.sort()).toEqual(["HEAD /a.tar.gz", "HEAD /b.tar.gz"]);
  expect(names().map((name) => [name, statSync(join(own.dest, name)).mtimeMs])).toEqual(before);
});

test("a check needs no mirror, and makes none", async () => {
  const files = await bench.files(A);
  const own = await lab(bench);
  own.step("one-1.0", `f ${files.url}/a.tar.gz ${sha256(A)}\n`);
  expect(await check(own)).toMatchObject({ dest: undefined, findings: [], missing: [] });
  expect(await check(own, own.dest)).toMatchObject({ findings: [], missing: ["a.tar.gz"] });
  expect(existsSync(own.dest)).toBe(false);
});

test("a check tells what answers with something else, and every dead URL", async () => {
  const web = await bench.http((request, response) => {
    const answers: Readonly<Record<string, () => void>> = {
      "/same": () => response.writeHead(200, { "Content-Length": A.length }).end(),
      "/longer": () => response.writeHead(200, { "Content-Length": A.length + 1 }).end(),
      "/page": () => response.writeHead(200, { "Content-Type": "text/html; charset=x" }).end(),
      "/no-head": () =>
        request.method === "HEAD"
          ? response.writeHead(405).end()
          : response.writeHead(200, { "Content-Length": A.length }).end(A),
      "/gone": () => response.writeHead(410).end(),
    };
    answers[request.url!]!();
  });
  const dead = await deadUrl(bench);
  const own = await lab(bench);
  const names = ["same", "longer", "page", "no-head", "gone"];
  own.step("one-1.0", names.map((name) => `f ${web.url}/${name} ${sha256(A)}\n`).join(""));
  own.step("two-1.0", ["x", "y", "z", "w"].map((n) => `f ${dead}/${n} ${sha256(n)}\n`).join(""));
  for (const name of names) await Bun.write(join(own.dest, name), A);
  const report = await check(own, own.dest);
  expect(found(report)).toEqual([
    "longer: changed: 10001 bytes, the file has 10000",
    "page: changed: a page of HTML in place of the file",
    "gone: dead: HTTP 410 Gone",
    "x: dead: connection refused",
    "y: dead: connection refused",
    "z: dead: connection refused",
    "w: dead: connection refused",
  ]);
  expect(report.findings.map(({ isMirrored }) => isMirrored))
    .toEqual([true, true, true, false, false, false, false]);
  expect(report.missing).toEqual(["w", "x", "y", "z"]);
});

test("a check finds a reference that a repository has lost, without cloning it", async () => {
  const dir = join(await bench.dir(), "r.git");
  const commit = await makeRepository(dir, { f: "one\n" });
  writeFileSync(join(dir, "f"), "two\n");
  await git(dir, "commit", "-qam", "two");
  await git(dir, "tag", "-am", "annotated", "v1");
  const tip = await git(dir, "rev-parse", "HEAD");
  const served = await serveGit(dirname(dir));
  try {
    const own = await lab(bench);
    const url = `${served.url}/r.git`;
    const line = (reference: string, index: number) =>
      `g ${url}~${reference} _ ${sha256("x")} ${index}.tar.gz\n`;
    const references = ["main", "v1", tip, tip.slice(0, 8), commit.slice(0, 8), "v2", "-o"];
    own.step("one-1.0", references.map(line).join(""));
    const report = await check(own);
    expect(found(report)).toEqual([
      "5.tar.gz: lost: the repository has no such reference",
      "6.tar.gz: lost: refused: it is not the name of a branch, a tag or a commit",
    ]);
    expect(report.untold).toEqual([`${url}~${commit.slice(0, 8)}`]);
    expect(existsSync(own.dest)).toBe(false);
  } finally {
    await served.close();
  }
});
