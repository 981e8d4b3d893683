// SPDX-License-Identifier: MIT
/** User names, passwords and keys of mirrors and proxies stay in the request. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { DENO, MAIN, type Ran, seedstrap } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const [USER, PASSWORD, KEY] = ["tester-of-mirrors", "pa55word-of-mirrors", "k3y-of-mirrors"];
const SECRETS = [USER, PASSWORD, KEY, btoa(`${USER}:${PASSWORD}`)];

const dir = temp.make();
let server: Bun.Server<undefined>;
let mirror = "";
let tree = "";
/** How often the server was asked in the right way, and in another. */
const asked = { right: 0, wrong: 0 };

beforeAll(() => {
  const mini = miniTree({ importsPayload: true });
  tree = writeMiniTree(dir, mini).tree;
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      const url = new URL(request.url);
      const isRight = url.searchParams.get("key") === KEY &&
        request.headers.get("authorization") === `Basic ${btoa(`${USER}:${PASSWORD}`)}`;
      asked[isRight ? "right" : "wrong"]++;
      if (!isRight) return new Response("", { status: 401 });
      if (url.pathname.startsWith("/old/")) {
        url.pathname = url.pathname.replace("/old/", "/new/");
        return Response.redirect(url.pathname + url.search, 302);
      }
      const body = mini.distfiles[url.pathname.split("/").at(-1)!];
      return body === undefined ? new Response("", { status: 404 }) : new Response(body.slice());
    },
  });
  mirror = `http://${USER}:${PASSWORD}@127.0.0.1:${server.port}/new?key=${KEY}`;
});

afterAll(async () => {
  await server.stop(true);
  temp.release();
});

/** Files below a directory that have a secret in their content or name. */
function leaksIn(at: string): string[] {
  return readdirSync(at, { recursive: true, encoding: "utf8" }).filter((path) => {
    if (SECRETS.some((secret) => path.includes(secret))) return true;
    if (!statSync(join(at, path)).isFile()) return false;
    const bytes = readFileSync(join(at, path));
    return SECRETS.some((secret) => bytes.includes(secret));
  }).sort();
}

function expectNoLeak({ stdout, stderr }: Ran): void {
  for (const secret of SECRETS) expect(stdout + stderr).not.toContain(secret);
}

/** Media in which the machine downloads from the mirror. */
function media(name: string, from = mirror): string[] {
  const store = ["--distfiles", join(dir, `${name}-store`)];
  return ["-q", "--target-size", "64M", "--tree", tree, "-m", from, ...store];
}

test("a mirror is asked with its user name, password and key, which are nowhere else", async () => {
  const from = mirror.replace("/new?", "/old?");
  for (const json of [[], ["--json"]]) {
    const ran = await seedstrap(["plan", ...media("one", from), ...json]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expectNoLeak(ran);
    expect(ran.stdout).toContain("will ask the mirror 127.0.0.1:");
  }
  const target = join(dir, "one");
  const ran = await seedstrap(["build", ...media("one", from), "--json", "-t", target]);
  expect(ran.code).toBe(0);
  expectNoLeak(ran);
  expect(asked.right).toBeGreaterThan(0);
  expect(asked.wrong).toBe(0);
  expect(leaksIn(dir)).toEqual([]);
  const image = readFileSync(join(target, "init.img"));
  expect(image.includes(`MIRRORS="http://127.0.0.1:${server.port}/old"\n`)).toBe(true);
});

test("--mirror-credentials writes them to bootstrap.cfg of the image, and to nothing else", async () => {
  const target = join(dir, "two");
  const build = [...media("two"), "--mirror-credentials"];
  const planned = await seedstrap(["plan", ...build, "--json"]);
  expectNoLeak(planned);
  expect(planned.stdout).toContain("becomes part of the image, in bootstrap.cfg");
  const ran = await seedstrap(["build", ...build, "--json", "-t", target]);
  expect(ran.code).toBe(0);
  expectNoLeak(ran);
  expect(leaksIn(dir)).toEqual(["two/init.img"]);
  expect(readFileSync(join(target, "init.img")).includes(`MIRRORS="${mirror}"\n`)).toBe(true);

  const record = join(dir, "record.json");
  cpSync(join(target, "seedstrap.json"), record);
  const again = ["reproduce", record, "--tree", tree, "--distfiles", join(dir, "three-store")];
  const without = await seedstrap(again);
  expect(without.code).toBe(2);
  expect(without.stderr).toContain("give the mirror again, with -m URL");
  const reproduced = await seedstrap([...again, "-m", mirror]);
  expect(reproduced.code).toBe(0);
  expect(reproduced.stdout).toContain("the same: ");
  expectNoLeak(reproduced);
  rmSync(join(target, "init.img"));
  expect(leaksIn(dir)).toEqual([]);
});

test("errors show no secret of a mirror", async () => {
  for (
    const wrong of [
      mirror.replace("/new", "/nothing/\u{a0}"),
      mirror.replace("127.0.0.1", "[127.0.0.1"),
      mirror.replace("http:", "gopher:"),
      mirror.replace("http://", ""),
      mirror.replace("http://", "http:"),
      mirror.replace("http://", "//"),
      mirror.replace("http://", "https:/"),
      mirror.replace("http://", "file://"),
      mirror.replace("@", "@@").replace("http://", "HTTP:"),
    ]
  ) {
    const ran = await seedstrap(["plan", ...media("bad", wrong)]);
    expect(ran.code).toBe(2);
    expectNoLeak(ran);
  }
  const other = mirror.replace(`key=${KEY}`, `other=${KEY}`);
  const refused = await seedstrap(["build", ...media("bad", other), "-t", join(dir, "bad")]);
  expect(refused.code).toBe(4);
  expect(refused.stderr).toContain("401");
  expectNoLeak(refused);
  const extra = await seedstrap(["plan", "-q", mirror]);
  expect(extra.code).toBe(2);
  expectNoLeak(extra);
  expect(leaksIn(dir)).toEqual([]);
}, 30_000);

const RUNTIMES = [["Bun", [process.execPath, MAIN]], ["Deno", [
  DENO,
  "run",
  "--quiet",
  "-A",
  MAIN,
]]];
const PROXIES = [["127.0.0.1:9", 4], ["[127.0.0.1", 2], ["127.0.0.1:99999/ x", 2]] as const;

for (const [runtime, command] of RUNTIMES as [string, string[]][]) {
  for (const [proxy, code] of PROXIES) {
    test(`errors show no password of the proxy ${proxy}, under ${runtime}`, async () => {
      const url = `http://${USER}:${PASSWORD}@${proxy}`;
      const env = { http_proxy: url, HTTP_PROXY: url };
      const args = media("proxy", "http://mirror.invalid");
      const ran = await seedstrap(["build", ...args, "-t", join(dir, "proxy")], { env, command });
      expect(ran.code).toBe(code);
      expect(ran.stderr).not.toContain("bug:");
      expectNoLeak(ran);
    }, 60_000);
  }
}
