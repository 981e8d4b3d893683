// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { buildMedia, type BuildRequest } from "../../src/job/build.ts";
import { reproduceBuild } from "../../src/job/reproduce.ts";
import { shellQuote } from "../../src/launch/process.ts";
import { parseAdded } from "../../src/plan/added.ts";
import { readRecord } from "../../src/record/read.ts";
import { statementText } from "../../src/record/statement.ts";
import { rejection } from "../fetch/harness.ts";
import { sha256 } from "../fetch/servers.ts";
import { describeDir, TempDirs } from "../support/files.ts";
import { MAIN, type Ran, run, seedstrap, start } from "../support/run.ts";
import { buildOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";

function scene(mode: "chroot" | "bwrap" = "chroot") {
  const dir = temp.make();
  const mini = miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "the seed" } });
  const { tree, mirror } = writeMiniTree(dir, mini);
  chmodSync(join(tree, "seed/stage0-posix", SEED), 0o700);
  const target = join(dir, "target");
  const request: BuildRequest = {
    tree,
    options: buildOptions({
      mode,
      targetSizeMib: 0,
      externalSources: true,
      mirrors: [{ kind: "directory", path: mirror }],
    }),
    store: join(dir, "store"),
    target,
    force: false,
    jobs: 2,
  };
  return { dir, tree, mirror, target, request, distfiles: mini.distfiles };
}
const isOwn = (name: string) => name === ".seedstrap" || name === "seedstrap.json";

test("a directory has the tree, the seeds, init and every distfile", async () => {
  const { target, request, distfiles } = scene();
  const record = await buildMedia(request);
  const read = (path: string) => readFileSync(join(target, path), "utf8");
  expect(read("init")).toBe("the seed");
  expect(read(SEED)).toBe("the seed");
  expect(read("after.kaem")).toBe("exec after\n");
  expect(read("steps/bootstrap.cfg")).toContain("CHROOT=True\n");
  expect(read("steps/bootstrap.cfg")).toContain("DISK=sda1\nKERNEL_BOOTSTRAP=False\n");
  expect(readdirSync(join(target, "external/distfiles")).sort()).toEqual(
    Object.keys(distfiles).sort(),
  );
  for (const [name, body] of Object.entries(distfiles)) {
    expect(sha256(readFileSync(join(target, "external/distfiles", name)))).toBe(sha256(body));
  }
  for (const { path, size, sha256: digest } of record.files) {
    const bytes = readFileSync(join(target, path));
    expect({ path, size: bytes.length, digest: sha256(bytes) }).toEqual({ path, size, digest });
  }
  expect(readRecord(target).images).toEqual([]);
});

/** The request of a scene with a directory of the user in it. */
function withAdd(request: BuildRequest, ...texts: string[]): BuildRequest {
  const added = texts.map(parseAdded);
  const options = { ...request.options, addedPaths: added.map(({ path }) => path) };
  return { ...request, options, added };
}

/** Makes a directory with a script, a data file below, an empty directory and a link. */
function aboard(dir: string): string {
  const more = join(dir, "more");
  mkdirSync(join(more, "data", "empty"), { recursive: true });
  writeFileSync(join(more, "go.sh"), "true\n", { mode: 0o700 });
  writeFileSync(join(more, "data", "answers"), "42\n");
  symlinkSync("data/answers", join(more, "link"));
  return more;
}

test("what is added is in the root and in the record, and can be reproduced", async () => {
  const { dir, mirror, target, request } = scene();
  const more = aboard(dir);
  const record = await buildMedia(withAdd(request, more, `${more}=/opt/site`));
  for (const top of ["external/add/more", "opt/site"]) {
    const place = join(target, top);
    expect(readFileSync(join(place, "data/answers"), "utf8")).toBe("42\n");
    expect(readFileSync(join(place, "link"), "utf8")).toBe("42\n");
    expect(lstatSync(join(place, "link")).isFile()).toBe(true);
    expect(readdirSync(join(place, "data/empty"))).toEqual([]);
    expect(statSync(join(place, "go.sh")).mode & 0o7777).toBe(0o755);
    expect(statSync(join(place, "data/answers")).mode & 0o7777).toBe(0o644);
  }
  const added = record.files.filter(({ origin }) => origin === "added");
  expect(added.map(({ path, sha256: digest }) => [path.replace("./", ""), digest])).toContainEqual(
    ["opt/site/data/answers", sha256("42\n")],
  );
  expect(added.length).toBe(6);
  expect(readRecord(target).options.addedPaths).toEqual(["external/add/more", "opt/site"]);
  expect(statementText(record)).toContain("added:");

  const { tree, store } = request;
  const mirrors = [{ kind: "directory", path: mirror }] as const;
  const again = { record: target, tree, mirrors, store, keep: false, force: false, jobs: 2 };
  const places = [more, `${more}=/opt/site`].map(parseAdded);
  const absent = await rejection(reproduceBuild({ ...again, added: places.slice(0, 1) }));
  expect(absent.message).toBe("Cannot reproduce without --add DIR=/opt/site");
  const useless = await rejection(
    reproduceBuild({ ...again, added: [...places, parseAdded(`${more}=/opt/b`)] }),
  );
  expect(useless.message).toContain("Cannot reproduce with --add DIR=/opt/b");
  expect((await reproduceBuild({ ...again, added: places })).same).toBe(true);
  writeFileSync(join(more, "data", "answers"), "43\n");
  expect((await reproduceBuild({ ...again, added: places })).same).toBe(false);
});

test("what is added replaces nothing, and leads nowhere else", async () => {
  const { dir, target, request } = scene();
  const more = aboard(dir);
  for (
    const [text, message] of [
      [`${more}=/init`, `Cannot add ${more}: the bootstrap has /init already`],
      [
        `${more}=/steps/manifest/x`,
        `Cannot add ${more}: the bootstrap has /steps/manifest already`,
      ],
      [`${more}=/steps/bootstrap.cfg`, "the bootstrap has /steps/bootstrap.cfg already"],
      [join(dir, "none"), `Cannot use ${join(dir, "none")} for --add: there is no such directory`],
      [join(more, "go.sh"), "for --add: it is not a directory"],
    ] as const
  ) {
    const failure = await rejection(buildMedia(withAdd(request, text)));
    expect([text, failure.message]).toEqual([text, expect.stringContaining(message)]);
  }
  const twice = withAdd(request, `${more}=/opt`, `${more}=/opt`);
  expect((await rejection(buildMedia(twice))).message).toContain("has /opt/");
  symlinkSync("/etc/hostname", join(more, "out"));
  const out = await rejection(buildMedia(withAdd(request, more)));
  expect(out.message).toContain("Cannot follow a link out of the directory of --add");
  expect(existsSync(target)).toBe(false);
});

test("own distfiles come by --add, and the plan says when the bootstrap deletes them", async () => {
  const { dir, tree, target, request } = scene();
  const own = join(dir, "own");
  mkdirSync(own);
  writeFileSync(join(own, "mine-1.0.tar.gz"), "mine");
  const added = withAdd(request, `${own}=/external/distfiles`);
  const record = await buildMedia(added);
  expect(readFileSync(join(target, "external/distfiles/mine-1.0.tar.gz"), "utf8")).toBe("mine");
  expect(existsSync(join(target, "external/distfiles/delta-5.0.tar.gz"))).toBe(true);
  expect(record.warnings).toEqual([]);
  const manifest = join(tree, "steps/manifest");
  writeFileSync(manifest, `${readFileSync(manifest, "utf8")}improve: clean_sources\n`);
  writeFileSync(join(tree, "steps/improve/clean_sources.sh"), "rm\n");
  expect((await buildMedia(added)).warnings).toEqual([
    "improve: clean_sources will delete what no step needs: mine-1.0.tar.gz",
  ]);
  mkdirSync(join(own, "sub"));
  expect((await rejection(buildMedia(added))).message).toContain(
    "improve: clean_sources fails at the directory /external/distfiles/sub",
  );
});

test("a place of --add is a path in the machine", () => {
  expect(parseAdded("/srv/a=b")).toEqual({ dir: "/srv/a=b", path: "external/add/a=b" });
  expect(parseAdded("/srv/a=/b/c")).toEqual({ dir: "/srv/a", path: "b/c" });
  for (const text of ["", "/", "=/a", "a=/", "a=/../b", "a=/b//c", "a=/./b", "a=/b\n", "a=/proc"]) {
    expect(() => parseAdded(text)).toThrow("for --add: ");
  }
});

test("a later pass, and a kernel bootstrap without a payload, take nothing by --add", async () => {
  const { dir, request } = scene();
  const more = aboard(dir);
  const { options } = request;
  for (
    const [changes, message] of [
      [
        { mode: "bare-metal", payload: "never" },
        "Cannot use --add with --payload never in a kernel bootstrap",
      ],
      [{ mode: "bwrap", internalCi: "pass2" }, "Cannot use --add with --internal-ci pass2"],
    ] as const
  ) {
    const other = { ...request, options: { ...options, ...changes } };
    expect((await rejection(buildMedia(withAdd(other, more)))).message).toBe(message);
  }
});

test("modes in a directory are 755 and 644 under any umask, and no file is linked", async () => {
  const { tree, target, request } = scene();
  const umask = process.umask(0o077);
  try {
    await buildMedia(request);
  } finally {
    process.umask(umask);
  }
  const mode = (path: string) => (statSync(join(target, path)).mode & 0o7777).toString(8);
  expect(mode(".")).toBe("755");
  expect(mode(".seedstrap")).toBe("700");
  expect(mode("init")).toBe("755");
  expect(mode("steps")).toBe("755");
  expect(mode("steps/manifest")).toBe("644");
  const alpha = "external/distfiles/alpha-1.0.tar.gz";
  expect(lstatSync(join(target, alpha)).nlink).toBe(1);
  expect(statSync(join(target, "steps/manifest")).ino).not.toBe(
    statSync(join(tree, "steps/manifest")).ino,
  );
});

test("a directory can be built again, and the checkout stays unchanged", async () => {
  const { tree, mirror, target, request } = scene();
  const before = [describeDir(tree), describeDir(mirror)];
  await buildMedia(request);
  const first = readdirSync(target).sort();
  writeFileSync(join(target, "steps/helpers.sh"), "changed by a guest\n");
  await buildMedia(request);
  expect(readFileSync(join(target, "steps/helpers.sh"), "utf8")).toBe("true\n");
  expect(readdirSync(target).sort()).toEqual(first);
  expect([describeDir(tree), describeDir(mirror)]).toEqual(before);
});

test("a directory in which a bootstrap has run is not replaced", async () => {
  const { target, request } = scene();
  await buildMedia(request);
  mkdirSync(join(target, "usr"));
  await expect(buildMedia(request)).rejects.toThrow("seedstrap did not make usr in it");
  expect(existsSync(join(target, "steps/manifest"))).toBe(true);
});

test("a target changes from a directory to images and back, without leftovers", async () => {
  const { target, request } = scene();
  await buildMedia(request);
  const images = { ...request, options: { ...request.options, mode: "bare-metal" as const } };
  await buildMedia(images);
  expect(readdirSync(target).filter((name) => !isOwn(name)).sort()).toEqual([
    "init.img",
    "payload.img",
    "sbom.cdx.json",
  ]);
  await buildMedia(request);
  expect(existsSync(join(target, "init.img"))).toBe(false);
  expect(existsSync(join(target, "init"))).toBe(true);
});

test("a wrong distfile is not used in a directory", async () => {
  const { tree, target, request, distfiles } = scene();
  mkdirSync(join(tree, "distfiles"));
  writeFileSync(join(tree, "distfiles/beta-2.0.tar.gz"), "wrong");
  await buildMedia(request);
  expect(sha256(readFileSync(join(target, "external/distfiles/beta-2.0.tar.gz")))).toBe(
    sha256(distfiles["beta-2.0.tar.gz"]!),
  );
});

/** Programs that are started in place of chroot, bwrap and sudo; each says what it was given. */
function standIns(dir: string) {
  const bin = join(dir, "bin");
  mkdirSync(bin);
  const script = `#!/bin/sh\necho "$@"\necho "alpha-1.0: build successful"\n`;
  for (const name of ["chroot", "bwrap"]) writeFileSync(join(bin, name), script, { mode: 0o755 });
  // Other users run chroot through sudo.
  writeFileSync(join(bin, "sudo"), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
  const own = shellQuote([process.execPath, MAIN]);
  writeFileSync(join(bin, "seedstrap"), `#!/bin/sh\nexec ${own} "$@"\n`, { mode: 0o755 });
  return { chroot: join(bin, "chroot"), env: { PATH: `${bin}:${process.env["PATH"]}` } };
}

/** Runs what a hint says, as it would be pasted. */
async function runHint({ stderr }: Ran, env: Readonly<Record<string, string>>): Promise<Ran> {
  const [, command] = /hint: [^:]*: (seedstrap .*)/.exec(stderr) ?? [];
  return await run(["sh", "-c", command!], { env });
}

test("run starts what was built, and reports a failure", async () => {
  const { dir, target, request } = scene();
  await buildMedia(request);
  const { chroot: standIn, env } = standIns(dir);
  const good = await seedstrap(["run", target, "--chroot"], { env });
  expect({ ...good, stderr: good.stderr.replaceAll(/^\d{4}-\S+Z /gm, "TIME ") }).toEqual({
    code: 0,
    stdout: `${target} /${SEED}\nalpha-1.0: build successful\n`,
    stderr: `starting by chroot; the log is ${target}/.seedstrap/runs/1.log; Ctrl-C ends it\n` +
      "TIME the steps of the manifest begin\nTIME alpha-1.0: built\n" +
      `done: every step was built; the log is ${target}/.seedstrap/runs/1.log\n`,
  });
  writeFileSync(standIn, "#!/bin/sh\nexit 3\n");
  const bad = await seedstrap(["run", target, "--chroot"], { env });
  expect(bad.stderr).toContain(
    `The bootstrap failed: exit code 3: `,
  );
  expect(bad.stderr).toContain(`env -i PATH=/bin ${standIn} ${target} /${SEED}`);
  expect(bad.code).toBe(9);
});

test.each(["chroot", "bwrap"] as const)(
  "run starts a %s only where the user says so, and the hint is the command to type",
  async (mode) => {
    const { dir, mirror, target, request } = scene(mode);
    const served = join(dir, "it's a mirror");
    renameSync(mirror, served);
    const options = {
      ...request.options,
      externalSources: false,
      mirrors: [{ kind: "directory" as const, path: served }],
    };
    await buildMedia({ ...request, options, isPortChosen: false });
    const { env } = standIns(dir);
    const command = `seedstrap run ${target} --${mode} --serve '${dir}/it'\\''s a mirror'`;
    const hint = `hint: If you trust it, name it yourself: ${command}\n`;
    for (const args of [[], ["--serve", served]]) {
      const refused = await seedstrap(["run", target, ...args], { env });
      expect(refused.stderr).toContain(
        `Cannot run ${target} without --${mode}: its record names ${mode}, which starts`,
      );
      expect(refused.stderr).toEndWith(hint);
      expect(refused).toMatchObject({ code: 2, stdout: "" });
    }
    const unserved = await seedstrap(["run", target, `--${mode}`], { env });
    expect(unserved.stderr).toContain(`without --serve '${dir}/it'\\''s a mirror': its record`);
    expect(unserved.stderr).toEndWith(hint);
    const other = mode === "chroot" ? "bwrap" : "chroot";
    const wrong = await seedstrap(["run", target, `--${other}`], { env });
    expect(wrong.stderr).toContain(
      `Cannot run ${target} by ${other}: it was built with --${mode}`,
    );
    expect(wrong).toMatchObject({ code: 2, stdout: "" });
    for (const ran of [unserved, wrong]) {
      const started = await runHint(ran, env);
      expect(started.stdout).toContain(`${target} ${mode === "chroot" ? `/${SEED}` : "/"}`);
      expect(started.code).toBe(0);
    }
  },
);

test.each(["chroot", "bwrap"] as const)(
  "build for %s ends with the command that starts it, complete, but not with --json",
  async (mode) => {
    const { dir, tree, mirror, target } = scene(mode);
    const served = join(dir, "it's a mirror");
    renameSync(mirror, served);
    const { env } = standIns(dir);
    const args = ["build", `--${mode}`, "--tree", tree, "-t", target, "-m", "./it's a mirror"];
    args.push("--distfiles", join(dir, "store"));
    const built = await seedstrap(args, { cwd: dir });
    const command = `seedstrap run ${target} --${mode} --serve '${dir}/it'\\''s a mirror'`;
    expect(built.stdout).toEndWith(`\nstart it with: ${command}\n`);
    const started = await run(["sh", "-c", command], { env });
    expect(started.stdout).toContain(`${target} ${mode === "chroot" ? `/${SEED}` : "/"}`);
    expect(started.code).toBe(0);
    rmSync(target, { recursive: true });
    const json = await seedstrap([...args, "--json"], { cwd: dir });
    expect(JSON.parse(json.stdout)).toMatchObject({ schema: 1 });
    expect(json.stdout + json.stderr).not.toContain("start it with");
  },
);

test("an interrupt of a directory says how to begin again, and a build there that it was used", async () => {
  const { dir, target, request } = scene("chroot");
  await buildMedia(request);
  const { chroot: standIn, env } = standIns(dir);
  writeFileSync(standIn, '#!/bin/sh\nmkdir "$1/proc"; touch "$1/proc/begun"; exec sleep 60\n');
  const child = start([process.execPath, MAIN, "run", target, "--chroot"], { env });
  while (!existsSync(join(target, "proc/begun"))) await setTimeout(50);
  child.kill("SIGTERM");
  const said = await new Response(child.stderr).text();
  expect(await child.exited).toBe(130);
  expect(said).toContain(
    `hint: ${target} is as the guest left it, and does not go on from there: remove it, or name ` +
      "another --target, and build again\n",
  );
  const log = join(target, ".seedstrap/runs/1.log");
  const { began } = JSON.parse(readFileSync(log.replace(/log$/, "json"), "utf8"));
  await expect(buildMedia(request)).rejects.toThrow(
    `Cannot build in ${target}: a bootstrap has run there, and proc is in it; the last run began ` +
      `at ${began} and is interrupted; its log is ${log}`,
  );
});

test("a record of images that says chroot starts nothing, and neither does one made whole", async () => {
  const { dir, target, request } = scene();
  const { env } = standIns(dir);
  await buildMedia({
    ...request,
    options: { ...request.options, mode: "qemu", targetSizeMib: 64 },
  });
  const path = join(target, "seedstrap.json");
  const record = readRecord(target);
  const options = { ...record.options, mode: "chroot" as const };
  writeFileSync(path, statementText({ ...record, options }));
  const said = await seedstrap(["run", target, "--chroot"], { env });
  expect(said.stderr).toContain("it has images, and its mode is chroot: that is not what a build");
  expect(said).toMatchObject({ code: 7, stdout: "" });
  writeFileSync(path, statementText({ ...record, options, images: [] }));
  const unsaid = await seedstrap(["run", target], { env });
  expect(unsaid.stderr).toContain(`Cannot run ${target} without --chroot: its record names chroot`);
  expect(unsaid).toMatchObject({ code: 2, stdout: "" });
});
