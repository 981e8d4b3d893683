// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { seedstrap } from "../support/run.ts";
import { extraTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const SEED = { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "seed" };

function scene() {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(dir, extraTree({ files: SEED }));
  const store = join(dir, "store");
  return { dir, tree, mirror, args: ["--tree", tree, "-m", mirror, "--store", store] };
}

/** Runs seedstrap, which has to succeed, and returns what it printed. */
async function printed(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await seedstrap(args);
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
  return stdout;
}

test("sources lists those of extra builds where it is asked to, up to the network of each", async () => {
  const { tree } = scene();
  const names = async (...args: string[]) =>
    (await printed("sources", "--tree", tree, ...args)).trim().split("\n")
      .map((line) => line.split(" ")[3]!.replace(".tar.gz", ""));
  const main = ["alpha-1.0", "beta-2.0", "gamma-3.0", "linux-4.0", "delta-5.0"];
  expect(await names()).toEqual([...main, "omega-6.0"]);
  expect(await names("--extra-builds", "guix")).toEqual(
    [...main, "omega-6.0", "guix-epsilon-7.0", "guix-zeta-8.0", "guix-alpha-1.0"],
  );
  expect(await names("--extra-builds=guix", "--pre-network")).toEqual([
    ...main,
    "guix-epsilon-7.0",
  ]);
  const json = JSON.parse(
    await printed("sources", "--tree", tree, "--json", "--extra-builds", "other, guix"),
  );
  expect(json.sources.at(-1).steps).toEqual([
    { step: "alpha-1.0", pass: 1, manifest: "steps-guix/manifest", manifestLine: 7 },
  ]);
});

test("fetch gets the distfiles of extra builds, also those of one step", async () => {
  const { dir, args } = scene();
  const to = join(dir, "to");
  await printed("fetch", ...args, "--extra-builds", "guix", "--step", "zeta-8.0", "--to", to);
  expect(readdirSync(to)).toEqual(["guix-zeta-8.0.tar.gz"]);
  await printed("fetch", ...args, "--extra-builds", "guix", "--pre-network", "--to", to);
  expect(readdirSync(to)).toHaveLength(7);
  await printed("fetch", ...args, "--extra-builds", "guix,other", "--to", to);
  expect(readdirSync(to)).toHaveLength(10);
});

test("a bundle of a checkout with an extra build is enough to build with it elsewhere", async () => {
  const { dir, tree, args } = scene();
  const bundle = join(dir, "lb.tar");
  await printed("bundle", "create", ...args, "--extra-builds", "guix", "-o", bundle);
  const target = join(dir, "target");
  const from = ["--tree", bundle, "--offline", "--store", join(dir, "none")];
  const build = ["build", "-b", "--external-sources", "--extra-builds", "guix"];
  await printed(...build, ...from, "-t", target);
  const image = join(target, "init.img");
  const config = await printed("image", "cat", image, "steps/bootstrap.cfg");
  expect(config).toContain("\nEXTRA_BUILDS=guix\n");
  expect(await printed("image", "cat", image, "steps-guix/manifest")).toBe(
    readFileSync(join(tree, "steps-guix/manifest"), "utf8"),
  );
  // What is in the image says which step directories it was built with.
  await printed("image", "verify", image, "--tree", tree);
  const again = join(dir, "again");
  await printed(...build, ...args, "-t", again);
  expect(readFileSync(join(again, "init.img"))).toEqual(readFileSync(image));
  await printed("reproduce", target, ...args);
  writeFileSync(join(tree, "steps-guix/epsilon-7.0/pass1.sh"), "changed\n");
  expect(await seedstrap(["image", "verify", image, "--tree", tree])).toMatchObject({ code: 5 });
  expect(await seedstrap(["reproduce", target, ...args])).not.toMatchObject({ code: 0 });
});

test("a directory has the extra builds beside steps/, and their distfiles", async () => {
  const { dir, tree, args } = scene();
  const target = join(dir, "root");
  await printed(
    "build",
    "-c",
    ...args,
    "--external-sources",
    "--extra-builds",
    "other",
    "-t",
    target,
  );
  expect(existsSync(join(target, "steps-other/eta-9.0/pass1.sh"))).toBe(true);
  expect(existsSync(join(target, "steps-guix"))).toBe(false);
  expect(readdirSync(join(target, "external/distfiles"))).toContain("other-eta-9.0.tar.gz");
  rmSync(join(tree, "steps-other"), { recursive: true });
  const gone = await seedstrap(["plan", "-c", ...args, "--extra-builds", "other"]);
  expect(gone).toMatchObject({ code: 2 });
  expect(gone.stderr).toContain("there is no steps-other/manifest");
  expect(gone.stderr).toContain("The checkout has guix");
});

test("--extra-builds takes names with commas", async () => {
  const { args } = scene();
  const planned = (value: string) => seedstrap(["plan", "-q", ...args, `--extra-builds=${value}`]);
  expect(await planned(" guix,,other,guix")).toMatchObject({ code: 0 });
  expect(await planned("")).toMatchObject({ code: 0 });
  const odd = await planned("guix,a/b");
  expect(odd).toMatchObject({ code: 2 });
  expect(odd.stderr).toContain('Cannot use "a/b" for --extra-builds');
});
