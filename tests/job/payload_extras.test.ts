// SPDX-License-Identifier: MIT
/** Prebuilt packages and directories of the user in the payload of a kernel bootstrap. */
import { afterEach, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { buildMedia, type BuildRequest, planBuild } from "../../src/job/build.ts";
import { reproduceBuild } from "../../src/job/reproduce.ts";
import { parseAdded } from "../../src/plan/added.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import { readRecord } from "../../src/record/read.ts";
import { dependenciesOf } from "../../src/record/statement.ts";
import { stepsOf } from "../../src/record/steps.ts";
import { GIB } from "../../src/format/segment.ts";
import { rejection } from "../fetch/harness.ts";
import { sha256 } from "../fetch/servers.ts";
import { treeWithTar, writeExtras } from "../support/extras.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { run, seedstrap, testWith } from "../support/run.ts";
import { buildOptions, type MiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** A build with packages, and with what is to be added. */
function scene(changes: Partial<BuildOptions> = {}, texts?: readonly string[], mini?: MiniTree) {
  const dir = temp.make();
  const places = writeExtras(dir, mini);
  const added = (texts ?? [places.more]).map((text) =>
    parseAdded(text.replace("MORE", places.more))
  );
  const target = join(dir, "target");
  const request: BuildRequest = {
    tree: places.tree,
    options: buildOptions({
      mode: "bare-metal",
      targetSizeMib: 0,
      externalSources: true,
      mirrors: [{ kind: "directory", path: places.mirror }],
      hasRepo: true,
      ...(added.length > 0 && { addedPaths: added.map(({ path }) => path) }),
      ...changes,
    }),
    store: join(dir, "store"),
    repo: places.repo,
    added,
    target,
    force: false,
    jobs: 2,
  };
  return { dir, ...places, target, request };
}

const TAR = "zz-add-1-my_files.tar";

test("packages and directories of the user are in the payload, and no disk has a file system", async () => {
  const { dir, more, target, request } = scene();
  const record = await buildMedia(request);
  expect(record.images.map(({ name }) => name)).toEqual(["init.img", "payload.img"]);
  expect(readdirSync(target)).not.toContain("external.img");
  expect(record.config).toContain("DISK=sda\n");
  expect(record.config).toContain("PAYLOAD_REQUIRED=True\n");
  const [, payload] = record.images;
  const others = payload!.files.filter(({ origin }) => origin === "repo" || origin === "added");
  expect(others.map(({ path, origin }) => [path, origin])).toEqual([
    ["alpha-1.0_1.tar.bz2", "repo"],
    ["omega-6.0_0.tar.bz2", "repo"],
    [TAR, "added"],
  ]);
  // The inputs, by their digests, and that of the tar as it can be read from the image.
  const inputs = new Map(
    dependenciesOf(record).map(({ name, digest }) => [name, digest["sha256"]]),
  );
  expect(inputs.get("repo:omega-6.0_0.tar.bz2")).toBe(sha256("a package, the first\n"));
  const image = join(target, "payload.img");
  const listed = await seedstrap(["image", "ls", image]);
  expect(listed.stdout).toContain(TAR);
  const out = join(dir, "out");
  expect((await seedstrap(["image", "extract", image, "-o", out])).code).toBe(0);
  expect(inputs.get(`added:${TAR}`)).toBe(sha256(readFileSync(join(out, TAR))));
  expect(readFileSync(join(out, "alpha-1.0_1.tar.bz2"), "utf8")).toBe("a package, the second\n");
  expect(readFileSync(join(out, "SHA256SUMS"), "utf8")).not.toContain("alpha-1.0_1");
  // Lists and scripts of the machine, in the order in which it runs them.
  const cat = async (path: string) =>
    (await seedstrap(["image", "cat", join(target, "init.img"), path])).stdout;
  const list = (name: string) => cat(`steps/payload-import-1.0/${name}.list`);
  expect(await list("repo")).toBe("alpha-1.0_1.tar.bz2\nomega-6.0_0.tar.bz2\n");
  expect(await list("added")).toBe(`${TAR}\n`);
  expect(await cat("steps/improve/add_files.list")).toBe(`${TAR}\n/external/add/my files\n`);
  expect(await cat("steps/manifest")).toContain(
    "jump: move_disk ( KERNEL_BOOTSTRAP == True )\nimprove: finalize_fhs\n" +
      "improve: import_payload_rest ( PAYLOAD_REQUIRED == True )\n" +
      "improve: add_files ( PAYLOAD_REQUIRED == True )\nbuild: delta-5.0\n",
  );

  for (const name of ["init.img", "payload.img"]) {
    const verified = await seedstrap(
      ["image", "verify", join(target, name), "--tree", request.tree],
    );
    expect({ name, code: verified.code, stderr: verified.stderr }).toEqual(
      { name, code: 0, stderr: "" },
    );
  }
  const { tree, store, repo, options: { mirrors } } = request;
  const again = { record: target, tree, mirrors, store, keep: false, force: false, jobs: 2 };
  const given = { repo, added: request.added! };
  expect((await reproduceBuild({ ...again, ...given })).same).toBe(true);
  expect((await rejection(reproduceBuild({ ...again, repo }))).message).toBe(
    "Cannot reproduce without --add DIR=/external/add/my files",
  );
  writeFileSync(join(more, "data/answers"), "43\n");
  const changed = await reproduceBuild({ ...again, ...given });
  expect(changed.same).toBe(false);
  expect(readRecord(target).options.addedPaths).toEqual(["external/add/my files"]);

  const other = { ...request, target: join(dir, "other") };
  await buildMedia(other);
  const diff = await seedstrap(["image", "diff", image, join(other.target, "payload.img")]);
  expect(diff.stdout).toContain(TAR);
  expect(diff.code).toBe(11);
});

testWith("tar")("the tar in a payload is what tar unpacks, the same each time", async () => {
  const { dir, more, target, request } = scene({ hasRepo: false, externalSources: false });
  const { repo: _, ...plain } = request;
  await buildMedia(plain);
  const out = join(dir, "out");
  const image = join(target, "payload.img");
  expect((await seedstrap(["image", "extract", image, "-o", out])).code).toBe(0);
  const unpacked = join(dir, "unpacked");
  mkdirSync(unpacked);
  const ran = await run(["tar", "-C", unpacked, "-xpf", join(out, TAR)]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  const names = (place: string) => readdirSync(place, { recursive: true, encoding: "utf8" }).sort();
  expect(names(unpacked)).toEqual(names(more));
  for (const path of ["go.sh", "data/answers", "data/nothing", "link"]) {
    expect(readFileSync(join(unpacked, path), "utf8")).toBe(readFileSync(join(more, path), "utf8"));
  }
  const before = readFileSync(image);
  await buildMedia({ ...plain, target: join(dir, "again") });
  expect(readFileSync(join(dir, "again", "payload.img")).equals(before)).toBe(true);
});

test("a package belongs to the step that has built it, wherever the payload is", () => {
  const steps = new Map([["alpha-1.0.tar.gz", ["alpha-1.0"]]]);
  for (const [prefix, kind] of [["", "payload"], ["payload/", "boot"]] as const) {
    expect(stepsOf(`${prefix}omega-6.0_0.tar.bz2`, kind, steps)).toEqual(["omega-6.0"]);
    expect(stepsOf(`${prefix}alpha-1.0.tar.gz`, kind, steps)).toEqual(["alpha-1.0"]);
    expect(stepsOf(`${prefix}${TAR}`, kind, steps)).toEqual([]);
  }
  expect(stepsOf("external/distfiles/omega-6.0_0.tar.bz2", "boot", steps)).toEqual([]);
});

test("a strange file in the payload, or named like a package elsewhere, is not of a checkout", async () => {
  for (
    const [name, payload, image] of [
      ["stranger-1.0.tar.gz", "always", "payload.img"],
      ["stranger-1.0_0.tar.bz2", "never", "init.img"],
    ] as const
  ) {
    const { tree, target, request } = scene({ payload, hasRepo: false }, []);
    const { repo: _, ...plain } = request;
    writeFiles(tree, { [`distfiles/${name}`]: "of the user\n" });
    await buildMedia(plain);
    rmSync(join(tree, "distfiles", name));
    const words = ["image", "verify", join(target, image), "--tree", tree];
    const { code, stderr } = await seedstrap(words);
    expect([code, stderr]).toEqual([5, expect.stringContaining(`${name} is not of this checkout`)]);
  }
});

test("a bundle takes images that have packages and directories of the user", async () => {
  const { dir, tree, mirror, target, request } = scene();
  await buildMedia(request);
  const bundle = join(dir, "lb.tar");
  const offline = ["--offline", "--store", request.store, "-m", mirror];
  const made = await seedstrap(
    ["bundle", "create", "--tree", tree, ...offline, "--images", target, "-o", bundle],
  );
  expect(made.code).toBe(0);
  expect((await seedstrap(["bundle", "verify", bundle])).code).toBe(0);
});

test("the plan says what the payload brings and where it comes to, and counts it", async () => {
  const { request } = scene({ mode: "qemu", targetSizeMib: 4096 });
  const { plan } = await planBuild(request);
  const sizes = new Map(plan.extras!.map(({ name, size }) => [name, size]));
  const system = plan.limits.find(({ id }) => id === "system-disk")!;
  const largest = new Map(system.contributors.map(({ name, amount }) => [name, amount]));
  expect(largest.get(TAR)).toBe(2 * sizes.get(TAR)!);
  const { plan: without } = await planBuild({
    ...request,
    options: { ...request.options, hasRepo: false },
    repo: undefined,
  });
  const packages = [...sizes].filter(([name]) => name !== TAR).reduce(
    (sum, [, size]) => sum + size,
    0,
  );
  const systemWithout = without.limits.find(({ id }) => id === "system-disk")!;
  expect(system.used - systemWithout.used).toBe(packages);
  expect(plan.images).toEqual(["init.img", "payload.img"]);

  const { tree, store, repo, added, options } = request;
  const { mirrors: [mirror] } = options;
  const from = mirror?.kind === "directory" ? ["-m", mirror.path] : [];
  const words = ["plan", "-q", "--external-sources", "--offline", "--tree", tree, "--store", store];
  const more = ["--repo", repo!, "--add", added![0]!.dir, ...from];
  const shown = await seedstrap([...words, ...more]);
  expect(shown.stdout).toContain(
    "with 2 prebuilt packages, 43 B, that come to /external/repo-preseeded after jump: move_disk",
  );
  expect(shown.stdout).toContain(
    `with ${TAR}, 7.50 KiB, unpacked in /external/add/my files after jump: move_disk`,
  );
  const json = JSON.parse((await seedstrap([...words, ...more, "--json"])).stdout);
  expect(json.payload.extras).toEqual([
    {
      name: "alpha-1.0_1.tar.bz2",
      origin: "repo",
      size: 22,
      to: "/external/repo-preseeded",
    },
    {
      name: "omega-6.0_0.tar.bz2",
      origin: "repo",
      size: 21,
      to: "/external/repo-preseeded",
    },
    { name: TAR, origin: "added", size: 7680, to: "/external/add/my files" },
  ]);
});

test("packages without a payload, or with --payload never, are on a disk as before", async () => {
  for (const changes of [{ externalSources: false }, { payload: "never" }] as const) {
    const { plan } = await planBuild(scene(changes, []).request);
    expect(plan.images).toEqual(["init.img", "external.img"]);
    expect(plan.config).toContain("DISK=sdb1\n");
    expect(plan.extras).toBeUndefined();
  }
  const { plan } = await planBuild(
    scene({ externalSources: false, payload: "always" }, []).request,
  );
  expect(plan.images).toEqual(["init.img", "payload.img"]);
  // With one phase the distfiles come at once; a ramdisk never has packages.
  const one = await planBuild(scene({ payloadPhases: "one" }, []).request);
  expect(one.plan.restore?.phases).toBe(1);
  expect(one.plan.overlay.files).toContain("steps/payload-import-1.0/repo.list");
  expect(one.plan.overlay.files).not.toContain("steps/payload-import-1.0/rest.list");
  expect(one.plan.overlay.manifestLines.map(({ text }) => text)).toContain(
    "improve: import_payload_rest ( PAYLOAD_REQUIRED == True )",
  );
});

test("a payload takes no package that it could not restore", async () => {
  const { dir, repo, request } = scene({}, []);
  const refused = async (name: string, why: string) => {
    renameSync(join(repo, "omega-6.0_0.tar.bz2"), join(dir, "kept"));
    mkdirSync(join(repo, "sub"), { recursive: true });
    writeFileSync(join(repo, name), "x");
    const failure = await rejection(buildMedia(request));
    expect(failure.message).toBe(
      `Cannot put the package ${JSON.stringify(name)} into a payload: ${why}`,
    );
    expect(failure.hint).toContain("--payload never");
    renameSync(join(repo, name), join(dir, "gone"));
    renameSync(join(dir, "kept"), join(repo, "omega-6.0_0.tar.bz2"));
  };
  await refused("sub/omega-6.0_0.tar.bz2", "it is in a directory");
  await refused("alpha-1.0.tar.gz", "a distfile has that name");
  await refused("zz-add-1-x.tar", "seedstrap uses such names for --add");
  await refused("a\nb_0.tar", "its name has a control character or a backslash");
  await buildMedia(request);
});

test("what is added replaces nothing that the machine has or restores, and no link leads out", async () => {
  for (
    const [text, message] of [
      ["MORE=/steps/manifest", "the bootstrap has /steps/manifest already"],
      ["MORE=/external/added.tars", "the bootstrap has /external/added.tars already"],
      ["MORE=/external/distfiles/delta-5.0.tar.gz", "has /external/distfiles/delta-5.0.tar.gz"],
      ["MORE=/external/repo-preseeded/omega-6.0_0.tar.bz2/x", "has /external/repo-preseeded/omega"],
    ] as const
  ) {
    const { request } = scene({}, [text]);
    expect((await rejection(buildMedia(request))).message).toContain(message);
  }
  const twice = scene({}, ["MORE=/opt", "MORE=/opt"]);
  expect((await rejection(buildMedia(twice.request))).message).toContain("has /opt/");
  const { more, request } = scene();
  symlinkSync("/etc/hostname", join(more, "out"));
  expect((await rejection(buildMedia(request))).message).toContain(
    "Cannot follow a link out of the directory of --add",
  );
});

test("a place of --add may end with a slash, and is not the root", () => {
  expect(parseAdded("/site=/opt/site/")).toEqual({ dir: "/site", path: "opt/site" });
  expect(() => parseAdded("/site=/")).toThrow("a directory is added below the root");
});

test("a directory that has the target in it is not added", async () => {
  const { more, request } = scene();
  const inside = { ...request, target: join(more, "media") };
  expect((await rejection(buildMedia(inside))).message).toContain("for --add: the target is in it");
  expect(existsSync(join(more, "media"))).toBe(false);
});

test("own distfiles come by --add to where the distfiles are", async () => {
  const { more, request } = scene({ hasRepo: false }, ["MORE=/external/distfiles"]);
  const { repo: _, ...plain } = request;
  const { plan } = await planBuild(plain);
  expect(plan.extras?.map(({ to }) => to)).toEqual(["/external/distfiles"]);
  writeFileSync(join(more, "delta-5.0.tar.gz"), "another");
  expect((await rejection(planBuild(plain))).message).toContain(
    "the bootstrap has /external/distfiles/delta-5.0.tar.gz already",
  );
});

test("a checkout that could not restore it is refused before anything is written", async () => {
  const without = treeWithTar();
  const manifest = String(without.files["steps/manifest"]);
  const broken: readonly (readonly [string, string])[] = [
    ["build: tar-1.0\n", "the manifest builds no tar before improve: finalize_fhs"],
    [
      "improve: finalize_fhs\n",
      'the manifest has no "improve: that mounts proc, after jump: move_disk"',
    ],
    ["jump: move_disk ( KERNEL_BOOTSTRAP == True )\n", 'the manifest has no "jump: move_disk"'],
    [
      "jump: fiwix ( BUILD_FIWIX == True ) # the first kernel\n",
      'the manifest has no "jump: fiwix"',
    ],
  ];
  const late = `${manifest.replace("build: tar-1.0\n", "")}build: tar-1.0\n`;
  for (
    const [text, why] of [
      ...broken.map(([line, why]) => {
        expect(manifest).toContain(line);
        return [manifest.replace(line, ""), why] as const;
      }),
      [late, "the manifest builds no tar before improve: finalize_fhs"] as const,
    ]
  ) {
    const mini = treeWithTar({ "steps/manifest": text });
    const { request } = scene({ hasRepo: false }, undefined, mini);
    const { repo: _, ...plain } = request;
    const failure = await rejection(planBuild(plain));
    expect([failure.kind, failure.message]).toEqual([
      "tree",
      `Cannot have what --add brings restored on the booted machine: ${why}`,
    ]);
  }
  const own = treeWithTar({
    "steps/manifest": manifest.replace("build: tar-1.0", "improve: import_payload"),
    "steps/improve/import_payload.sh": "payload-import\n",
  });
  const { request } = scene({}, [], own);
  const failure = await rejection(planBuild(request));
  expect(failure.message).toContain("packages restored");
  expect(failure.message).toContain("the checkout has an importer of its own");
});

test("a directory whose tar the machine could not open is refused", async () => {
  const { more, request } = scene({ hasRepo: false });
  const { repo: _, ...plain } = request;
  await run(["truncate", "-s", String(2 * GIB), join(more, "large")]);
  const failure = await rejection(planBuild(plain));
  expect([failure.kind, failure.message]).toEqual([
    "limit",
    expect.stringContaining(`Cannot add ${more}: a tar of it has 2147`),
  ]);
});
