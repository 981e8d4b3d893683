// SPDX-License-Identifier: MIT
/**
 * Git repositories of a checkout, cloned and asked by git(1).
 *
 *   STATE/git/NAME-DIGEST/   a bare clone; DIGEST is the beginning of the SHA-256 of its URL
 *   STATE/.locks/            who works on one, see {@link ./turn.ts}
 *
 * Neither a checkout nor a repository is trusted. Git gets an argument list and an environment of
 * ours; configuration of the system and the user is not read, and that of the clone is written anew
 * each time, so that no hook, filter, helper, alias or URL rewriting runs. A clone is bare and has no
 * submodules: nothing of it is checked out. Of protocols only those are allowed that a URL names,
 * and https is not left for http.
 *
 * @module
 */

import { mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { sha256Of } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { findProgram, runProcess } from "../launch/process.ts";
import { writing } from "../refused.ts";
import { makeOwnDirectory } from "../runtime/own.ts";
import { removeFile } from "../runtime/remove.ts";
import { statIfThere } from "../runtime/stat.ts";
import { plainText, publicUrl } from "./failure.ts";
import { withoutSecrets } from "./secret.ts";
import { takeTurn } from "./turn.ts";

/** A repository and a branch, tag or commit in it, as a checkout names them. */
export interface GitReference {
  readonly url: string;
  readonly reference: string;
}

/** Why a repository did not give what is wanted from it. */
export class GitFailure extends Error {
  /**
   * "dead" if the repository cannot be read, "lost" if it has no such reference, "changed" if what
   * it has there has another SHA-256.
   */
  readonly kind: "dead" | "lost" | "changed";

  /** @param answer Short plain text on one line, no final period. */
  constructor(kind: GitFailure["kind"], answer: string) {
    super(answer);
    this.name = "GitFailure";
    this.kind = kind;
  }
}

/** Longest time in which git says nothing, in milliseconds: it tells how far it is. */
const SILENCE_MS = 300_000;

/** Longest list of references that is read: that of a large repository has 5 MB. */
const MAX_LIST_CHARS = 256 * 1024 * 1024;

/** What git says of a connection that has ended early, and of a server that is busy. */
const PASSING = /early EOF|hung up|timed out|reset by peer|error: (429|5\d\d)/i;
const RETRY_DELAY_MS = 2000;

/** So much of what git says is kept, for the message of a failure. */
const MAX_SAID_CHARS = 16 * 1024;

const ALL_REFERENCES = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/** What no repository may change. */
const SETTINGS = [
  "core.hooksPath=/dev/null",
  "core.fsmonitor=false",
  "core.attributesFile=/dev/null",
  "core.askPass=",
  "credential.helper=",
  "fetch.recurseSubmodules=false",
  "gc.auto=0",
  "maintenance.auto=false",
  "http.lowSpeedLimit=1000",
  "http.lowSpeedTime=120",
].flatMap((setting) => ["-c", setting]);

/** Of our environment, what tells programs how to reach servers and whom to trust. */
const PASSED_ON = [
  "PATH",
  // ~/.netrc
  "HOME",
  "TMPDIR",
  ...["http_proxy", "https_proxy", "all_proxy", "no_proxy"].flatMap((name) => [
    name,
    name.toUpperCase(),
  ]),
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
  "GIT_SSL_CAINFO",
  "GIT_SSL_CAPATH",
  "GIT_SSL_CERT",
  "GIT_SSL_KEY",
];

const PROTOCOLS: Readonly<Record<string, string>> = {
  "https:": "https",
  "http:": "http:https",
  "git:": "git",
};

/** Says why a repository and reference are not asked for, or returns undefined. */
export function gitFault({ url, reference }: GitReference): string | undefined {
  const protocol = URL.canParse(url) ? new URL(url).protocol : "";
  if (PROTOCOLS[protocol] === undefined || !/^[a-z]+:\/\/[^-]/.test(url)) {
    return "refused: git is asked by https, http and git:// only";
  }
  // See git-check-ref-format(1); besides, nothing that git takes for an expression.
  const isPlain = /^[^-./][^\p{Cc}\s~^:?*[\\]*$/u.test(reference) &&
    !/\.\.|@\{|\/\/|\/\.|\.lock(\/|$)|[./]$/.test(reference) && reference !== "@";
  return isPlain ? undefined : "refused: it is not the name of a branch, a tag or a commit";
}

/** How to run git. */
export interface GitOptions {
  /** Directory of the clones, which exists. */
  readonly state: string;
  readonly signal: AbortSignal;
  /** Told when another process, of this pid, works on the clone. */
  readonly onWait?: ((pid: number) => void) | undefined;
}

/**
 * Calls `work` with the clone of a repository, on which no other process works meanwhile.
 *
 * @throws {UserError} "target" where the clone cannot be written; "interrupt".
 */
export async function withClone<T>(
  url: string,
  { state, signal, onWait = () => {} }: GitOptions,
  work: (clone: GitClone) => Promise<T>,
): Promise<T> {
  const digest = sha256Of(url);
  const turn = await takeTurn(state, digest, { signal, onWait });
  try {
    const name = repositoryName(url).replace(/[^\w.+-]/g, "_").replace(/^\./, "_").slice(0, 80);
    const dir = join(state, "git", `${name}-${digest.slice(0, 16)}`);
    writing(dir, () => prepare(dir, join(state, "git")), "directory with --state");
    return await work(new GitClone(url, dir, signal));
  } finally {
    turn.release();
  }
}

/** The last part of the URL of a repository, without `.git`. */
export function repositoryName(url: string): string {
  return basename(url.replace(/[?#].*$/s, "")).replace(/\.git$/, "");
}

/** A bare clone. */
export class GitClone {
  constructor(
    readonly url: string,
    readonly dir: string,
    readonly signal: AbortSignal,
  ) {}

  /** Returns the commit of a reference that was checked, if the clone has it. */
  async commitOf(reference: string): Promise<string | undefined> {
    const words = ["rev-parse", "--verify", "--quiet", `${reference}^{commit}`];
    const { code, stdout } = await this.#git(words);
    const commit = stdout.trim();
    return code === 0 && /^[0-9a-f]{40,64}$/.test(commit) ? commit : undefined;
  }

  /**
   * Gets all branches and tags, and where that is a whole commit, the reference.
   *
   * @throws {GitFailure} "dead"
   */
  async update(reference: string): Promise<void> {
    await this.#fetch(ALL_REFERENCES);
    if (!/^[0-9a-f]{40}$/.test(reference) || await this.commitOf(reference) !== undefined) return;
    // Of no branch any more, but a server may still give it.
    await this.#fetch([`+${reference}:refs/commits/${reference}`]).catch((error: unknown) => {
      if (!(error instanceof GitFailure)) throw error;
    });
  }

  /**
   * Writes the files of a commit as a tar.
   *
   * @param prefix Put before each path.
   * @throws {GitFailure} "dead" where the clone is damaged. It is not removed: its repository may be
   * gone, and the clone have other references.
   */
  async archive(commit: string, prefix: string, path: string): Promise<void> {
    const words = ["archive", "--format=tar", `--prefix=${prefix}`, `--output=${path}`, commit];
    const { code, stderr } = await this.#git(words, ALONE);
    if (code === 0) return;
    const failure = failureOf(this.url, path, stderr);
    if (!(failure instanceof GitFailure)) throw failure;
    const answer = `the clone ${this.dir} is damaged, remove it: ${failure.message}`;
    throw new GitFailure("dead", plainText(answer));
  }

  async #fetch(references: readonly string[]): Promise<void> {
    const options = ["--progress", "--force", "--no-tags"];
    for (let isLast = false;; isLast = true) {
      const { code, stderr } = await this.#git(["fetch", ...options, this.url, ...references]);
      if (code === 0) return;
      if (isLast || !PASSING.test(stderr)) throw failureOf(this.url, this.dir, stderr);
      await sleep(RETRY_DELAY_MS, undefined, { signal: this.signal });
    }
  }

  async #git(words: readonly string[], env: Environment = {}): Promise<GitOutput> {
    return await runGit([`--git-dir=${this.dir}`, ...words], this.url, this.signal, env);
  }
}

/**
 * Asks a repository for its branches and tags; nothing is downloaded.
 *
 * @returns Commits, or the objects of tags, by name such as `refs/tags/v1`.
 * @throws {GitFailure} "dead"
 */
export async function listReferences(
  url: string,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const { code, stdout, stderr } = await runGit(["ls-remote", url], url, signal);
  if (code !== 0) throw failureOf(url, ".", stderr);
  return new Map(
    stdout.split("\n").flatMap((line) => {
      const [, object, name] = /^([0-9a-f]{40,64})\t(refs\/\S+|HEAD)$/.exec(line) ?? [];
      return object === undefined || name === undefined ? [] : [[name, object] as const];
    }),
  );
}

/** Makes the directory of a clone, and brings it into a state in which git can work. */
function prepare(dir: string, parent: string): void {
  makeOwnDirectory(parent, { isPrivate: true });
  makeOwnDirectory(dir, { isPrivate: true });
  for (const name of ["objects", "objects/pack", "refs"]) {
    mkdirSync(join(dir, name), { recursive: true });
  }
  // What a killed git has left: nobody else works here.
  for (const path of readdirSync(join(dir, "objects/pack"))) {
    if (path.startsWith("tmp_")) removeFile(join(dir, "objects/pack", path));
  }
  const inRefs = readdirSync(join(dir, "refs"), { recursive: true, encoding: "utf8" });
  for (const path of [...readdirSync(dir), ...inRefs.map((path) => join("refs", path))]) {
    const place = join(dir, path);
    if (path.endsWith(".lock") && statSync(place).isFile()) removeFile(place);
  }
  for (const name of ["hooks", "info"]) {
    if (statIfThere(join(dir, name)) === undefined) continue;
    throw new UserError("target", `Cannot use the clone ${dir}: it has ${name}`, {
      where: join(dir, name),
      hint: "seedstrap did not make it: remove the clone",
    });
  }
  replaceFile(join(dir, "config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n");
  replaceFile(join(dir, "HEAD"), "ref: refs/heads/main\n");
}

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

type Environment = Readonly<Record<string, string>>;

/**
 * For work that needs no server: git finds no program, as it runs gpg for export-subst of "%G?" in a
 * signed commit, and no filter of a user, whose configuration git before 2.32 reads all the same.
 */
const ALONE: Environment = { PATH: "/dev/null", HOME: "/dev/null" };

/** How a git has ended, and what it has said. */
interface GitOutput {
  readonly code: number | null;
  readonly stdout: string;
  /** The end of it. */
  readonly stderr: string;
}

/** Runs git, and leaves none of its children running. */
async function runGit(
  words: readonly string[],
  url: string,
  signal: AbortSignal,
  env: Environment = {},
): Promise<GitOutput> {
  const program = await findProgram("git");
  if (program === undefined) throw new GitFailure("dead", "git is not installed");
  const silent = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silent.abort(), SILENCE_MS);
  };
  let [stdout, stderr] = ["", ""];
  let pid: number | undefined;
  const [outDecoder, errorDecoder] = [new TextDecoder(), new TextDecoder()];
  wait();
  try {
    const { code } = await runProcess({
      argv: [program, ...SETTINGS, ...words],
      env: { ...environment(url), ...env },
      stdin: "ignore",
      isApart: true,
      signal: AbortSignal.any([signal, silent.signal]),
      onSpawn: (child) => pid = child.pid,
      onStdout: (chunk) => {
        wait();
        stdout += outDecoder.decode(chunk, { stream: true });
        if (stdout.length > MAX_LIST_CHARS) throw new GitFailure("dead", "it lists too much");
      },
      onStderr: (chunk) => {
        wait();
        stderr = (stderr + errorDecoder.decode(chunk, { stream: true })).slice(-MAX_SAID_CHARS);
      },
    });
    signal.throwIfAborted();
    if (silent.signal.aborted) {
      throw new GitFailure("dead", `git said nothing for ${SILENCE_MS / 60_000} minutes`);
    }
    return { code, stdout, stderr };
  } finally {
    clearTimeout(timer);
    endGroup(pid);
  }
}

/** Kills what a git that has ended has left: the programs that talk to servers for it. */
function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // There is nothing left, as usual.
  }
}

function environment(url: string): Record<string, string> {
  const passed = PASSED_ON.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    ...Object.fromEntries(passed),
    LC_ALL: "C",
    TZ: "UTC",
    GIT_ALLOW_PROTOCOL: PROTOCOLS[new URL(url).protocol] ?? "",
    GIT_ATTR_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_SYSTEM: "/dev/null",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_TERMINAL_PROMPT: "0",
  };
}

/** Returns what git has said as a failure; a full disk is that of this machine. */
function failureOf(url: string, place: string, stderr: string): Error {
  const full = /No space left on device|Disk quota exceeded|File too large/.exec(stderr)?.[0];
  if (full !== undefined) {
    return new UserError("target", `Cannot write to ${place}: ${full}`, {
      where: place,
      hint: "Free some space there, or name another directory with --state",
    });
  }
  const lines = stderr.split(/[\r\n]+/).map((line) => line.trim()).filter((line) => line !== "");
  // What the server says of itself is more than what git makes of it.
  const said = lines.find((line) => /^remote: (fatal|error|aborting)\b/i.test(line)) ??
    lines.find((line) => /^(fatal|error): /.test(line)) ?? lines.at(-1) ?? "git failed";
  const text = said.replace(/^(fatal|error): /, "").replaceAll(url, publicUrl(url));
  return new GitFailure("dead", plainText(withoutSecrets(text, process.env)));
}
