// SPDX-License-Identifier: MIT
/** An interactive bootstrap has the terminal, and gets its keys. */
import { afterEach, expect, test as everywhere } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { shellQuote } from "../../src/launch/process.ts";
import { TempDirs } from "../support/files.ts";
import { MAIN, seedstrap } from "../support/run.ts";
import { testAtTerminal } from "../support/terminal.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const test = testAtTerminal();

/** A function of the shell: what a bootstrap prints and leaves when its last step is built. */
const FINISH = `root=$1
finish() {
  mkdir -p "$root/external/repo" && : >"$root/external/repo/alpha-1.0_1.tar.bz2" &&
    echo "alpha-1.0: build successful"
}`;

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";

/** Starts a bootstrap at a terminal, with a script of ours as chroot. */
function atTerminal(script: string, ...given: (string | { readonly after: string })[]) {
  const options = given.filter((option) => typeof option === "string");
  const after = given.find((option) => typeof option !== "string")?.after;
  const dir = temp.make();
  const mini = miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "the seed" } });
  const { tree, mirror } = writeMiniTree(dir, mini);
  const bin = join(dir, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "chroot"), `#!/bin/sh\n${FINISH}\n${script}\n`, { mode: 0o755 });
  writeFileSync(join(bin, "sudo"), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
  const argv = [process.execPath, MAIN, "-c", ...options, "--external-sources"];
  const rest = ["-m", `file://${mirror}`, "--tree", tree, "-t", join(dir, "target")];
  const child = Bun.spawn(
    [
      "script",
      "-qefc",
      after === undefined ? `exec ${shellQuote([...argv, ...rest])}` : shellQuote([
        "bash",
        "-c",
        `stty -a >before; ${shellQuote([...argv, ...rest])}; ${after}`,
      ]),
      join(dir, "typescript"),
    ],
    {
      cwd: dir,
      env: { HOME: dir, PATH: `${bin}:${process.env["PATH"]}` },
      stdin: "pipe",
      stdout: "ignore",
      stderr: "ignore",
    },
  );
  return { dir, child, said: () => readFileSync(join(dir, "typescript"), "latin1") };
}

async function until(isSo: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !isSo(); i++) await setTimeout(50);
}

// With an empty bootstrap.cfg nobody knows which step is the last, so that its end proves nothing.
test.each(
  [
    ["-i", 0],
    ["--configurator", 0],
    ["--no-create-config", 9],
  ] as const,
)("with %s a bootstrap has the terminal", async (option, ends) => {
  const { child, said } = atTerminal(
    `test -t 0 && test -t 1 && echo "at a terminal"; read -r line && echo "it was told: $line"\nfinish`,
    option,
  );
  child.stdin.write("a word\n");
  child.stdin.flush();
  expect(await child.exited).toBe(ends);
  expect(said()).toContain("at a terminal");
  expect(said()).toContain("it was told: a word");
});

everywhere.each(["--configurator", "--no-create-config"])(
  "%s without a terminal is refused before anything is built, or is started",
  async (option) => {
    const dir = temp.make();
    const mini = miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "the seed" } });
    const { tree, mirror } = writeMiniTree(dir, mini);
    const common = ["--external-sources", "-m", mirror, "--tree", tree, "-t", join(dir, "target")];
    const refuses = async (...args: string[]) => {
      const { code, stderr } = await seedstrap(args, { cwd: dir });
      expect(stderr).toContain(`with ${option} without a terminal: its configurator asks for ever`);
      expect(code).toBe(2);
    };
    for (const mode of ["-c", "-q"]) {
      await refuses(mode, option, ...common);
      expect(existsSync(join(dir, "target"))).toBe(false);
    }
    expect(await seedstrap(["build", "-q", option, ...common])).toMatchObject({ code: 0 });
    await refuses("run", join(dir, "target"));
  },
);

test("without -i and --configurator, the input of a bootstrap is empty", async () => {
  const { child, said } = atTerminal(`read -r line || echo "nothing to read"\nfinish`);
  child.stdin.write("a word\n");
  child.stdin.flush();
  expect(await child.exited).toBe(0);
  expect(said()).toContain("nothing to read");
});

test("a bootstrap that is not interactive leaves the terminal as it was, and no key to the shell", async () => {
  const script = `printf '\\033[?7l\\033]0;a title\\007plain text\\n'; touch "$1/../begun"
while [ ! -e "$1/../typed" ]; do sleep 0.1; done
finish`;
  const after =
    'stty -a >after; if read -t 1 -r line; then echo "left: $line"; else echo "no key left"; fi';
  const { dir, child, said } = atTerminal(script, { after });
  await until(() => existsSync(join(dir, "begun")));
  child.stdin.write("rm -rf something\n");
  child.stdin.flush();
  await setTimeout(300);
  writeFileSync(join(dir, "typed"), "");
  await child.exited;
  expect(said()).toContain("plain text");
  expect(said()).toContain("no key left");
  expect(said()).not.toContain("something");
  expect(said()).not.toContain("\x1b[?7l");
  expect(said()).not.toContain("a title");
  expect(readFileSync(join(dir, "after"), "latin1")).toBe(
    readFileSync(join(dir, "before"), "latin1"),
  );
});

test("Ctrl-C goes to an interactive bootstrap, which may continue", async () => {
  const { dir, child, said } = atTerminal(
    'trap "echo it was interrupted; read -r line; echo and went on: \\$line; finish; exit 0" INT\n' +
      'touch "$1/../begun"; while :; do sleep 0.1; done',
    "-i",
  );
  await until(() => existsSync(join(dir, "begun")));
  child.stdin.write("\x03");
  child.stdin.flush();
  await until(() => said().includes("it was interrupted"));
  child.stdin.write("more\n");
  child.stdin.flush();
  expect(await child.exited).toBe(0);
  expect(said()).toContain("it was interrupted");
  expect(said()).toContain("and went on: more");
  expect(said()).toContain("starting by chroot; the log, without what is on your terminal, is ");
  expect(said()).not.toContain("Ctrl-C ends it");
});

test.each([["Ctrl-C", "\x03"], ["Ctrl-\\", "\x1c"]])(
  "%s that ends an interactive bootstrap ends the run as interrupted",
  async (_, key) => {
    const { dir, child, said } = atTerminal('touch "$1/../begun"; exec sleep 60', "-i");
    await until(() => existsSync(join(dir, "begun")));
    child.stdin.write(key);
    child.stdin.flush();
    expect(await child.exited).toBe(130);
    expect(said()).toContain("Interrupted in the bootstrap");
  },
);

test("Ctrl-C on which a bootstrap fails ends the run as interrupted", async () => {
  // Which of the two gets the signal first is a matter of chance.
  for (let i = 0; i < 6; i++) {
    const { dir, child, said } = atTerminal(
      `exec perl -e '$SIG{INT} = sub { exit 3 }; mkdir "$ARGV[0]/../begun"; sleep 60' "$1"`,
    );
    await until(() => existsSync(join(dir, "begun")));
    child.stdin.write("\x03");
    child.stdin.flush();
    expect(await child.exited).toBe(130);
    expect(said()).toContain("Interrupted, the bootstrap was ended");
  }
});

test("Ctrl-\\ goes to an interactive bootstrap, and ends any other cleanly", async () => {
  const script = 'trap "echo it was told to quit; finish; exit 0" QUIT\n' +
    'touch "$1/../begun"; while :; do :; done';
  for (const [options, code] of [[["-i"], 0], [[], 130]] as const) {
    const { dir, child, said } = atTerminal(script, ...options);
    await until(() => existsSync(join(dir, "begun")));
    child.stdin.write("\x1c");
    child.stdin.flush();
    expect(await child.exited).toBe(code);
    if (code === 0) expect(said()).toContain("it was told to quit");
  }
});

/** Starts a run of a guest that hangs, at a terminal, which asks before the first key ends it. */
async function hangingRun() {
  const dir = temp.make();
  // Prints " +> x" on COM1 with interrupts off, and stops.
  const code = "FA BA F8 03 B0 20 EE B0 2B EE B0 3E EE B0 20 EE B0 78 EE B0 0A EE F4 EB FD";
  const zeros = " 00".repeat(510 - code.split(" ").length);
  const files = { "builder-hex0/builder-hex0-x86-stage1.hex0": `${code}${zeros} 55 AA\n` };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ files }));
  const target = join(dir, "target");
  const build = ["build", "-q", "--external-sources", "-qs", "64M", "-m", `file://${mirror}`];
  const built = await seedstrap([...build, "--tree", tree, "-t", target, "--distfiles", dir]);
  expect(built.code).toBe(0);
  const source = (path: string) =>
    JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);
  writeFileSync(
    join(dir, "run.ts"),
    `import { runTarget } from ${source("job/run.ts")};
import { withInterrupt } from ${source("launch/interrupt.ts")};
const request = { target: ${
      JSON.stringify(target)
    }, accel: "tcg", named: undefined, confirmAfterMs: 0 };
const events = { onWarning: (text) => console.error(text) };
await withInterrupt((signal) => runTarget(request, events, signal)).catch((error) => {
  console.error(error.message, "|", error.hint);
  process.exitCode = error.exitCode;
});
`,
  );
  const argv = [process.execPath, join(dir, "run.ts")];
  const child = Bun.spawn(
    ["script", "-qefc", `exec ${shellQuote(argv)}`, join(dir, "typescript")],
    {
      env: { HOME: dir, PATH: process.env["PATH"] ?? "" },
      stdin: "pipe",
      stdout: "ignore",
      stderr: "ignore",
    },
  );
  const log = join(target, ".seedstrap/runs/1.log");
  await until(() => existsSync(log) && readFileSync(log, "latin1").includes(" +> x"));
  const press = (key: string) => {
    child.stdin.write(key);
    child.stdin.flush();
  };
  const said = () => readFileSync(join(dir, "typescript"), "latin1");
  const outcome = () => JSON.parse(readFileSync(join(target, ".seedstrap/runs/1.json"), "utf8"));
  return { child, press, said, outcome, log };
}

const testQemu = Bun.which("qemu-system-x86_64") === null ? test.skip : test;
if (testQemu !== test) console.log("skipped: keys at a running guest: QEMU is not installed here");

testQemu("Ctrl-C in an old run asks once, and a second one ends it", async () => {
  const { child, press, said, outcome } = await hangingRun();
  press("\x03");
  await until(() => said().includes("press Ctrl-C again within 5 s"));
  await setTimeout(500);
  expect(outcome().verdict).toBe("running");
  press("\x03");
  expect(await child.exited).toBe(130);
  expect(said()).toContain("init.img is as it was built: run it again");
  expect(outcome().verdict).toBe("interrupted");
});

testQemu("a terminal that is closed ends a run in good order, and the log says so", async () => {
  const { child, outcome, log } = await hangingRun();
  child.kill("SIGKILL"); // it held the other side of the terminal
  await until(() => outcome().verdict === "interrupted");
  expect(outcome().verdict).toBe("interrupted");
  expect(readFileSync(log, "latin1")).toContain("--- seedstrap: Interrupted by SIGHUP ---");
});
