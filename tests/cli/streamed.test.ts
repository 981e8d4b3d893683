// SPDX-License-Identifier: MIT
/** `seedstrap build --output IMAGE=-` and `bundle create --output -`: bytes to standard output. */
import { afterEach, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compress, noise, rawTar } from "../archive/support.ts";
import { EXIT } from "../../src/errors.ts";
import { MIB } from "../../src/format/segment.ts";
import { sha256 } from "../fetch/servers.ts";
import { sha256OfFile, TempDirs } from "../support/files.ts";
import { DENO, MAIN, run, seedstrap, start } from "../support/run.ts";
import { testAtTerminal } from "../support/terminal.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const BUN = [process.execPath, MAIN];
const RUNTIMES = [BUN, [DENO, "run", "--quiet", "--allow-all", MAIN]];
const IMAGES = { boot: "init.img", payload: "payload.img" } as const;

/** The ramdisks of the miniature tree are small. */
const FORCE = "--force";

/** Runs a program, and keeps the bytes that it prints. */
async function bytesFrom(argv: readonly string[]) {
  const child = start(argv);
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).bytes(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { stdout, stderr, code };
}

/** The words of a build for a real machine, all distfiles on its media. */
function buildWords(args: readonly string[], target: string, ...more: string[]): string[] {
  return ["build", "--bare-metal", "--external-sources", ...args, "-t", target, ...more];
}

test(
  "an image on standard output has the bytes of its file, and the record is the same",
  async () => {
    const dir = temp.make();
    const args = [...setUp(dir, { distfileBytes: 700_000 }), FORCE];
    expect((await buildIn(dir, args)).code).toBe(0);
    const file = (name: string) => readFileSync(join(dir, "target", name));
    for (const [index, runtime] of RUNTIMES.entries()) {
      for (const [role, name] of Object.entries(IMAGES)) {
        const target = join(dir, `${role} ${index}`);
        const { stdout, stderr, code } = await bytesFrom([
          ...runtime,
          ...buildWords(args, target, "--output", `${role}=-`),
        ]);
        expect([code, sha256(stdout)]).toEqual([0, sha256(file(name))]);
        expect(stderr).toContain(`standard output\n  ${role}, `);
        const others = Object.values(IMAGES).filter((other) => other !== name);
        expect(readdirSync(target).filter((found) => found.endsWith(".img"))).toEqual(others);
        for (const same of [...others, "seedstrap.json"]) {
          expect(sha256OfFile(join(target, same))).toBe(sha256(file(same)));
        }
      }
    }
  },
  60_000,
);

test("an image is written to a file that is named, while the other one is streamed", async () => {
  const dir = temp.make();
  const args = setUp(dir);
  expect((await buildIn(dir, args)).code).toBe(0);
  const file = (name: string) => readFileSync(join(dir, "target", name));
  const target = join(dir, "t");
  const boot = join(dir, "boot of a lab.img");
  const words = buildWords(args, target, "--output", `boot=${boot}`, "--output", "payload=-");
  const { stdout, stderr, code } = await bytesFrom([...BUN, ...words]);
  expect([code, sha256(stdout)]).toEqual([0, sha256(file("payload.img"))]);
  expect(stderr).toContain(`seedstrap write '${boot}' DEVICE`);
  expect(sha256OfFile(boot)).toBe(sha256(file("init.img")));
  expect(readFileSync(join(target, "seedstrap.json"))).toEqual(file("seedstrap.json"));
  expect(readdirSync(target).filter((found) => found.endsWith(".img"))).toEqual([]);
  const again = await seedstrap(words);
  expect(again).toMatchObject({ code: EXIT.target, stdout: "" });
  expect(again.stderr).toContain(`${boot} exists`);
});

test("an image with an archive in place of the seeds is streamed, too", async () => {
  const dir = temp.make();
  const args = setUp(dir, { files: { "seed/preseeded.kaem": "go on\n" } });
  const archive = join(dir, "base.tar.gz");
  const names = ["x86/hex0_x86.hex0", "x86/kaem-minimal.hex0", "usr/bin/tcc", "init"];
  const tar = rawTar(names.map((name, seed) => ({ name, data: noise(5000, seed + 1) })));
  writeFileSync(archive, compress("gzip", tar));
  const more = ["--early-preseed", archive];
  expect(await buildIn(dir, [...args, ...more])).toMatchObject({ code: 0 });
  const words = buildWords(args, join(dir, "t"), ...more, "--output", "boot=-");
  const { stdout, code } = await bytesFrom([...BUN, ...words]);
  expect([code, sha256(stdout)]).toEqual([0, sha256OfFile(join(dir, "target/init.img"))]);
});

test("a wrong file ends the stream before its end, with an exit code and no record", async () => {
  const dir = temp.make();
  const args = setUp(dir, { distfileBytes: MIB });
  const forced = [...args, FORCE];
  expect((await buildIn(dir, forced)).code).toBe(0);
  const whole = readFileSync(join(dir, "target/payload.img"));
  const mirror = join(dir, "mirror");
  const [name = ""] = readdirSync(mirror).filter((found) => found.startsWith("omega"));
  const path = join(mirror, name);
  const wrong = readFileSync(path);
  wrong[wrong.length - 1] = wrong[wrong.length - 1]! ^ 1;
  writeFileSync(path, wrong);
  const target = join(dir, "t");
  const boot = join(dir, "boot.img");
  const { stdout, stderr, code } = await bytesFrom([
    ...BUN,
    ...buildWords(forced, target, "--output", "payload=-", "--output", `boot=${boot}`),
  ]);
  expect(code).toBe(EXIT.verify);
  expect(stderr).toContain(path);
  expect(stderr).toContain("What was streamed is incomplete");
  expect(stdout.length).toBeGreaterThan(MIB);
  expect(whole.subarray(0, stdout.length).equals(stdout)).toBe(true);
  expect(stdout.length).toBeLessThan(whole.length);
  expect(existsSync(boot)).toBe(false);
  expect(existsSync(join(target, "seedstrap.json"))).toBe(false);

  const bundle = await bytesFrom([...BUN, "bundle", "create", ...args, "-o", "-"]);
  expect(bundle.code).toBe(EXIT.verify);
  expect(bundle.stderr).toContain("What was streamed is incomplete");
}, 30_000);

test("a reader that goes away is no success, and nothing is recorded", async () => {
  const dir = temp.make();
  const args = [...setUp(dir, { distfileBytes: 4 * MIB }), FORCE];
  for (const runtime of RUNTIMES) {
    const log = join(dir, "code");
    const words = buildWords(args, join(dir, "t"), "--output", "payload=-");
    const script = '{ "$@"; echo $? >"$0"; } | head -c 1000 | wc -c';
    const ran = await run(["sh", "-c", script, log, ...runtime, ...words]);
    expect(ran.stdout.trim()).toBe("1000");
    expect(readFileSync(log, "utf8")).toBe(`${EXIT.readerGone}\n`);
    expect(ran.stderr).not.toContain("bug");
    expect(existsSync(join(dir, "t/seedstrap.json"))).toBe(false);
  }
}, 30_000);

test("a reader that stands still does not hold up an interrupt", async () => {
  const dir = temp.make();
  const args = [...setUp(dir, { distfileBytes: 10 * MIB }), FORCE];
  // A write to a pipe stops all of Deno, which sees no signal meanwhile.
  const child = start([...BUN, ...buildWords(args, join(dir, "t"), "--output", "payload=-")]);
  const reader = child.stdout.getReader();
  await reader.read();
  child.kill("SIGINT");
  expect(await child.exited).toBe(EXIT.interrupt);
  expect(await new Response(child.stderr).text()).toContain("seedstrap: Interrupted");
  expect(existsSync(join(dir, "t/seedstrap.json"))).toBe(false);
});

test("a reader that is slow costs no memory", async () => {
  const dir = temp.make();
  const args = [...setUp(dir, { distfileBytes: 60 * MIB }), FORCE];
  for (const runtime of RUNTIMES) {
    const child = start([
      ...runtime,
      ...buildWords(args, join(dir, "t"), "--output", "payload=-"),
    ]);
    const reader = child.stdout.getReader();
    let bytes = (await reader.read()).value!.length;
    const residentBytes = () => {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      return 1024 * Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)![1]);
    };
    const before = residentBytes();
    let mostBytes = before;
    // Some while in which it would fill up, if it did not wait.
    await Bun.sleep(1000);
    for (;;) {
      mostBytes = Math.max(mostBytes, child.exitCode === null ? residentBytes() : 0);
      const { done, value } = await reader.read();
      if (done) break;
      bytes += value.length;
    }
    expect(await child.exited).toBe(0);
    expect(bytes).toBeGreaterThan(200 * MIB);
    expect(mostBytes - before).toBeLessThan(100 * MIB);
  }
}, 120_000);

test("a bundle on standard output has the bytes of its file", async () => {
  const dir = temp.make();
  const args = setUp(dir);
  const path = join(dir, "lb.tar");
  expect(await seedstrap(["bundle", "create", ...args, "-o", path])).toMatchObject({ code: 0 });
  const bundle = await bytesFrom([...BUN, "bundle", "create", ...args, "-o", "-"]);
  expect([bundle.code, sha256(bundle.stdout)]).toEqual([0, sha256OfFile(path)]);
  expect(bundle.stderr).toContain("standard output\n");
});

test("outputs are refused before anything is fetched or written", async () => {
  const dir = temp.make();
  const args = setUp(dir);
  const target = join(dir, "t");
  const cases: readonly (readonly [words: string, code: number, said: string])[] = [
    ["-b -x --output boot", EXIT.usage, "it names no image"],
    ["-b -x --output disk=-", EXIT.usage, "it names no image"],
    ["-b -x --output boot=- --output boot=x", EXIT.usage, "has another place already"],
    ["-b -x --output boot=- --output payload=-", EXIT.usage, "the other image goes there"],
    ["-b -x --output boot=x --output payload=./x", EXIT.usage, "the other image goes there"],
    ["-b -x --output boot=x --boot-device /dev/null", EXIT.usage, "has another place already"],
    ["-b -x --output boot=- --json", EXIT.usage, "--json prints there"],
    ["-b -x --output boot=x --sha256", EXIT.usage, "Cannot use --sha256 with --output"],
    ["-q -x --output boot=-", EXIT.usage, "that needs --bare-metal"],
    ["-b --payload never --output payload=-", EXIT.usage, "the plan has no payload"],
    ["-b -x --output boot=t/x", EXIT.usage, "is in the target"],
    ["-b -x --output boot=none/x", EXIT.target, "there is no directory"],
  ];
  for (const [words, code, said] of cases) {
    const argv = words.replace("-x", "--external-sources").split(" ");
    const ran = await seedstrap(["build", ...args, "-t", target, ...argv], { cwd: dir });
    expect([words, ran.code]).toEqual([words, code]);
    expect(ran.stderr).toContain(said);
    if (!words.includes("--json")) expect(ran.stdout).toBe("");
  }
  for (const option of [["--split", "4G"], ["--sha256"], ["--json"]]) {
    const ran = await seedstrap(["bundle", "create", ...args, "-o", "-", ...option]);
    expect(ran.code).toBe(EXIT.usage);
    expect(ran.stderr).toContain(`Cannot use ${option[0]} with --output -`);
  }
  expect(readdirSync(dir).sort()).toEqual(["mirror", "tree"]);
}, 60_000);

testAtTerminal()("a terminal gets no image", async () => {
  const dir = temp.make();
  const args = setUp(dir);
  for (
    const words of [
      buildWords(args, join(dir, "t"), "--output", "boot=-"),
      ["bundle", "create", ...args, "-o", "-"],
    ]
  ) {
    const line = [...BUN, ...words].map((word) => `'${word}'`).join(" ");
    const ran = await run(["script", "-qec", line, "/dev/null"]);
    expect(ran.code).toBe(EXIT.usage);
    expect(ran.stdout).toContain("standard output is a terminal");
  }
});
