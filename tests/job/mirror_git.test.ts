// SPDX-License-Identifier: MIT
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UserError } from "../../src/errors.ts";
import { Bench, sampleBody, sha256 } from "../fetch/servers.ts";
import { MAIN, run, start } from "../support/run.ts";
import { git, type GitServer, lab, listed, makeRepository, serveGit } from "./mirrors.ts";

const bench = new Bench();
let repositories: string;
let server: GitServer;
/** The commit of each repository. */
const commits = new Map<string, string>();

const FILES: Readonly<Record<string, Readonly<Record<string, string | Uint8Array>>>> = {
  alpha: { "README": "alpha\n", "src/main.c": "int main(void) { return 0; }\n" },
  beta: { "data.bin": sampleBody(300_000, 7), "deep/er/file": "x\n" },
  gamma: {
    ".gitattributes": "*.txt export-ignore\nver export-subst\n",
    "ver": "$Format:%H$\n",
    "no.txt": "",
  },
  delta: { "run.sh": "#!/bin/sh\n", "crlf.bat": "a\r\nb\r\n" },
  "gitlab-like": { "f": "f\n" },
};

beforeAll(async () => {
  repositories = await bench.dir();
  for (const [name, files] of Object.entries(FILES)) {
    const dir = join(repositories, `${name}.git`);
    commits.set(name, await makeRepository(dir, files));
    await git(dir, "tag", "v1.0");
    await git(dir, "tag", "-am", "annotated", "release/2");
  }
  server = await serveGit(repositories);
});

afterAll(async () => {
  await server?.close();
  await bench.release();
});

/** Makes a snapshot as somebody does by hand. */
async function byHand(
  name: string,
  reference: string,
  prefix: string,
  packer: string,
): Promise<Uint8Array> {
  const dir = join(repositories, `${name}.git`);
  const out = join(await bench.dir(), "out");
  const script = `git -C "$1" archive --format=tar --prefix="$2/" "$3" | ${packer} > "$4"`;
  const ran = await run(["sh", "-c", script, "sh", dir, prefix, reference, out]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  return readFileSync(out);
}

/** Returns the command lines of processes that name something. */
async function running(text: string): Promise<string> {
  return (await run(["pgrep", "-a", "-f", `git.*${text}`])).stdout;
}

/** Returns the line of a source. */
function line(url: string, reference: string, body: Uint8Array | string, name: string): string {
  return `g ${url}~${reference} _ ${typeof body === "string" ? body : sha256(body)} ${name}\n`;
}

test("snapshots of five repositories are those that are made by hand", async () => {
  const { dest, step, mirror } = await lab(bench);
  const at = (name: string) => `${server.url}/${name}.git`;
  const short = commits.get("beta")!.slice(0, 9);
  const wanted = {
    "alpha-1.0.tar.gz": await byHand("alpha", "v1.0", "alpha-1.0", "gzip -n"),
    "alpha-2.tar.xz": await byHand("alpha", "release/2", "alpha-release/2", "xz -T1"),
    "beta.tar.gz": await byHand("beta", short, `beta-${short}`, "gzip -n"),
    "gamma.tar": await byHand("gamma", "main", "gamma-main", "cat"),
    "delta.tar.xz": await byHand("delta", "v1.0", "delta-1.0", "xz -T1"),
    "like.tar.gz": await byHand("gitlab-like", "v1.0", "gitlab-like-v1.0", "gzip -n"),
  };
  step(
    "alpha-1.0",
    line(at("alpha"), "v1.0", wanted["alpha-1.0.tar.gz"], "alpha-1.0.tar.gz") +
      line(at("alpha"), "release/2", wanted["alpha-2.tar.xz"], "alpha-2.tar.xz"),
  );
  step("beta-1.0", line(at("beta"), short, wanted["beta.tar.gz"], "beta.tar.gz"));
  step(
    "others-1.0",
    line(at("gamma"), "main", wanted["gamma.tar"], "gamma.tar") +
      line(at("delta"), "v1.0", wanted["delta.tar.xz"], "delta.tar.xz") +
      line(at("gitlab-like"), "v1.0", wanted["like.tar.gz"], "like.tar.gz"),
  );
  const report = await mirror();
  expect(report).toMatchObject({ findings: [], missing: [] });
  expect(listed(dest)).toEqual(["SHA256SUMS", ...Object.keys(wanted)].sort());
  for (const [name, body] of Object.entries(wanted)) {
    expect(sha256(readFileSync(join(dest, name)))).toBe(sha256(body));
  }
  expect(await mirror()).toMatchObject({ added: [], missing: [], findings: [] });
});

test("a clone in --state is enough where its repository is gone", async () => {
  const { dir, dest, step, mirror } = await lab(bench);
  const own = join(await bench.dir(), "r.git");
  await makeRepository(own, { f: "one\n" });
  await git(own, "tag", "v1");
  const by = join(dir, "by-hand.tar");
  await git(own, "archive", "--format=tar", "--prefix=r-1/", "-o", by, "v1");
  const served = await serveGit(dirname(own));
  step("one-1.0", line(`${served.url}/r.git`, "v1", readFileSync(by), "r.tar"));
  const state = join(dir, "state");
  expect(await mirror({ state })).toMatchObject({ added: ["r.tar"] });
  await served.close();
  const second = await mirror({ state, dest: join(dir, "second") });
  expect(second).toMatchObject({ added: ["r.tar"], findings: [] });
  expect(readdirSync(join(state, "git"))).toHaveLength(1);
  expect(existsSync(join(dest, ".seedstrap/git"))).toBe(false);
});

test("a clone that is damaged is named, and stops nothing else", async () => {
  const { dest, step, mirror } = await lab(bench);
  const beta = await byHand("beta", "v1.0", "beta-1.0", "gzip -n");
  const gamma = await byHand("gamma", "v1.0", "gamma-1.0", "gzip -n");
  step("beta-1.0", line(`${server.url}/beta.git`, "v1.0", beta, "beta.tar.gz"));
  await mirror();
  const clones = join(dest, ".seedstrap/git");
  const [clone] = readdirSync(clones);
  const blob = await git(join(repositories, "beta.git"), "rev-parse", "v1.0:data.bin");
  rmSync(join(clones, clone!, "objects", blob.slice(0, 2), blob.slice(2)));
  rmSync(join(dest, "beta.tar.gz"));
  step("gamma-1.0", line(`${server.url}/gamma.git`, "v1.0", gamma, "gamma.tar.gz"));
  const report = await mirror();
  expect(report).toMatchObject({ added: ["gamma.tar.gz"], missing: ["beta.tar.gz"] });
  expect(report.findings[0]!.answer)
    .toStartWith(`the clone ${join(clones, clone!)} is damaged, remove it: `);
  rmSync(join(clones, clone!), { recursive: true });
  expect(await mirror()).toMatchObject({ added: ["beta.tar.gz"], findings: [] });
});

test("an interrupt ends git and what git has started", async () => {
  const silent = await bench.raw(() => {});
  const { dest, step, mirror } = await lab(bench);
  step("one-1.0", line(`${silent.url}/r.git`, "v1", sha256("x"), "x.tar"));
  const stop = new AbortController();
  const ended = mirror({}, stop.signal).catch((error: unknown) => error);
  for (let round = 0; round < 500 && silent.seen.length === 0; round++) await sleep(20);
  expect(await running(silent.url)).toContain("git-remote-http");
  stop.abort(new UserError("interrupt", "Interrupted by SIGTERM"));
  expect(await ended).toMatchObject({ kind: "interrupt" });
  for (let round = 0; round < 100 && await running(silent.url) !== ""; round++) await sleep(20);
  expect(await running(silent.url)).toBe("");
  expect(listed(dest)).toEqual([]);
});

test("git does not outlive a mirror that is killed", async () => {
  const silent = await bench.raw(() => {});
  const { dest, request, step } = await lab(bench);
  step("one-1.0", line(`${silent.url}/r.git`, "v1", sha256("x"), "x.tar"));
  const words = ["mirror", dest, "--tree", request.tree, "--store", request.store];
  const child = start([process.execPath, MAIN, ...words]);
  for (let round = 0; round < 500 && silent.seen.length === 0; round++) await sleep(20);
  child.kill("SIGKILL");
  await child.exited;
  for (let round = 0; round < 100 && /\bfetch\b/.test(await running(silent.url)); round++) {
    await sleep(20);
  }
  expect(await running(silent.url)).not.toMatch(/\bfetch\b/);
});

test("a repository that lost its reference is reported, and all others are there", async () => {
  const { dest, step, mirror } = await lab(bench);
  const alpha = await byHand("alpha", "v1.0", "alpha-1.0", "gzip -n");
  step("lost-1.0", line(`${server.url}/alpha.git`, "v9", sha256("x"), "lost.tar.gz"));
  step("gone-1.0", line(`${server.url}/none.git`, "v1", sha256("y"), "gone.tar.gz"));
  step("moved-1.0", line(`${server.url}/beta.git`, "v1.0", sha256("z"), "moved.tar.gz"));
  step("zeta-1.0", line(`${server.url}/alpha.git`, "v1.0", alpha, "alpha.tar.gz"));
  const report = await mirror();
  expect(report.missing).toEqual(["gone.tar.gz", "lost.tar.gz", "moved.tar.gz"]);
  expect(
    report.findings.map(({ kind, where, source }) => ({ kind, where, source })).sort((a, b) =>
      a.where < b.where ? -1 : 1
    ),
  )
    .toEqual([
      { kind: "dead", where: "steps/gone-1.0/sources:1", source: `${server.url}/none.git~v1` },
      { kind: "lost", where: "steps/lost-1.0/sources:1", source: `${server.url}/alpha.git~v9` },
      {
        kind: "changed",
        where: "steps/moved-1.0/sources:1",
        source: `${server.url}/beta.git~v1.0`,
      },
    ]);
  expect(listed(dest)).toEqual(["SHA256SUMS", "alpha.tar.gz"]);
  expect(readdirSync(join(dest, ".seedstrap")).filter((name) => name.startsWith("snapshot-")))
    .toEqual([]);
});

test("a repository of a static web server, busy at first, is cloned; its snapshot URL is dead", async () => {
  const dir = join(repositories, "alpha.git");
  await git(dir, "repack", "-adq");
  await git(dir, "update-server-info");
  let isBusy = true;
  const web = await bench.http((request, response) => {
    const path = join(
      dir,
      ".git",
      new URL(request.url!, "http://h").pathname.replace("/alpha.git/", ""),
    );
    if (!request.url!.startsWith("/alpha.git/") || !existsSync(path)) response.writeHead(404).end();
    else if (isBusy) {
      response.writeHead(503).end();
      isBusy = false;
    } else response.writeHead(200).end(readFileSync(path));
  });
  const { step, mirror } = await lab(bench);
  const body = await byHand("alpha", "v1.0", "alpha-1.0", "gzip -n");
  step(
    "one-1.0",
    `g ${web.url}/alpha.git~v1.0 ${web.url}/snapshot/alpha-1.0.tar.gz ${sha256(body)}\n`,
  );
  const report = await mirror();
  expect(report).toMatchObject({ added: ["alpha-1.0.tar.gz"], missing: [] });
  expect(report.findings).toMatchObject([{
    kind: "dead",
    isMirrored: true,
    source: `${web.url}/snapshot/alpha-1.0.tar.gz`,
  }]);
});

describe("what a checkout says is never an option or an expression for git", () => {
  for (
    const reference of [
      "--output=pwned",
      "-v",
      "main:README",
      "HEAD^{/x}",
      "a..b",
      "@{-1}",
      "x.lock",
      "/etc/passwd",
      "a//b",
      "@",
    ]
  ) {
    test(`reference ${reference}`, async () => {
      const { dir, step, mirror } = await lab(bench);
      step("one-1.0", line(`${server.url}/alpha.git`, reference, sha256("x"), "x.tar.gz"));
      const report = await mirror();
      expect(report.findings).toMatchObject([{
        kind: "lost",
        answer: "refused: it is not the name of a branch, a tag or a commit",
      }]);
      expect(readdirSync(dir).sort()).toEqual(["mirror", "tree"]);
    });
  }

  for (
    const url of ["git://-oProxyCommand=touch pwned/r.git".replace(" ", "%20"), "http://-x/r.git"]
  ) {
    test(`URL ${url}`, async () => {
      const { step, mirror } = await lab(bench);
      step("one-1.0", line(url, "v1", sha256("x"), "x.tar.gz"));
      expect((await mirror()).findings).toMatchObject([{
        answer: "refused: git is asked by https, http and git:// only",
      }]);
    });
  }

  test("a redirect to another protocol is not followed", async () => {
    const web = await bench.http((request, response) => {
      response.writeHead(302, {
        Location: `file://${repositories}/alpha.git${request.url!.replace(/^\/r.git/, "")}`,
      }).end();
    });
    const { step, mirror } = await lab(bench);
    step("one-1.0", line(`${web.url}/r.git`, "v1.0", sha256("x"), "x.tar.gz"));
    expect((await mirror()).findings).toMatchObject([{ kind: "dead" }]);
    expect(web.seen.length).toBeGreaterThan(0);
  });
});

test("neither the configuration of the user nor that of a clone runs anything", async () => {
  const { dir, step, mirror } = await lab(bench);
  const state = join(dir, "state");
  const marker = join(dir, "ran");
  const own = await bench.dir();
  await makeRepository(join(own, "r.git"), { ".gitattributes": "f filter=evil\n", f: "one\n" });
  await git(join(own, "r.git"), "tag", "v1");
  const served = await serveGit(own);
  const by = join(dir, "by-hand.tar");
  await git(join(own, "r.git"), "archive", "--format=tar", "--prefix=r-1/", "-o", by, "v1");
  step("one-1.0", line(`${served.url}/r.git`, "v1", sha256("none"), "none.tar"));
  await mirror({ state });
  const [clone] = readdirSync(join(state, "git"));
  const evil =
    `[filter "evil"]\n\tsmudge = touch ${marker}\n[core]\n\tfsmonitor = touch ${marker}\n\tbare = true\n`;
  writeFileSync(join(state, "git", clone!, "config"), evil);
  const before = { home: process.env["HOME"], xdg: process.env["XDG_CONFIG_HOME"] };
  const home = join(dir, "home");
  await run(["mkdir", "-p", home]);
  writeFileSync(join(home, ".gitconfig"), evil);
  try {
    process.env["HOME"] = home;
    step("one-1.0", line(`${served.url}/r.git`, "v1", readFileSync(by), "r.tar"));
    expect(await mirror({ state })).toMatchObject({ added: ["r.tar"], missing: [] });
  } finally {
    process.env["HOME"] = before.home;
    await served.close();
  }
  expect(existsSync(marker)).toBe(false);
  await run(["mkdir", join(state, "git", clone!, "hooks")]);
  const error = await mirror({ state, dest: join(dir, "second") }).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(String(error)).toContain("it has hooks");
});

test("a signature in a repository starts no program", async () => {
  const { dir, dest, step, mirror } = await lab(bench);
  const own = await bench.dir();
  const repository = join(own, "r.git");
  const files = { ".gitattributes": "f export-subst\n", f: "$Format:%G?$\n" };
  const commit = await makeRepository(repository, files);
  const [head, ...message] = (await git(repository, "cat-file", "commit", commit)).split("\n\n");
  const signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ==\n -----END PGP SIGNATURE-----";
  writeFileSync(join(own, "commit"), `${head}\n${signature}\n\n${message.join("\n\n")}\n`);
  const signed = await git(repository, "hash-object", "-t", "commit", "-w", join(own, "commit"));
  await git(repository, "tag", "v1", signed);
  const marker = join(dir, "ran");
  const programs = join(dir, "bin");
  for (const name of ["gpg", "gpgsm", "ssh-keygen"]) {
    await Bun.write(join(programs, name), `#!/bin/sh\ntouch ${marker}\n`);
    chmodSync(join(programs, name), 0o755);
  }
  const served = await serveGit(own);
  const { PATH } = process.env;
  try {
    process.env["PATH"] = `${programs}:${PATH}`;
    step("one-1.0", line(`${served.url}/r.git`, "v1", sha256("x"), "r.tar"));
    expect((await mirror()).findings).toMatchObject([{ kind: "changed" }]);
    expect(existsSync(marker)).toBe(false);
    const clone = join(dest, ".seedstrap/git", readdirSync(join(dest, ".seedstrap/git"))[0]!);
    await run(["git", "-C", clone, "archive", "-o", join(dir, "other.tar"), "v1"]);
    expect(existsSync(marker)).toBe(true); // what anybody's git does there
  } finally {
    process.env["PATH"] = PATH;
    await served.close();
  }
});
