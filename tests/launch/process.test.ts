// SPDX-License-Identifier: MIT
import { describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { UserError } from "../../src/errors.ts";
import { findProgram, runProcess, shellQuote } from "../../src/launch/process.ts";
import { eventually, isAlive, roomPath, RUNTIMES, script, tempDir } from "./guest.ts";

/** Reads the first line of a child, its pid, and calls `then` with it. */
function pidReader(then: (pid: number) => void): (chunk: Uint8Array) => void {
  let text = "";
  let done = false;
  return (chunk) => {
    text += new TextDecoder().decode(chunk);
    if (done || !text.includes("\n")) return;
    done = true;
    then(parseInt(text));
  };
}

describe("shellQuote()", () => {
  test("gives arguments that a shell reads unchanged", () => {
    const args = ["", " ", "a b", "it's", '"', "$HOME", "`id`", "\\", "a\nb", "*", "~", "#x", "ü"];
    const line = shellQuote(["printf", "%s\\0", ...args]);
    const { stdout } = spawnSync("/bin/sh", ["-c", line]);
    expect(stdout.toString().split("\0").slice(0, -1)).toEqual(args);
  });

  test("leaves plain words unquoted, except an assignment as first word", () => {
    const argv = ["qemu", "-drive", "file=a.img,format=raw", "-m", "4096"];
    expect(shellQuote(argv)).toBe("qemu -drive file=a.img,format=raw -m 4096");
    expect(shellQuote(["A=b"])).toBe("'A=b'");
  });
});

describe("findProgram()", () => {
  test("finds executable files only, by name and by path", async () => {
    using dir = tempDir();
    script(dir.file("tool"), "");
    writeFileSync(dir.file("text"), "", { mode: 0o644 });
    mkdirSync(dir.file("folder"));
    const env = { PATH: `/nonexistent:${dir.path}` };
    expect(await findProgram("tool", { env })).toBe(dir.file("tool"));
    expect(await findProgram("./tool", { cwd: dir.path })).toBe(dir.file("tool"));
    expect(await findProgram("text", { env })).toBeUndefined();
    expect(await findProgram("folder", { env })).toBeUndefined();
    expect(await findProgram("nothing", { env })).toBeUndefined();
  });

  test("looks names up in absolute directories only, in the usual ones if there are none", async () => {
    using dir = tempDir();
    mkdirSync(dir.file("bin"));
    for (const name of ["sh", "tool"]) {
      script(dir.file(name), "");
      script(dir.file(`bin/${name}`), "");
    }
    const cwd = dir.path;
    for (const PATH of ["", ":", ".", "bin", "./bin:", ":/nonexistent", "/nonexistent:bin"]) {
      expect(await findProgram("tool", { cwd, env: { PATH } })).toBeUndefined();
    }
    for (const env of [{}, { PATH: "" }, { PATH: ".:bin" }]) {
      expect(await findProgram("sh", { cwd, env })).toMatch(/^(\/usr)?\/bin\/sh$/);
    }
    expect(await findProgram("bin/tool", { cwd, env: {} })).toBe(dir.file("bin/tool"));
  });
});

describe("runProcess()", () => {
  test("returns the exit code, and passes on every byte the child wrote", async () => {
    const hashes = [createHash("sha256"), createHash("sha256")];
    const sizes = [0, 0];
    const take = (i: number) => (chunk: Uint8Array) => {
      hashes[i]?.update(chunk);
      sizes[i] = (sizes[i] ?? 0) + chunk.length;
    };
    const block = new Uint8Array(65536).map((_, i) => (i * 7) ^ (i >> 8));
    using dir = tempDir();
    writeFileSync(dir.file("block"), block);
    const files = Array<string>(32).fill(dir.file("block"));
    const tool = script(dir.file("tool"), 'cat "$@"; cat "$@" >&2; exit 3\n');
    const argv = [tool, ...files];
    const outcome = await runProcess({
      argv,
      stdin: "ignore",
      onStdout: take(0),
      onStderr: take(1),
    });
    expect(outcome).toEqual({ code: 3, signal: null });
    const whole = createHash("sha256");
    files.forEach(() => whole.update(block));
    const wanted = whole.digest("hex");
    expect(sizes).toEqual([32 * 65536, 32 * 65536]);
    expect(hashes.map((hash) => hash.digest("hex"))).toEqual([wanted, wanted]);
  });

  test("passes cwd, the whole environment and arguments that a shell would change", async () => {
    using dir = tempDir();
    const tool = script(dir.file("tool"), 'pwd; echo "$A-$HOME"; printf "%s|" "$@"\n');
    let out = "";
    await runProcess({
      argv: [tool, "$A", "a b", "*"],
      cwd: dir.path,
      env: { A: "b" },
      stdin: "ignore",
      onStdout: (chunk) => out += new TextDecoder().decode(chunk),
    });
    expect(out).toBe(`${dir.path}\nb-\n$A|a b|*|`);
  });

  test("gives a child a PATH without the current directory", async () => {
    using dir = tempDir();
    const tool = script(dir.file("tool"), 'echo "$PATH"\n');
    const paths = [":/usr/bin:.:bin:/bin:", "", "."];
    const seen = [];
    for (const PATH of paths) {
      let out = "";
      const onStdout = (chunk: Uint8Array) => void (out += new TextDecoder().decode(chunk));
      await runProcess({ argv: [tool], env: { PATH }, stdin: "ignore", onStdout });
      seen.push(out.trim());
    }
    const usual = "/usr/local/bin:/usr/bin:/bin";
    expect(seen).toEqual(["/usr/bin:/bin", usual, usual]);
  });

  test("names a missing program and how to get it", async () => {
    const error = await runProcess({
      argv: ["no-such-program-42"],
      stdin: "ignore",
      hint: "apt install no-such-program",
    }).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(UserError);
    expect(error).toMatchObject({
      kind: "launch",
      message: 'Cannot run "no-such-program-42": not found in PATH',
      hint: "apt install no-such-program",
    });
  });

  test("names a missing directory, and a path that is not executable", async () => {
    const failed = (options: { argv: string[]; cwd?: string }) =>
      runProcess({ stdin: "ignore", ...options }).catch((error: unknown) => error);
    expect(await failed({ argv: ["true"], cwd: "/no/folder" })).toMatchObject({
      kind: "launch",
      message: 'Cannot run "true" in "/no/folder": no such directory',
    });
    expect(await failed({ argv: ["/etc/passwd"] })).toMatchObject({
      kind: "launch",
      message: 'Cannot run "/etc/passwd": no such executable file',
    });
  });

  test("names the signal that killed a child", async () => {
    const outcome = await runProcess({ argv: ["/bin/sh", "-c", "kill -9 $$"], stdin: "ignore" });
    expect(outcome).toEqual({ code: null, signal: "SIGKILL" });
  });

  test("starts nothing when the signal is already aborted", async () => {
    using dir = tempDir();
    const outcome = await runProcess({
      argv: ["touch", dir.file("mark")],
      stdin: "ignore",
      signal: AbortSignal.abort(),
    });
    expect(outcome.signal).toBe("SIGTERM");
    expect(existsSync(dir.file("mark"))).toBe(false);
  });

  test("kills a child that ignores SIGTERM, after the grace time", async () => {
    using dir = tempDir();
    const tool = script(dir.file("tool"), 'trap "" TERM\necho $$\nwhile :; do sleep 0.05; done\n');
    const controller = new AbortController();
    let pid = 0;
    let abortedAt = 0;
    const outcome = await runProcess({
      argv: [tool],
      stdin: "ignore",
      signal: controller.signal,
      killAfterMs: 200,
      onStdout: pidReader((found) => {
        pid = found;
        abortedAt = performance.now();
        controller.abort();
      }),
    });
    expect(outcome.signal).toBe("SIGKILL");
    expect(performance.now() - abortedAt).toBeGreaterThanOrEqual(190);
    expect(isAlive(pid)).toBe(false);
  });

  test.each([
    ["it ended", "exec sleep 120", 0, { code: null, signal: "SIGTERM" }],
    ["has ended by itself", "", 500, { code: 0, signal: null }],
  ])(
    "does not wait for a grandchild that holds the pipe of a child that %s",
    async (_, end, abortAfterMs, wanted) => {
      using dir = tempDir();
      const tool = script(dir.file("tool"), `sleep 120 &\necho $!\n${end}\n`);
      const controller = new AbortController();
      let grandchild = 0;
      const outcome = await runProcess({
        argv: [tool],
        stdin: "ignore",
        signal: controller.signal,
        onStdout: pidReader((found) => {
          grandchild = found;
          setTimeout(() => controller.abort(), abortAfterMs);
        }),
      });
      expect(outcome).toEqual(wanted as typeof outcome);
      process.kill(grandchild, "SIGKILL");
    },
  );

  test("ends the child when a callback throws, and rethrows the error", async () => {
    const bug = new Error("bug");
    let pid = 0;
    const error = await runProcess({
      argv: ["/bin/sh", "-c", "echo $$; exec sleep 60"],
      stdin: "ignore",
      onStdout: (chunk) => {
        pid = parseInt(new TextDecoder().decode(chunk));
        throw bug;
      },
    }).catch((error: unknown) => error);
    expect(error).toBe(bug);
    expect(isAlive(pid)).toBe(false);
  });
});

describe.each(RUNTIMES)("under %s", (_, [runtime, ...runtimeArgs]) => {
  const head = `
    import process from "node:process";
    import { runProcess } from ${JSON.stringify(roomPath("process.ts"))};`;

  /** Runs a program that prints the pid of its child; reports whether the child soon is gone. */
  async function childIsGoneAfter(
    body: string,
    onPid: (parent: number) => void,
    env: NodeJS.ProcessEnv = process.env,
  ) {
    using dir = tempDir();
    writeFileSync(dir.file("parent.mjs"), head + body);
    const parent = spawn(runtime, [...runtimeArgs, dir.file("parent.mjs")], {
      stdio: ["ignore", "pipe", "inherit"],
      env,
    });
    let pid = 0;
    parent.stdout.on(
      "data",
      pidReader((found) => {
        pid = found;
        onPid(parent.pid ?? 0);
      }),
    );
    await new Promise((resolve) => parent.on("exit", resolve));
    expect(pid).toBeGreaterThan(0);
    return eventually(() => !isAlive(pid) || isZombie(pid));
  }

  const child = (onPid: string) => `
    await runProcess({
      argv: ["/bin/sh", "-c", "echo $$; exec /bin/sleep 60"],
      stdin: "ignore",
      onStdout: (chunk) => { process.stdout.write(chunk); ${onPid} },
    });`;

  test("a child does not outlive a process.exit()", async () => {
    const body = child("setTimeout(() => process.exit(1), 50);");
    const env = { ...process.env, PATH: "/nonexistent" }; // no setpriv, which would kill it as well
    expect(await childIsGoneAfter(body, () => {}, env)).toBe(true);
  });

  test("a child does not outlive a kill -9 of its parent", async () => {
    if (spawnSync("setpriv", ["--pdeathsig", "KILL", "--", "true"]).status !== 0) {
      console.log("skipped: kill -9 of the parent, as there is no setpriv with --pdeathsig");
      return;
    }
    expect(await childIsGoneAfter(child(""), (pid) => process.kill(pid, "SIGKILL"))).toBe(true);
  });

  test("a child does not outlive a parent that is gone before setpriv asks for its death", async () => {
    const setpriv = Bun.which("setpriv");
    if (
      setpriv === null || spawnSync(setpriv, ["--pdeathsig", "KILL", "--", "true"]).status !== 0
    ) {
      console.log("skipped: a parent that is gone, as there is no setpriv with --pdeathsig");
      return;
    }
    using dir = tempDir();
    script(
      dir.file("setpriv"),
      `case "$*" in *sleep*) echo $$; while kill -0 $PPID; do sleep 0.02; done 2>/dev/null; esac
      exec ${shellQuote([setpriv])} "$@"`,
    );
    const env = { ...process.env, PATH: `${dir.path}:${process.env["PATH"]}` };
    const kill = (pid: number) => process.kill(pid, "SIGKILL");
    const body = `await runProcess({ argv: ["/bin/sleep", "60"], stdin: "ignore" });`;
    expect(await childIsGoneAfter(body, kill, env)).toBe(true);
  });

  test("a child that ignores SIGTERM gets SIGKILL, and one that exits 0 on it has done so", () => {
    using dir = tempDir();
    const body = `
      for (const trap of ["", "exit 0"]) {
        const controller = new AbortController();
        const outcome = await runProcess({
          argv: ["/bin/sh", "-c", \`trap '\${trap}' TERM; echo; while :; do sleep 0.05; done\`],
          stdin: "ignore",
          signal: controller.signal,
          killAfterMs: 300,
          onStdout: () => controller.abort(),
        });
        process.stdout.write(JSON.stringify(outcome) + "\\n");
      }`;
    writeFileSync(dir.file("parent.mjs"), head + body);
    const { stdout } = spawnSync(runtime, [...runtimeArgs, dir.file("parent.mjs")]);
    expect(stdout.toString()).toBe(
      '{"code":null,"signal":"SIGKILL"}\n{"code":0,"signal":null}\n',
    );
  });
});

/** Reports whether a process is a zombie. */
function isZombie(pid: number): boolean {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return true;
  }
}
