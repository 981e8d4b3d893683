// SPDX-License-Identifier: MIT
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBundle } from "../../src/image/bundle.ts";
import { builtBinary, loaderOf } from "../support/binary.ts";
import { sha256OfFile, TempDirs } from "../support/files.ts";
import { asNobody, NOBODY, nobodyObstacle } from "../support/nobody.ts";
import { DENO, MAIN, run, seedstrap, start } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const dir = temp.make();
const args = setUp(dir);
const bundle = join(dir, "b.tar");
const offline = ["--offline", "--tree", bundle, "--distfiles", join(dir, "none")];

beforeAll(async () => {
  const ran = await seedstrap(["bundle", "create", ...args, "-o", bundle]);
  if (ran.code !== 0) throw new Error(ran.stderr);
  await buildIn(dir, args);
});

/** Returns why a command cannot be run here, or undefined. */
async function refused(argv: readonly string[]): Promise<string | undefined> {
  const name = argv[0]!;
  if (Bun.which(name) === null) return `there is no ${name} here`;
  const { code, stderr } = await run([...argv, "true"]);
  return code === 0 ? undefined : `${name} is not allowed: ${stderr.trim()}`;
}
const binary = builtBinary();
const ALONE = ["unshare", "--net"];
const noNamespace = await refused(ALONE);
const noUser = nobodyObstacle();
if (noNamespace) console.log(`skipped: a build without a network: ${noNamespace}`);
if (binary.obstacle) console.log(`skipped: a bundle with the binary: ${binary.obstacle}`);
if (noUser) console.log(`skipped: a bundle made by another user: ${noUser}`);

test.skipIf(noNamespace !== undefined)(
  "a build from a bundle, without a network, equals one from the checkout",
  async () => {
    const target = join(dir, "offline");
    const build = ["build", "--bare-metal", "--external-sources", ...offline, "-t", target];
    const ran = await run([...ALONE, process.execPath, MAIN, ...build]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    for (const name of ["init.img", "payload.img"]) {
      expect(sha256OfFile(join(target, name))).toBe(sha256OfFile(join(dir, "target", name)));
    }
  },
);

test.skipIf(noUser !== undefined)(
  "another user makes the same bundle in another place",
  async () => {
    const other = temp.make();
    writeMiniTree(other, miniTree({ importsPayload: true }));
    const [binary] = asNobody(other).slice(-1);
    const [tree, mirror] = [join(other, "tree"), join(other, "mirror")];
    await run(["chmod", "-R", "go-w,u+rwX,go+rX", other]);
    await run(["chown", "-R", "65534:65534", other]);
    const output = join(other, "b.tar");
    const create = ["bundle", "create", "--tree", tree, "-m", `file://${mirror}`, "-o", output];
    const env = { HOME: other, LC_ALL: "tr_TR.UTF-8", TZ: "Pacific/Kiritimati" };
    const argv = [...NOBODY, "sh", "-c", 'umask 077; exec "$@"', "sh", binary!];
    const ran = await run([...argv, ...create], { env, cwd: other });
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(readFileSync(output).equals(readFileSync(bundle))).toBe(true);
  },
);

test("Deno makes, verifies and unpacks the same bundle", async () => {
  const command = [DENO, "run", "--quiet", "--allow-all", MAIN];
  const output = join(temp.make(), "deno.tar");
  const made = await seedstrap(["bundle", "create", ...args, "-o", output], { command });
  expect(made).toMatchObject({ code: 0, stderr: "" });
  expect(readFileSync(output).equals(readFileSync(bundle))).toBe(true);
  expect((await seedstrap(["bundle", "verify", output], { command })).code).toBe(0);
  const out = `${output}.d`;
  expect((await seedstrap(["bundle", "unpack", output, "-o", out], { command })).code).toBe(0);
  expect(readdirSync(out).sort()).toEqual([
    "builder-hex0",
    "distfiles",
    "seed",
    "seedstrap-bundle",
    "steps",
  ]);
});

test("bundle verify names what is damaged and ends with 5", async () => {
  const good = await seedstrap(["bundle", "verify", bundle]);
  expect(good).toMatchObject({ code: 0, stderr: "" });
  expect(good.stdout).toContain("every byte is as the index says");
  const bytes = readFileSync(bundle);
  const { members } = openBundle(bundle);
  const [a, b] = ["seed/seed.kaem", "distfiles/gamma-3.0.tar.gz"];
  bytes[members.get(a!)!.dataOffset]! ^= 1;
  bytes[members.get(b!)!.headerOffset + 105]! ^= 1;
  const damaged = join(dir, "damaged.tar");
  writeFileSync(damaged, bytes);
  const bad = await seedstrap(["bundle", "verify", damaged]);
  expect(bad.code).toBe(5);
  expect(bad.stdout.trimEnd().split("\n").map((line) => line.split(":")[0])).toEqual([
    `header  ${b}`,
    `data    ${a}`,
  ]);
  expect(bad.stderr).toContain(`${b} and 1 more are damaged`);
  const json = await seedstrap(["bundle", "verify", "--json", damaged]);
  expect(json.code).toBe(5);
  expect(JSON.parse(json.stdout).faults).toHaveLength(2);
});

test("bundle verify of a bundle that ends too early says so first, and names 20 of what is missing", async () => {
  const place = temp.make();
  const files = Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [`steps/zeta-${10 + i}/pass1.sh`, "true\n"]),
  );
  const output = join(place, "b.tar");
  const made = await seedstrap(["bundle", "create", ...setUp(place, { files }), "-o", output]);
  expect(made).toMatchObject({ code: 0, stderr: "" });
  const { sizeBytes, members } = openBundle(output).layout;
  const { headerOffset } = members.find(({ member }) => member.path === "steps/zeta-10")!;
  const bytes = readFileSync(output);
  writeFileSync(output, bytes.subarray(0, headerOffset));
  const cut = await seedstrap(["bundle", "verify", output]);
  const what = `the bundle ends too early, at ${headerOffset} of ${sizeBytes} bytes`;
  const [first, ...lines] = cut.stdout.trimEnd().split("\n");
  expect(first).toBe(what);
  expect(lines).toHaveLength(21);
  expect(lines.slice(0, 20).every((line) => line.startsWith("missing steps/zeta-"))).toBe(true);
  expect(lines.at(-1)).toBe("missing 60 members in all; --json lists them");
  expect(cut.stderr).toStartWith(`seedstrap: Cannot trust ${output}: ${what}\n`);
  expect(cut.code).toBe(5);
  const json = await seedstrap(["bundle", "verify", "--json", output]);
  expect(JSON.parse(json.stdout).faults).toHaveLength(61);
});

test.skipIf(binary.obstacle !== undefined)(
  "bundle create --binary says how to take the program out of the bundle",
  async () => {
    const place = temp.make();
    const command = [binary.path];
    const create = ["bundle", "create", ...args, "--binary", "-o"];
    const made = await seedstrap([...create, join(place, "lb.tar")], { command });
    const split = await seedstrap([...create, join(place, "cut.tar"), "--split", "64"], {
      command,
    });
    for (const { stdout, code } of [made, split]) {
      expect(code).toBe(0);
      const line = /^seedstrap is in it: (.*)$/m.exec(stdout)![1]!;
      const program = line.split(" ").at(-1)!;
      expect(await run(["sh", "-c", line], { cwd: place })).toMatchObject({ code: 0 });
      expect(await run([join(place, program), "--version"])).toMatchObject({ code: 0, stderr: "" });
      rmSync(join(place, program));
    }
    const readme = readFileSync(join(import.meta.dirname!, "../../README.md"), "utf8");
    expect(readme).toContain(/^seedstrap is in it: (.*)$/m.exec(made.stdout)![1]!);
  },
  60_000,
);

const loader = loaderOf(process.execPath);
if (loader === undefined) console.log("skipped: the binary by its loader: it names none");

test.skipIf(binary.obstacle !== undefined || loader === undefined)(
  "bundle create --binary finds the program that somebody has its loader start",
  async () => {
    const output = join(temp.make(), "lb.tar");
    const command = [loader!, "--preload", "libc.so.6", binary.path];
    const create = ["bundle", "create", ...args, "--binary", "-o", output];
    expect(await seedstrap(create, { command })).toMatchObject({ code: 0 });
    const found = openBundle(output).members.get("seedstrap-bundle/bin/seedstrap");
    expect(found?.member).toMatchObject({ sha256: sha256OfFile(binary.path) });
  },
  60_000,
);

test("bundle ls lists what the index says", async () => {
  const ls = await seedstrap(["bundle", "ls", bundle]);
  expect(ls.stdout).toContain("           0  distfiles/\n");
  const long = await seedstrap(["bundle", "ls", "-l", bundle]);
  const sha256 = sha256OfFile(join(dir, "mirror/gamma-3.0.tar.gz"));
  expect(long.stdout).toMatch(new RegExp(`^644 .* ${sha256}  distfiles/gamma-3.0.tar.gz$`, "m"));
  const json = await seedstrap(["bundle", "ls", "--json", bundle]);
  const { entries } = JSON.parse(json.stdout);
  expect(entries).toHaveLength(openBundle(bundle).members.size);
  expect(entries).toContainEqual(expect.objectContaining({ path: "distfiles/gamma-3.0.tar.gz" }));
});

test("plan and sources read a bundle too", async () => {
  const sources = await seedstrap(["sources", "--tree", bundle]);
  expect(sources).toEqual(await seedstrap(["sources", "--tree", join(dir, "tree")]));
  const plan = await seedstrap(["plan", "--qemu", "-qs", "64", ...offline]);
  expect(plan).toMatchObject({ code: 0, stderr: "" });
});

test("bundle create --split makes files that FAT can hold, and refuses a size of 0", async () => {
  const output = join(temp.make(), "cut.tar");
  const ran = await seedstrap(["bundle", "create", ...args, "-o", output, "--split", "1"]);
  expect(ran.code).toBe(0);
  expect(readdirSync(join(output, ".."))).toEqual(["cut.tar.001"]);
  const wrong = await seedstrap(["bundle", "create", ...args, "-o", output, "--split", "0"]);
  expect(wrong).toMatchObject({ code: 2, stdout: "" });
});

test.each([
  [["bundle", "create"], "required option '-o, --output <file>'", 2],
  [["bundle", "create", "--binary", "-o", "x.tar"], "Cannot use --binary", 2],
  [["bundle", "create", "--all", "--pre-network", "-o", "x.tar"], "cannot be used with", 2],
  [["bundle", "create", "-o", "none/x.tar"], "there is no directory", 7],
  [["bundle", "verify", "none.tar"], "Cannot find the bundle", 7],
  [["bundle", "ls", "tree/steps/manifest"], "as a bundle: it is not one", 6],
  [["bundle", "unpack", "none.tar"], "required option '-o, --output <dir>'", 2],
])("%j is refused", async (argv, message, code) => {
  const ran = await seedstrap([...argv], { cwd: dir });
  expect(ran.stderr).toContain(message);
  expect(ran).toMatchObject({ code, stdout: "" });
});

test("bundle create and unpack take names as long as a name can be", async () => {
  const dir = temp.make();
  const args = setUp(dir);
  const file = join(dir, `${"b".repeat(251)}.tar`);
  const target = join(dir, "d".repeat(255));
  expect(await seedstrap(["bundle", "create", ...args, "-o", file])).toMatchObject({ code: 0 });
  expect(await seedstrap(["bundle", "unpack", file, "-o", target])).toMatchObject({ code: 0 });
  const long = join(dir, "b".repeat(256));
  const ran = await seedstrap(["bundle", "create", ...args, "-o", long]);
  expect(ran).toMatchObject({ code: 7 });
  expect(ran.stderr).toContain("ENAMETOOLONG");
  expect(ran.stderr).toContain("hint: A name has at most 255 bytes");
});

test("bundle create leaves nothing after SIGINT, and ends with 130", async () => {
  const big = temp.make();
  const args = setUp(big, { distfileBytes: 30_000_000 });
  const before = readdirSync(big).sort();
  const argv = [process.execPath, MAIN, "bundle", "create", ...args, "-o", join(big, "b.tar")];
  const child = start(argv);
  while (!readdirSync(big).some((name) => name.startsWith(".seedstrap.part-"))) await Bun.sleep(2);
  child.kill("SIGINT");
  expect(await child.exited).toBe(130);
  expect(readdirSync(big).sort()).toEqual(before);
});

test("bundle create removes what a killed one has left", async () => {
  const big = temp.make();
  const args = setUp(big, { distfileBytes: 30_000_000 });
  const argv = ["bundle", "create", ...args, "-o", join(big, "b.tar")];
  const isLeft = (name: string) => name.startsWith(".seedstrap.part-");
  const child = start([process.execPath, MAIN, ...argv]);
  while (!readdirSync(big).some(isLeft)) await Bun.sleep(2);
  child.kill("SIGKILL");
  await child.exited;
  expect(readdirSync(big).filter(isLeft)).toHaveLength(1);
  expect(await seedstrap(argv)).toMatchObject({ code: 0 });
  expect(readdirSync(big).filter(isLeft)).toEqual([]);
});

test("image reads a bundle, whole or split, like any other image", async () => {
  const parts = join(dir, "cut.tar");
  const create = ["bundle", "create", ...args, "--split", "1", "-o", parts];
  expect(await seedstrap(create)).toMatchObject({ code: 0 });
  const image = async (...words: string[]) => await seedstrap(["image", ...words]);
  for (const path of [bundle, `${parts}.001`]) {
    const ls = await image("ls", path, "--json");
    const { entries } = JSON.parse(ls.stdout);
    const named = (name: string) => entries.find(({ path }: { path: string }) => path === name);
    expect(named("distfiles/alpha-1.0.tar.gz")).toBeDefined();
    expect(named("steps/manifest")).toMatchObject({ kind: "file" });
    const manifest = readFileSync(join(dir, "tree/steps/manifest"), "utf8");
    expect(await image("cat", path, "steps/manifest")).toMatchObject({ code: 0, stdout: manifest });
    expect((await image("verify", path)).stdout).toContain("every byte is as the index says");
    const out = join(dir, `out of ${path.split("/").at(-1)}`);
    expect(await image("extract", path, "steps", "-o", out)).toMatchObject({ code: 0 });
    expect(readFileSync(join(out, "steps/manifest"), "utf8")).toBe(manifest);
  }
  expect(await image("diff", bundle, `${parts}.001`)).toMatchObject({ code: 0, stdout: "" });
  const compared = await image("verify", bundle, "--tree", join(dir, "tree"));
  expect(compared.stderr).toContain("it is a bundle");
  expect(compared.code).toBe(2);
  const damaged = join(dir, "damaged.tar");
  const bytes = readFileSync(bundle);
  bytes[bytes.indexOf("echo alpha")]! ^= 1;
  writeFileSync(damaged, bytes);
  const found = await image("verify", damaged);
  expect(found.stderr).toContain("steps/alpha-1.0/pass1.sh is damaged");
  expect(found.code).toBe(5);
});

test("reproduce builds again from a bundle, and downloads nothing with --offline", async () => {
  const target = join(dir, "again");
  const build = ["build", "--bare-metal", "--external-sources", ...offline, "-t", target];
  expect(await seedstrap(build)).toMatchObject({ code: 0 });
  const ran = await seedstrap(["reproduce", join(target, "seedstrap.json"), ...offline]);
  expect(ran.stdout).toContain("the same: 2 outputs have the stated digests");
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  // The checkout itself, without its mirror, lacks everything.
  const tree = ["--tree", join(dir, "tree"), "--distfiles", join(dir, "none"), "--offline"];
  const lacking = await seedstrap(["reproduce", join(target, "seedstrap.json"), ...tree]);
  expect(lacking.stderr).toContain("Cannot continue with --offline: ");
  expect(lacking.code).toBe(4);
});

test("builds from a bundle made with --air-gapped are air-gapped, unless they are told otherwise", async () => {
  const gapped = join(temp.make(), "gapped.tar");
  const make = ["bundle", "create", ...args, "--offline", "-o", gapped];
  expect((await seedstrap([...make, "--air-gapped", "--pre-network"])).code).toBe(2);
  expect(await seedstrap([...make, "--air-gapped"])).toMatchObject({ code: 0, stderr: "" });
  expect((await seedstrap(["bundle", "verify", gapped])).code).toBe(0);
  expect(openBundle(gapped).layout.index.airGapped).toBe(true);
  expect(openBundle(bundle).layout.indexText).not.toContain("airGapped");
  const plan = (from: string, ...more: string[]) =>
    seedstrap(["plan", "-b", "--external-sources", "--offline", "--tree", from, ...more, "--json"]);
  const isGapped = async (from: string, ...more: string[]) =>
    JSON.parse((await plan(from, ...more)).stdout).config.includes("AIR_GAPPED=True\n");
  expect(await isGapped(gapped)).toBe(true);
  expect(await isGapped(gapped, "--no-air-gapped")).toBe(false);
  expect(await isGapped(bundle)).toBe(false);
  expect(await isGapped(bundle, "--air-gapped")).toBe(true);
  // A machine without a network needs every distfile.
  const some = await seedstrap(["plan", "-b", "--offline", "--tree", gapped]);
  expect(some.stderr).toContain("Use --external-sources too");
  expect(some.code).toBe(2);
});

test("build gives the advice of plan, and counts the files of the payload as plan does", async () => {
  const plain = ["--bare-metal", "--external-sources", ...args];
  const note = "note: every distfile is included: for a machine without a network use --air-gapped";
  const built = await seedstrap(["build", ...plain, "-t", join(dir, "advised")]);
  const planned = await seedstrap(["plan", ...plain]);
  for (const { stdout } of [built, planned]) expect(stdout).toContain(note);
  expect(planned.stdout).toContain("payload.img: 4 files");
  expect(built.stdout).toContain("payload, 4 files");
  const boot = /init\.img: (\d+) files in/.exec(planned.stdout)?.[1];
  expect(built.stdout).toContain(`boot, ${boot} files`);
  const gapped = await seedstrap(["build", ...plain, "--air-gapped", "-t", join(dir, "gapped")]);
  expect(gapped).toMatchObject({ code: 0, stderr: "" });
  expect(gapped.stdout).not.toContain("note:");
});

test("bundle verify and a build in place name the part that is damaged", async () => {
  const place = temp.make();
  const large = setUp(place, { distfileBytes: 400_000 });
  const output = join(place, "cut.tar");
  await seedstrap(["bundle", "create", ...large, "--split", "1", "-o", output]);
  const part = `${output}.002`;
  const bytes = readFileSync(part);
  bytes[500_000]! ^= 1;
  writeFileSync(part, bytes);
  const bad = await seedstrap(["bundle", "verify", output]);
  expect(bad.code).toBe(5);
  expect(bad.stdout).toMatch(/^data {4}distfiles\/.* bytes at \d+, in cut\.tar\.002: SHA-256 is /);
  expect(bad.stderr).toContain(`\n  at ${part}\n  hint: Copy this part again`);
  const json = await seedstrap(["bundle", "verify", "--json", output]);
  expect(JSON.parse(json.stdout).faults).toMatchObject([{ kind: "data", parts: [part] }]);
  const offline = ["--offline", "--tree", output, "--distfiles", join(place, "none")];
  const media = ["build", "-b", "--force", "--external-sources", "-t", join(place, "media")];
  const built = await seedstrap([...media, ...offline]);
  expect(built.code).toBe(5);
  expect(built.stderr).toMatch(/warning: distfiles\/\S+ in /);
  expect(built.stderr).toContain(` in ${part} is damaged and not used`);
  expect(built.stderr).toContain(`  damaged in ${part}: `);
});
