// SPDX-License-Identifier: MIT
/** The binary, started where somebody has put traps for it. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { builtBinary } from "../support/binary.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { kernelLike } from "../support/kernel.ts";
import { NOBODY, nobodyObstacle } from "../support/nobody.ts";
import { type Ran, run, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const shared = new TempDirs();
afterAll(() => shared.release());

const built = builtBinary();
if (built.obstacle !== undefined) console.log(`skipped: the built binary: ${built.obstacle}`);
const here = built.obstacle === undefined ? test : test.skip;
const withProgram = (program: string) =>
  built.obstacle === undefined ? testWith(program) : test.skip;

/** Whom the binary is started by: us, and if we are root, also an ordinary user. */
const USERS: readonly (readonly [name: string, prefix: readonly string[]])[] = (() => {
  if (process.getuid?.() !== 0) return [["an ordinary user", []]];
  const why = nobodyObstacle();
  if (why === undefined) return [["root", []], ["an ordinary user", NOBODY]];
  console.log(`skipped: the built binary as an ordinary user: ${why}`);
  return [["root", []]];
})();

/** Where everybody can run it, under its own name. */
const binary = built.obstacle === undefined ? join(shared.make(), "seedstrap") : "";
if (binary !== "") {
  copyFileSync(built.path, binary);
  chmodSync(join(binary, ".."), 0o755);
  chmodSync(binary, 0o755);
}

/** A directory that everybody may write to. */
function openDir(): string {
  const dir = realpathSync(temp.make());
  chmodSync(dir, 0o777);
  return dir;
}

/** Runs the binary with nothing in its environment but what is given. */
async function hardened(
  cwd: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  prefix: readonly string[] = [],
): Promise<Ran> {
  const words = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const path = Object.hasOwn(env, "PATH") ? [] : [`PATH=${process.env["PATH"]}`];
  return await run([...prefix, "env", "-i", ...path, ...words, binary, ...args], { cwd });
}

const VERSION: string = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url).pathname, "utf8"),
).version;

/** A module that leaves a mark where it runs. */
const trap = (dir: string) =>
  `require("node:fs").writeFileSync(${JSON.stringify(join(dir, "ran"))}, "")\n`;

describe.each(USERS)("started by %s, the binary", (_, prefix) => {
  here.each(["bunfig.toml", ".bunfig.toml"])("runs no preload of a %s", async (name) => {
    const dir = openDir();
    const preload = 'preload = ["./trap.cjs"]\n';
    writeFiles(dir, { "trap.cjs": trap(dir), [name]: preload });
    const ran = await hardened(dir, ["--version"], { HOME: dir, XDG_CONFIG_HOME: dir }, prefix);
    expect(ran).toEqual({ code: 0, stdout: `${VERSION}\n`, stderr: "" });
    expect(existsSync(join(dir, "ran"))).toBe(false);
  });

  here.each([
    ["BUN_OPTIONS", "--preload ./trap.cjs"],
    ["BUN_OPTIONS", "-r ./trap.cjs"],
    ["BUN_OPTIONS", "--config=./other.toml"],
    ["BUN_OPTIONS", "--env-file=./env"],
    ["BUN_INSPECT_PRELOAD", "./trap.cjs"],
    ["NODE_OPTIONS", "--require ./trap.cjs"],
    ["NODE_PATH", "."],
    // Where a name is overwritten, that of the variable is empty.
    ["", "--preload ./trap.cjs"],
  ])("runs no code for %s=%s", async (name, value) => {
    const dir = openDir();
    const other = 'preload = ["./trap.cjs"]\n';
    writeFiles(dir, { "trap.cjs": trap(dir), "other.toml": other, env: "A=b\n" });
    for (const module of ["commander", "valibot", "diff", "aws4fetch"]) {
      writeFiles(dir, { [`${module}/index.js`]: trap(dir) });
    }
    const ran = await hardened(dir, ["--version"], { [name]: value }, prefix);
    expect(ran).toEqual({ code: 0, stdout: `${VERSION}\n`, stderr: "" });
    expect(existsSync(join(dir, "ran"))).toBe(false);
  });

  here.each(["1", "true"])("is no interpreter with BUN_BE_BUN=%s", async (value) => {
    const dir = openDir();
    const ran = await hardened(dir, ["-e", trap(dir)], { BUN_BE_BUN: value }, prefix);
    expect(ran.stderr).toContain("seedstrap: unknown option '-e'");
    expect(ran.code).toBe(2);
    expect(existsSync(join(dir, "ran"))).toBe(false);
  });

  here("opens no inspector with BUN_INSPECT, and connects to none", async () => {
    const dir = openDir();
    const path = join(dir, "opened");
    const inspect = { BUN_INSPECT: `ws+unix://${path}` };
    expect(await hardened(dir, ["--version"], inspect, prefix)).toMatchObject({ code: 0 });
    expect(existsSync(path)).toBe(false);
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    const listening = join(dir, "listening");
    await new Promise<void>((resolve) => server.listen(listening, resolve));
    chmodSync(listening, 0o777);
    for (const name of ["BUN_INSPECT_CONNECT_TO", "BUN_INSPECT_NOTIFY"]) {
      for (const value of [listening, `unix://${listening}`]) {
        const ran = await hardened(dir, ["--version"], { [name]: value, BUN_INSPECT: "1" }, prefix);
        expect(ran).toEqual({ code: 0, stdout: `${VERSION}\n`, stderr: "" });
      }
    }
    server.close();
    expect(connections).toBe(0);
  });

  here("writes no file that a variable of Bun names", async () => {
    const dir = openDir();
    const names = ["BUN_BYTECODE_ORDER_OUT", "BUN_BYTECODE_ORDER_NAMES_OUT"];
    const env = Object.fromEntries(
      [...names, "BUN_BYTECODE_DIGEST_OUT", "BUN_TRACE", "BUN_WATCHER_TRACE"].map((name) =>
        [name, join(dir, name)] as const
      ),
    );
    expect(await hardened(dir, ["--version"], env, prefix)).toMatchObject({ code: 0 });
    expect(readdirSync(dir)).toEqual([]);
  });

  here.each([
    ["dumpOptions", "1"],
    ["logGC", "1"],
    ["functionOverrides", "./overrides"],
    ["useDollarVM", "1"],
  ])("takes no option of JavaScriptCore: it ends with %s=%s", async (name, value) => {
    const dir = openDir();
    const ran = await hardened(dir, ["--version"], { [`BUN_JSC_${name}`]: value }, prefix);
    expect(ran.stdout).toBe("");
    expect(ran.stderr).toContain("invalid JSC environment variable");
    expect(ran.code).toBe(1);
  });
});

/** A checkout to be built with distfiles of a server. */
function scene(dir: string) {
  const mini = miniTree();
  const { tree } = writeMiniTree(join(dir, "checkout"), mini);
  const args = (url: string) => [
    ...["build", "--qemu", "--external-sources", "--target-size", "64M", "-m", url],
    ...["--tree", tree, "-t", join(dir, "target")],
  ];
  const answer = (request: Request) => {
    const body = mini.distfiles[new URL(request.url).pathname.slice(1)];
    return body === undefined
      ? new Response("", { status: 404 })
      : new Response(body as Uint8Array<ArrayBuffer>);
  };
  return { args, answer };
}

here.each([".env", ".env.local", ".env.development", ".env.production", ".env.test"])(
  "the binary takes no settings from %s in the current directory",
  async (name) => {
    const dir = openDir();
    const { args, answer } = scene(dir);
    using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
    const seen: string[] = [];
    using proxy = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: (request) => {
        seen.push(request.url);
        return new Response("", { status: 500 });
      },
    });
    const cwd = join(dir, "cwd");
    mkdirSync(cwd);
    const settings = `XDG_CACHE_HOME=${dir}/cache\nHTTP_PROXY=${proxy.url}\n` +
      `http_proxy=${proxy.url}\nNODE_TLS_REJECT_UNAUTHORIZED=0\n`;
    writeFileSync(join(cwd, name), settings);
    const mode = name.split(".")[2];
    const env = {
      HOME: join(dir, "home"),
      ...(mode === "production" || mode === "test" ? { NODE_ENV: mode } : {}),
    };
    const ran = await hardened(cwd, args(String(server.url)), env);
    expect(ran).toMatchObject({ code: 0 });
    expect(seen).toEqual([]);
    expect(existsSync(join(dir, "cache"))).toBe(false);
    expect(existsSync(join(dir, "home/.cache/seedstrap"))).toBe(true);
  },
);

withProgram("strace")("the binary opens nothing in the current directory", async () => {
  const dir = openDir();
  const json = '{ "compilerOptions": { "paths": { "*": ["./trap.cjs"] } } }';
  writeFiles(dir, {
    "trap.cjs": trap(dir),
    "bunfig.toml": 'preload = ["./trap.cjs"]\n',
    ".env": "A=b\n",
    "tsconfig.json": json,
    "jsconfig.json": json,
    "package.json": '{ "imports": { "#*": "./trap.cjs" }, "main": "./trap.cjs" }',
    "node_modules/commander/index.js": trap(dir),
  });
  const trace = ["strace", "-f", "-e", "trace=file", "-o", `${dir}-trace`];
  const ran = await run([...trace, binary, "--version"], { cwd: dir });
  const calls = readFileSync(`${dir}-trace`, "utf8");
  rmSync(`${dir}-trace`);
  expect(ran).toEqual({ code: 0, stdout: `${VERSION}\n`, stderr: "" });
  const paths = calls.split("\n").flatMap((line) => /"([^"]*)"/.exec(line)?.[1] ?? []);
  expect(paths.length).toBeGreaterThan(10);
  const inside = paths.filter((path) =>
    path !== "" && (!path.startsWith("/") || path.startsWith(`${dir}/`))
  );
  expect(inside).toEqual([]);
});

withProgram("openssl")(
  "the binary checks certificates with NODE_TLS_REJECT_UNAUTHORIZED=0, and knows more of them with NODE_EXTRA_CA_CERTS",
  async () => {
    const dir = openDir();
    const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
    const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    const name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    const made = spawnSync("openssl", [...request, ...name, "-keyout", key, "-out", cert]);
    expect(made.stderr.toString() + made.status).toEndWith("0");
    const { args, answer } = scene(dir);
    const tls = { key: Bun.file(key), cert: Bun.file(cert) };
    using server = Bun.serve({ port: 0, hostname: "localhost", tls, fetch: answer });
    const url = `https://localhost:${server.port}`;
    const home = { HOME: join(dir, "home") };
    const unchecked = { ...home, NODE_TLS_REJECT_UNAUTHORIZED: "0" };
    const refused = await hardened(dir, args(url), unchecked);
    expect(refused.stderr).toContain("SELF_SIGNED_CERT");
    expect(refused.code).toBe(4);
    const known = { ...home, NODE_EXTRA_CA_CERTS: cert };
    expect(await hardened(dir, args(url), known)).toMatchObject({ code: 0 });
  },
);

here("the binary does not print its requests with BUN_CONFIG_VERBOSE_FETCH", async () => {
  const dir = openDir();
  const { args, answer } = scene(dir);
  using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
  const url = `http://user:password@127.0.0.1:${server.port}`;
  for (const value of ["1", "curl"]) {
    rmSync(join(dir, "home"), { recursive: true, force: true });
    const env = { HOME: join(dir, "home"), BUN_CONFIG_VERBOSE_FETCH: value };
    const ran = await hardened(dir, args(url), env);
    expect(ran.code).toBe(0);
    expect(ran.stdout + ran.stderr).not.toMatch(/authorization|curl/i);
  }
});

const TRAPS = ["setpriv", "mke2fs", "qemu-system-x86_64", "env", "bwrap", "unshare", "sh", "sudo"];

describe.each(USERS)("started by %s, the binary runs no program of the current directory", (
  _,
  prefix,
) => {
  const real = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  withProgram("mke2fs").each([
    ["unset", undefined],
    ["empty", ""],
    [".", "."],
    ["bin", "bin"],
    ["with an empty field first", `:${real}`],
    ["with an empty field in it", `/nonexistent::${real}`],
    ["with a relative field", `./bin:${real}`],
  ])("with a PATH that is %s", async (_, path) => {
    const dir = openDir();
    mkdirSync(join(dir, "bin"));
    for (const name of TRAPS) {
      for (const file of [join(dir, name), join(dir, "bin", name)]) {
        writeFileSync(file, `#!/bin/sh\n: >${dir}/ran-${name}\n`, { mode: 0o755 });
      }
    }
    const { tree, mirror } = writeMiniTree(
      join(dir, "checkout"),
      miniTree({
        files: {
          "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "the seed",
        },
      }),
    );
    writeFileSync(join(dir, "kernel"), kernelLike());
    const words = path === undefined ? [] : [`PATH=${path}`];
    const command = [...prefix, "/usr/bin/env", "-i", `HOME=${dir}/home`, ...words, binary];
    const target = join(dir, "target");
    const disk = [
      ...["build", "--qemu", "--target-size", "2G", "--kernel", join(dir, "kernel")],
      ...["--external-sources", "-m", `file://${mirror}`, "--tree", tree, "-t", target],
    ];
    expect(await run([...command, ...disk], { cwd: dir })).toMatchObject({ code: 0 });
    // QEMU refuses the kernel.
    const ran = await run([...command, "run", target, "--kernel", join(dir, "kernel")], {
      cwd: dir,
    });
    expect(ran.stderr).toContain("qemu");
    expect(ran.code).toBe(9);
    expect(readdirSync(dir).filter((name) => name.startsWith("ran-"))).toEqual([]);
  });
});
