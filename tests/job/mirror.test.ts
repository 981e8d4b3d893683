// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseMirror } from "../../src/fetch/mirror.ts";
import { makeMirror } from "../../src/job/mirror.ts";
import { Bench, sampleBody, sha256, type TestServer } from "../fetch/servers.ts";
import { writeFiles } from "../support/files.ts";
import { MAIN, run, start } from "../support/run.ts";
import { lab, listed } from "./mirrors.ts";

const bench = new Bench();
afterAll(() => bench.release());

/** Bodies by the last part of a path; `gone` answers 404. */
const A = sampleBody(100_000, 1);
const B = sampleBody(50_000, 2);
const C = sampleBody(20_000, 3);

function server(bodies: Readonly<Record<string, Uint8Array>>): Promise<TestServer> {
  return bench.http((request, response) => {
    const body = bodies[request.url!.slice(1)];
    if (body === undefined) response.writeHead(404).end();
    else response.writeHead(200, { "Content-Length": body.length }).end(body);
  });
}

test("a mirror has the files of every step, and sha256sum accepts its SHA256SUMS", async () => {
  const { url } = await server({ "a.tar.gz": A, "b.tar.gz": B });
  const { dest, step, mirror } = await lab(bench);
  step("one-1.0", `f ${url}/a.tar.gz ${sha256(A)}\n`);
  step("unbuilt-2.0", `f ${url}/b.tar.gz ${sha256(B)} second.tar.gz\n`);
  const report = await mirror();
  expect(report).toMatchObject({ missing: [], findings: [], added: ["a.tar.gz", "second.tar.gz"] });
  expect(listed(dest)).toEqual(["SHA256SUMS", "a.tar.gz", "second.tar.gz"]);
  expect(sha256(readFileSync(join(dest, "second.tar.gz")))).toBe(sha256(B));
  expect(await run(["sha256sum", "-c", "--strict", "SHA256SUMS"], { cwd: dest }))
    .toMatchObject({ code: 0, stdout: "a.tar.gz: OK\nsecond.tar.gz: OK\n" });
});

test("a second run asks nothing and changes nothing", async () => {
  const files = await server({ "a.tar.gz": A });
  const { dest, step, mirror } = await lab(bench);
  step("one-1.0", `f ${files.url}/a.tar.gz ${sha256(A)}\n`);
  await mirror();
  const times = () =>
    [...listed(dest), "index.html"].map((name) => statSync(join(dest, name)).mtimeMs);
  const [asked, before] = [files.seen.length, times()];
  expect(await mirror()).toMatchObject({ added: [], missing: [], findings: [] });
  expect(files.seen).toHaveLength(asked);
  expect(times()).toEqual(before);
});

test("a file that was damaged is fetched again, and told", async () => {
  const { url } = await server({ "a.tar.gz": A });
  const { dest, request, step, mirror } = await lab(bench);
  step("one-1.0", `f ${url}/a.tar.gz ${sha256(A)}\n`);
  await mirror();
  writeFileSync(join(dest, "a.tar.gz"), A.subarray(1));
  const notices: string[] = [];
  const onNotice = (text: string) => notices.push(text);
  const { added } = await makeMirror(request, { onNotice }, new AbortController().signal);
  expect(added).toEqual(["a.tar.gz"]);
  expect(notices).toEqual(["with other bytes than the steps want, and replaced: a.tar.gz"]);
  expect(sha256(readFileSync(join(dest, "a.tar.gz")))).toBe(sha256(A));
});

test("dead and changed URLs are listed with their lines, and all other files are there", async () => {
  const { url } = await server({ "a.tar.gz": A, "b.tar.gz": B });
  const { dest, step, mirror } = await lab(bench);
  step(
    "one-1.0",
    `f ${url}/none.tar.gz ${sha256(C)}\nf ${url}/b.tar.gz ${sha256(C)}\nf ${url}/a.tar.gz ${
      sha256(A)
    }\n`,
  );
  const report = await mirror();
  expect(report.missing).toEqual(["b.tar.gz", "none.tar.gz"]);
  expect(report.findings.map(({ kind, where, source }) => ({ kind, where, source }))).toEqual([
    { kind: "dead", where: "steps/one-1.0/sources:1", source: `${url}/none.tar.gz` },
    { kind: "changed", where: "steps/one-1.0/sources:2", source: `${url}/b.tar.gz` },
  ]);
  expect(report.findings[0]!.answer).toContain("HTTP 404");
  expect(report.findings[1]!.answer).toContain(`got ${sha256(B)}`);
  expect(listed(dest)).toEqual(["SHA256SUMS", "a.tar.gz"]);
});

test("what another mirror has is mirrored, and its URL is listed as dead", async () => {
  const dead = await server({});
  const other = await server({ "a.tar.gz": A });
  const { dest, step, mirror } = await lab(bench);
  step("one-1.0", `f ${dead.url}/a.tar.gz ${sha256(A)}\n`);
  const report = await mirror({ mirrors: [parseMirror(other.url)] });
  expect(report.missing).toEqual([]);
  expect(report.findings).toMatchObject([{ kind: "dead", name: "a.tar.gz", isMirrored: true }]);
  expect(listed(dest)).toEqual(["SHA256SUMS", "a.tar.gz"]);
});

test("one name with two checksums is listed, and the first line has it", async () => {
  const { url } = await server({ "1/a.tar.gz": A, "2/a.tar.gz": B });
  const { dest, step, mirror } = await lab(bench);
  step("one-1.0", `f ${url}/1/a.tar.gz ${sha256(A)}\n`);
  step("two-2.0", `f ${url}/2/a.tar.gz ${sha256(B)}\n`);
  const report = await mirror();
  expect(report.findings).toMatchObject([
    { kind: "conflict", name: "a.tar.gz", sha256: sha256(B), where: "steps/two-2.0/sources:1" },
  ]);
  expect(sha256(readFileSync(join(dest, "a.tar.gz")))).toBe(sha256(A));
});

test("two names of the same bytes are one download and one file", async () => {
  const files = await server({ "a.tar.gz": A });
  const { dest, step, mirror } = await lab(bench);
  const line = (name: string) => `f ${files.url}/a.tar.gz ${sha256(A)} ${name}\n`;
  step("one-1.0", line("x.tar.gz") + line("y.tar.gz"));
  expect((await mirror()).files).toHaveLength(2);
  expect(files.seen).toHaveLength(1);
  expect(statSync(join(dest, "x.tar.gz")).ino).toBe(statSync(join(dest, "y.tar.gz")).ino);
});

test("what the store has takes no room twice", async () => {
  const { dir, dest, step, mirror } = await lab(bench);
  writeFiles(dir, { "store/a.tar.gz": A });
  step("one-1.0", `f http://127.0.0.1:9/a.tar.gz ${sha256(A)}\n`);
  expect(await mirror()).toMatchObject({ missing: [], findings: [] });
  const ino = statSync(join(dir, "store/a.tar.gz")).ino;
  expect(statSync(join(dest, "a.tar.gz")).ino).toBe(ino);
});

test("prune removes only what seedstrap has put there and nobody has changed", async () => {
  const { url } = await server({ "a.tar.gz": A, "b.tar.gz": B, "c.tar.gz": C });
  const { dest, step, mirror } = await lab(bench);
  const line = (name: string, body: Uint8Array) => `f ${url}/${name} ${sha256(body)}\n`;
  writeFiles(dest, { "own.txt": "mine", "c.tar.gz": C });
  step("one-1.0", line("a.tar.gz", A) + line("b.tar.gz", B) + line("c.tar.gz", C));
  await mirror();
  writeFileSync(join(dest, "b.tar.gz"), "changed by its owner");
  step("one-1.0", "");
  expect(await mirror()).toMatchObject({ stale: ["a.tar.gz"], isPruned: false });
  expect(existsSync(join(dest, "a.tar.gz"))).toBe(true);
  expect(await mirror({ prunes: true })).toMatchObject({ stale: ["a.tar.gz"], isPruned: true });
  expect(listed(dest)).toEqual(["SHA256SUMS", "b.tar.gz", "c.tar.gz", "own.txt"]);
  expect(readFileSync(join(dest, "SHA256SUMS"), "utf8")).toBe("");
});

test("a directory whose SHA256SUMS somebody else has made is left alone", async () => {
  const { dest, step, mirror } = await lab(bench);
  writeFiles(dest, { SHA256SUMS: "theirs" });
  step("one-1.0", "");
  const error = await mirror().then(() => undefined, (error: unknown) => error);
  expect(String(error)).toContain("it has a SHA256SUMS that seedstrap did not make");
  expect(listed(dest)).toEqual(["SHA256SUMS"]);
});

test("the page of a mirror links to every file, whatever its name", async () => {
  const { url } = await server({ "a.tar.gz": A });
  const { dest, step, mirror } = await lab(bench);
  const names = ["a&b<c>.tar.gz", "x:y.tar.gz", "50%25#?.tar.gz", "plain.tar.gz"];
  step("one-1.0", names.map((name) => `f ${url}/a.tar.gz ${sha256(A)} ${name}\n`).join(""));
  expect((await mirror()).missing).toEqual([]);
  const page = readFileSync(join(dest, "index.html"), "utf8");
  expect(page).not.toContain("<c>");
  const links: string[] = [];
  const base = "http://mirror.example/lb/index.html";
  new HTMLRewriter().on("a", { element: (a) => void links.push(a.getAttribute("href")!) })
    .transform(page);
  const paths = links.map((href) =>
    decodeURIComponent(new URL(href.replaceAll("&amp;", "&"), base).pathname)
  );
  expect(paths.sort()).toEqual(["SHA256SUMS", ...names].map((name) => `/lb/${name}`).sort());
});

test("what killed runs have left, and nobody wants any more, is removed", async () => {
  const { dest, step, mirror } = await lab(bench);
  step("one-1.0", "");
  const old = `sha256/ab/${"ab".repeat(32)}`;
  await mirror();
  writeFiles(join(dest, ".seedstrap"), {
    [`${old}.part`]: "half",
    [`${old}.copy`]: "half",
    "snapshot-4194303-1-abcdef/snapshot.tar": "half",
  });
  await mirror();
  expect(readdirSync(join(dest, ".seedstrap"))).toEqual([]);
});

test("two mirrors of one directory at once: the second is refused", async () => {
  const silent = await bench.raw(() => {});
  const { dest, request, step, mirror } = await lab(bench);
  step("one-1.0", `f ${silent.url}/a.tar.gz ${sha256(A)}\n`);
  const words = ["mirror", dest, "--tree", request.tree, "--store", request.store];
  const child = start([process.execPath, MAIN, ...words]);
  for (let round = 0; round < 500 && silent.seen.length === 0; round++) await sleep(20);
  const error = await mirror().then(() => undefined, (error: unknown) => error);
  expect(String(error)).toContain(`process ${child.pid} does`);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(130);
});

test("a mirror that is killed goes on where it was, and no unfinished file has its name", async () => {
  let isWhole = false;
  const slow = await bench.http((request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    if (request.url === "/b.tar.gz") {
      response.writeHead(200, { "Content-Length": B.length }).end(B);
      return;
    }
    response.writeHead(from > 0 ? 206 : 200, {
      "Content-Length": A.length - from,
      ...(from > 0 && { "Content-Range": `bytes ${from}-${A.length - 1}/${A.length}` }),
    });
    if (isWhole) response.end(A.subarray(from));
    else response.write(A.subarray(0, 60_000));
  });
  const { dest, request, step, mirror } = await lab(bench);
  step(
    "one-1.0",
    ["a", "b"].map((name, index) => `f ${slow.url}/${name}.tar.gz ${sha256([A, B][index]!)}\n`)
      .join(""),
  );
  const words = ["mirror", dest, "--tree", request.tree, "--store", request.store];
  const child = start([process.execPath, MAIN, ...words]);
  const part = join(dest, ".seedstrap/sha256", sha256(A).slice(0, 2), `${sha256(A)}.part`);
  const size = () => existsSync(part) ? statSync(part).size : 0;
  const isThere = () => size() === 60_000 && existsSync(join(dest, "b.tar.gz"));
  for (let round = 0; round < 500 && !isThere(); round++) await sleep(20);
  child.kill("SIGKILL");
  await child.exited;
  expect(listed(dest)).toEqual(["b.tar.gz"]);
  isWhole = true;
  expect(await mirror()).toMatchObject({ missing: [], added: ["a.tar.gz"] });
  expect(slow.seen).toContain("GET /a.tar.gz bytes=60000-");
  expect(slow.seen.filter((seen) => seen.includes("b.tar.gz"))).toHaveLength(1);
  expect(readdirSync(join(dest, ".seedstrap"))).toEqual(["made"]);
});

test("a file cannot have the name of one that a mirror makes", async () => {
  const { url } = await server({ "index.html": A });
  const { dest, step, mirror } = await lab(bench);
  step("one-1.0", `f ${url}/index.html ${sha256(A)}\n`);
  const report = await mirror();
  expect(report.findings).toMatchObject([{ kind: "conflict", name: "index.html" }]);
  expect(readFileSync(join(dest, "index.html"), "utf8")).toStartWith("<!DOCTYPE html>");
});

test("a directory that has the name of a distfile is told before anything is asked", async () => {
  const files = await server({ "a.tar.gz": A });
  const { dest, step, mirror } = await lab(bench);
  writeFiles(dest, { "a.tar.gz/inner": "mine" });
  step("one-1.0", `f ${files.url}/a.tar.gz ${sha256(A)}\n`);
  const refused = await mirror().catch((error: unknown) => error);
  expect(String(refused)).toContain(`Cannot replace ${join(dest, "a.tar.gz")}: it is a directory`);
  expect(files.seen).toEqual([]);
});

test("no mirror is made in distfiles/ of the checkout, nor through a link", async () => {
  const { dir, dest, request, step, mirror } = await lab(bench);
  step("one-1.0", "");
  const inTree = join(request.tree, "distfiles");
  const refused = await mirror({ dest: inTree }).catch((error: unknown) => error);
  expect(refused).toMatchObject({ kind: "usage" });
  expect(existsSync(inTree)).toBe(false);
  writeFiles(dir, { "elsewhere/": "", "mirror/": "" });
  symlinkSync(join(dir, "elsewhere"), join(dest, ".seedstrap"));
  const linked = await mirror().catch((error: unknown) => error);
  expect(linked).toMatchObject({ kind: "target" });
  expect(readdirSync(join(dir, "elsewhere"))).toEqual([]);
});
