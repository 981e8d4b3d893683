// SPDX-License-Identifier: MIT
/**
 * The steps of the machine that restore packages and directories of the user: those of a built boot
 * image, sourced by bash in a root that has the built payload image as a disk, with the importer
 * compiled here. Needs root.
 *
 * @module
 */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { parseConfig } from "../../src/tree/config.ts";
import { evaluateManifest, parseManifest } from "../../src/tree/manifest.ts";
import { LONG_NAME, writeExtras } from "../support/extras.ts";
import { TempDirs } from "../support/files.ts";
import { seedstrap } from "../support/run.ts";
import { runSync, variants } from "./harness.ts";

const programs = new TempDirs();
const temp = new TempDirs();
const importer = variants(programs.make())[0]?.program;

/** Why these tests cannot run here, or undefined. */
function obstacle(): string | undefined {
  if (importer === undefined) return "there is no C compiler";
  if (process.getuid?.() !== 0) return "they need root";
  for (const program of ["unshare", "losetup", "mount", "chroot", "tar"]) {
    if (Bun.which(program) === null) return `${program} is not installed`;
  }
  if (runSync(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/dev"]).code !== 0) {
    return "they need the right to mount";
  }
  return runSync(["losetup", "-f"]).code === 0 ? undefined : "there are no loop devices";
}

const why = obstacle();
if (why !== undefined) console.log(`skipped: the restore of packages and directories: ${why}`);

const loops: string[] = [];
afterEach(() => temp.release());
afterAll(() => {
  for (const loop of loops) runSync(["losetup", "-d", loop]);
  programs.release();
});

/** Attaches an image as a loop device; gives its row in /proc/partitions. */
function attach(image: string): string {
  const { code, stdout, stderr } = runSync(["losetup", "-f", "--show", "-r", image]);
  if (code !== 0) throw new Error(stderr);
  loops.push(stdout.trim());
  return `   7 ${stdout.trim().slice("/dev/loop".length)} 1024 sdb`;
}

/** Builds images, and makes a root with what the boot image has. */
async function machine(...options: readonly string[]) {
  const dir = temp.make();
  const { tree, mirror, repo, more } = writeExtras(dir);
  const target = join(dir, "target");
  const built = await seedstrap([
    ...["build", "-b", "--tree", tree, "-m", mirror, "-t", target, "--store", join(dir, "store")],
    ...options.map((text) => text.replace("REPO", repo).replace("MORE", more)),
  ]);
  expect(built.code).toBe(0);
  const root = join(dir, "root");
  const image = join(target, "init.img");
  expect((await seedstrap(["image", "extract", image, "-o", root])).code).toBe(0);
  for (const name of ["usr", "dev", "proc", "tmp", "stub"]) {
    mkdirSync(join(root, name), { recursive: true });
  }
  cpSync(importer!, join(root, "stub/payload-import"));
  const partitions = join(dir, "partitions");
  const row = attach(join(target, "payload.img"));
  writeFileSync(partitions, ["major minor  #blocks  name", "", row, ""].join("\n"));
  return { dir, root, more, repo, partitions };
}

/** Runs the improves that the machine runs after jump: move_disk and before the next build. */
function restore(root: string, partitions: string) {
  const text = (path: string) => readFileSync(join(root, path), "utf8");
  const config = parseConfig(text("steps/bootstrap.cfg"), "bootstrap.cfg");
  const active = evaluateManifest(parseManifest(text("steps/manifest"), "steps/manifest"), config)
    .map(({ line }) => line);
  const from = active.findIndex(({ kind, name }) => kind === "jump" && name === "move_disk");
  const after = active.slice(from + 1);
  const improves = after.slice(0, after.findIndex(({ kind }) => kind === "build"))
    .map(({ name }) => name)
    // What it does is done below.
    .filter((name) => name !== "finalize_fhs");
  const sources = improves.map((name) => `. /steps/improve/${name}.sh`).join("; ");
  const script = `
    mount --rbind /usr ${root}/usr && mount -t tmpfs none ${root}/dev &&
    mount -t proc proc ${root}/proc && mount --bind ${partitions} ${root}/proc/partitions &&
    for name in bin lib lib64; do [ -e ${root}/$name ] || ln -s usr/$name ${root}/$name; done &&
    chroot ${root} env PATH=/stub:/usr/bin:/bin bash -c 'set -e; ${sources}; echo next'`;
  return { ...runSync(["unshare", "-m", "sh", "-c", script]), improves };
}

describe.skipIf(why !== undefined)("after jump: move_disk", () => {
  test("packages are where builds look for them, and directories are unpacked", async () => {
    const { root, partitions, more } = await machine(
      ...["--external-sources", "--repo", "REPO", "--payload-phases", "two"],
      ...["--add", "MORE", "--add", "MORE=/opt/a'b $c/d"],
    );
    const ran = restore(root, partitions);
    expect(ran.improves).toEqual(["import_payload_rest", "add_files"]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toEndWith("next\n");
    const at = (...path: string[]) => join(root, ...path);
    expect(readdirSync(at("external")).sort()).toEqual(["add", "distfiles", "repo-preseeded"]);
    expect(readdirSync(at("external/repo-preseeded")).sort())
      .toEqual(["alpha-1.0_1.tar.bz2", "omega-6.0_0.tar.bz2"]);
    expect(readFileSync(at("external/repo-preseeded/omega-6.0_0.tar.bz2"), "utf8"))
      .toBe("a package, the first\n");
    expect(readdirSync(at("external/distfiles"))).toContain("delta-5.0.tar.gz");
    for (const place of ["external/add/my files", "opt/a'b $c/d"]) {
      const names = (top: string) => readdirSync(top, { recursive: true, encoding: "utf8" }).sort();
      expect(names(at(place))).toEqual(names(more));
      expect(readFileSync(at(place, "data", LONG_NAME), "utf8")).toBe("long\n");
      expect(readFileSync(at(place, "link"), "utf8")).toBe("42\n");
      expect(statSync(at(place, "go.sh")).mode & 0o7777).toBe(0o755);
      expect(statSync(at(place, "data/nothing"))).toMatchObject({ size: 0, uid: 0, gid: 0 });
      expect(statSync(at(place, "data/answers")).mode & 0o7777).toBe(0o644);
      expect(statSync(at(place, "data/empty")).isDirectory()).toBe(true);
    }
  });

  test("packages come with one phase too, and own distfiles to the others", async () => {
    const { root, partitions } = await machine(
      ...["--external-sources", "--repo", "REPO", "--payload-phases", "one"],
      ...["--add", "MORE=/external/distfiles"],
    );
    const ran = restore(root, partitions);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(readdirSync(join(root, "external/repo-preseeded"))).toHaveLength(2);
    expect(existsSync(join(root, "external/distfiles/data/answers"))).toBe(true);
    expect(existsSync(join(root, "external/distfiles/delta-5.0.tar.gz"))).toBe(false);
  });

  test("the run ends where a tar is not whole", async () => {
    const { root, partitions, dir } = await machine("--add", "MORE");
    const payload = join(dir, "target/payload.img");
    const bytes = readFileSync(payload);
    // The first header of the tar.
    bytes[bytes.indexOf("ustar") + 5] = 0x41;
    writeFileSync(payload, bytes);
    const ran = restore(root, partitions);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("tar: ");
    expect(ran.stdout).not.toContain("next");
  });
});
