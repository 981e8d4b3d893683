// SPDX-License-Identifier: MIT
/**
 * Checkouts, repositories and mirrors for the tests of `seedstrap mirror`.
 *
 * @module
 */
import { readdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { makeMirror, type MirrorReport, type MirrorRequest } from "../../src/job/mirror.ts";
import type { Bench } from "../fetch/servers.ts";
import { writeFiles } from "../support/files.ts";
import { run, start } from "../support/run.ts";

const NEVER = new AbortController().signal;

/** A checkout and its mirror. */
export interface Lab {
  readonly dir: string;
  readonly dest: string;
  readonly request: MirrorRequest;
  /** Writes the sources of a step. */
  step(name: string, sources: string): void;
  mirror(changes?: Partial<MirrorRequest>, signal?: AbortSignal): Promise<MirrorReport>;
}

/** Makes an empty checkout, and what mirrors it. */
export async function lab(bench: Bench): Promise<Lab> {
  const dir = await bench.dir();
  const dest = join(dir, "mirror");
  const request: MirrorRequest = {
    tree: join(dir, "tree"),
    dest,
    store: join(dir, "store"),
    mirrors: [],
    jobs: 4,
    prunes: false,
  };
  writeFiles(dir, { "tree/steps/manifest": "build: one-1.0\n" });
  return {
    dir,
    dest,
    request,
    step: (name, sources) => writeFiles(dir, { [`tree/steps/${name}/sources`]: sources }),
    mirror: (changes = {}, signal = NEVER) => makeMirror({ ...request, ...changes }, {}, signal),
  };
}

/** Names in a mirror, without the work directory and the page. */
export function listed(dest: string): string[] {
  return readdirSync(dest).filter((name) => name !== ".seedstrap" && name !== "index.html").sort();
}

/** Runs git as somebody whose commits are always the same. */
export async function git(dir: string, ...words: readonly string[]): Promise<string> {
  const who = { NAME: "A", EMAIL: "a@example.org", DATE: "2024-05-06T07:08:09Z" };
  const env = Object.fromEntries(
    Object.entries(who).flatMap(([name, value]) => [
      [`GIT_AUTHOR_${name}`, value],
      [`GIT_COMMITTER_${name}`, value],
    ]),
  );
  const ran = await run(["git", "-C", dir, ...words], {
    env: { ...env, GIT_CONFIG_NOSYSTEM: "1", GIT_CONFIG_GLOBAL: "/dev/null" },
  });
  if (ran.code !== 0) throw new Error(`git ${words.join(" ")}: ${ran.stderr}`);
  return ran.stdout.trim();
}

/** Makes a repository with a commit, and returns the commit. */
export async function makeRepository(
  dir: string,
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<string> {
  writeFiles(dir, files);
  await git(dir, "init", "-q", "-b", "main");
  await git(dir, "add", "-A", "-f");
  await git(dir, "commit", "-qm", "one");
  return await git(dir, "rev-parse", "HEAD");
}

/** A git server for all repositories below a directory. */
export interface GitServer {
  /** `git://127.0.0.1:PORT`. */
  readonly url: string;
  close(): Promise<void>;
}

/** Starts git daemon on loopback. */
export async function serveGit(dir: string): Promise<GitServer> {
  const port = await freePort();
  const child = start([
    "git",
    "daemon",
    "--reuseaddr",
    "--export-all",
    "--listen=127.0.0.1",
    `--port=${port}`,
    `--base-path=${dir}`,
    dir,
  ]);
  for (let round = 0; round < 100; round++) {
    const url = `git://127.0.0.1:${port}`;
    const there = await run(["git", "ls-remote", `${url}/${readdirSync(dir)[0]}`]);
    if (there.code === 0) {
      return {
        url,
        close: async () => {
          child.kill();
          await child.exited;
        },
      };
    }
    await sleep(50);
  }
  throw new Error("git daemon does not answer");
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
