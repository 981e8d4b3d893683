// SPDX-License-Identifier: MIT
/** The image of a container: how it is built, recorded, read and reproduced. */
import { afterEach, expect, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { memorySource } from "../../src/format/reader.ts";
import { openView } from "../../src/image/view.ts";
import { buildMedia, type BuildRequest, planBuild } from "../../src/job/build.ts";
import { reproduceBuild } from "../../src/job/reproduce.ts";
import { parseAdded } from "../../src/plan/added.ts";
import { containerOptions } from "../../src/plan/container.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import { readRecord } from "../../src/record/read.ts";
import { paxMember, rawTar } from "../archive/support.ts";
import { rejection } from "../fetch/harness.ts";
import { sha256 } from "../fetch/servers.ts";
import { sha256OfFile, TempDirs, writeFiles } from "../support/files.ts";
import { run, seedstrap, start, testWith } from "../support/run.ts";
import { buildOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";
const IMAGE = "container.oci.tar";

function scene() {
  const dir = temp.make();
  const mini = miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "the seed" } });
  const { tree, mirror } = writeMiniTree(dir, mini);
  chmodSync(join(tree, "seed/stage0-posix", SEED), 0o700);
  const target = join(dir, "target");
  const request: BuildRequest = {
    tree,
    options: buildOptions({
      mode: "container",
      targetSizeMib: 0,
      externalSources: true,
      mirrors: [{ kind: "directory", path: mirror }],
    }),
    store: join(dir, "store"),
    target,
    force: false,
    jobs: 2,
  };
  const args = [
    "--container",
    "--external-sources",
    "--tree",
    tree,
    "-m",
    mirror,
    "--store",
    request.store,
  ];
  return { dir, tree, mirror, target, request, args, distfiles: mini.distfiles };
}

/** What is in an image, by path: mode and content, or the target of a link. */
function contentOf(path: string) {
  const view = openView(memorySource(readFileSync(path)));
  expect(view.kind).toBe("container");
  return new Map(
    view.entries().map((entry) => {
      if (!("mode" in entry)) throw new Error(`${entry.path} has no mode`);
      const content = entry.kind === "file"
        ? Buffer.concat([...view.read(entry)].map((part) => part.slice())).toString("latin1")
        : entry.target;
      return [entry.path, { kind: entry.kind, mode: entry.mode, content }] as const;
    }),
  );
}

test("a container has what a directory has, and its record the SHA-256 of the whole", async () => {
  const { dir, target, request, distfiles } = scene();
  const record = await buildMedia(request);
  const path = join(target, IMAGE);
  const [image] = record.images;
  expect(record.images).toHaveLength(1);
  expect(image).toMatchObject({ name: IMAGE, role: "container", sha256: sha256OfFile(path) });
  expect(readRecord(target)).toEqual(record);

  const other = join(dir, "directory");
  const root = await buildMedia({
    ...request,
    target: other,
    options: { ...request.options, mode: "chroot" },
  });
  const found = contentOf(path);
  for (const { path } of root.files) {
    const content = readFileSync(join(other, path), "latin1");
    const mode = path.endsWith("/init") || path.endsWith(SEED) ? 0o755 : 0o644;
    expect(found.get(`/${path.replace(/^\.\//, "")}`)).toEqual({ kind: "file", mode, content });
  }
  expect(found.values().filter(({ kind }) => kind === "file").toArray()).toHaveLength(
    root.files.length,
  );
  for (const [name, body] of Object.entries(distfiles)) {
    const content = Buffer.from(body).toString("latin1");
    expect(found.get(`/external/distfiles/${name}`)?.content).toBe(content);
  }
  expect(found.get("/steps/bootstrap.cfg")?.content).toContain("CHROOT=True\n");
});

test(
  "the same inputs give the same bytes: in the target, in a file, on standard output",
  async () => {
    const { dir, target, args } = scene();
    expect((await seedstrap(["build", ...args, "-t", target])).code).toBe(0);
    const wanted = sha256OfFile(join(target, IMAGE));
    const named = join(dir, "named.oci.tar");
    const to = await seedstrap(["build", ...args, "-t", join(dir, "t2"), "-o", named]);
    expect([to.code, sha256OfFile(named)]).toEqual([0, wanted]);
    expect(to.stdout).toContain(`load it with: podman load -i ${named}\n`);
    const child = start([
      process.execPath,
      join(import.meta.dir, "../../src/cli/main.ts"),
      "build",
      ...args,
      "-t",
      join(dir, "t3"),
      "-o",
      "-",
    ]);
    const [bytes, code] = await Promise.all([new Response(child.stdout).bytes(), child.exited]);
    expect([code, sha256(bytes)]).toEqual([0, wanted]);
    for (const other of ["t2", "t3"]) {
      expect(readdirSync(join(dir, other)).sort()).toEqual([
        ".seedstrap",
        "sbom.cdx.json",
        "seedstrap.json",
      ]);
      expect(sha256OfFile(join(dir, other, "seedstrap.json"))).toBe(
        sha256OfFile(join(target, "seedstrap.json")),
      );
    }
  },
  60_000,
);

test("a container has the network of this machine where it downloads, and no terminal unasked", () => {
  const words = (changes: Partial<BuildOptions>) =>
    containerOptions(buildOptions({ mode: "container", ...changes }));
  const common = [
    "--platform=linux/386",
    "--pull=never",
    "--stop-signal=KILL",
    "--log-driver=none",
  ];
  for (const externalSources of [false, true]) {
    const network = `--network=${externalSources ? "none" : "host"}`;
    expect(words({ externalSources }).toSorted()).toEqual([...common, network].toSorted());
  }
  for (const asks of [{ interactive: true }, { configurator: true }, { createConfig: false }]) {
    expect(words(asks)).toContain("--tty");
  }
});

test("what is in the way of an output stays, and nothing is left beside it", async () => {
  const { dir, args } = scene();
  const there = join(dir, "there");
  writeFileSync(there, "mine");
  const fifo = join(dir, "fifo");
  expect((await run(["mkfifo", fifo])).code).toBe(0);
  for (const place of [there, fifo]) {
    const { code, stderr } = await seedstrap(["build", ...args, "-t", join(dir, "t"), "-o", place]);
    expect([code, stderr]).toEqual([7, expect.stringContaining(`${place} exists`)]);
  }
  const inside = await seedstrap(["build", ...args, "-t", join(dir, "t"), "-o", join(dir, "t/x")]);
  expect([inside.code, inside.stderr]).toEqual([2, expect.stringContaining("is in the target")]);
  const twice = await seedstrap(["build", ...args, "-t", join(dir, "t"), "-o", "a", "-o", "b"]);
  expect(twice.code).toBe(2);
  expect(readFileSync(there, "utf8")).toBe("mine");
  expect(readdirSync(dir).filter((name) => name.startsWith(".") || name === "t")).toEqual([]);
}, 60_000);

test("a file that is another when it is read again is in no image", async () => {
  const { tree, target, dir, request } = scene();
  const path = join(tree, "steps/alpha-1.0/pass1.kaem");
  const text = readFileSync(path, "utf8");
  const output = join(dir, "output");
  for (const outputs of [undefined, new Map([["container", output]] as const)]) {
    writeFileSync(path, text);
    let isHashed = false;
    let times = 0;
    const begin = (what: string) => {
      if (isHashed && what.startsWith("writing")) writeFileSync(path, `${times++}${text.slice(1)}`);
      isHashed = what === "hashing the layer";
    };
    const built = buildMedia(
      { ...request, ...(outputs && { outputs }) },
      { progress: { begin, add() {} } },
    );
    expect((await rejection(built)).message).toContain(path);
    expect([existsSync(join(target, IMAGE)), existsSync(output)]).toEqual([false, false]);
  }
});

test("the image of a container is no disk", async () => {
  const { dir, target, request } = scene();
  await buildMedia(request);
  const words = ["image", "convert", join(target, IMAGE), "--to", "vmdk-flat"];
  const { code, stderr } = await seedstrap([...words, "-o", join(dir, "disk.vmdk")]);
  expect([code, stderr]).toEqual([2, expect.stringContaining("it is the image of a container")]);
});

test("a file of the checkout that would delete another one is refused", async () => {
  const { tree, target, request } = scene();
  writeFiles(tree, { "steps/alpha-1.0/.wh.pass1.sh": "" });
  // Before anything is downloaded.
  const planned = await rejection(planBuild({ ...request, isOffline: true }));
  const error = await rejection(buildMedia(request));
  expect(planned.message).toBe(error.message);
  expect(error.message).toContain('"./steps/alpha-1.0/.wh.pass1.sh" into the image of a container');
  expect(existsSync(join(target, IMAGE))).toBe(false);
});

test("a distfile with a wrong SHA-256 is fetched again, and none gets into the image", async () => {
  const { tree, request, target, distfiles } = scene();
  const [name, body] = Object.entries(distfiles)[0]!;
  const wrong = Uint8Array.from(body);
  wrong[0]! ^= 1;
  writeFiles(tree, { [`distfiles/${name}`]: wrong });
  await buildMedia(request);
  const content = Buffer.from(body).toString("latin1");
  expect(contentOf(join(target, IMAGE)).get(`/external/distfiles/${name}`)?.content).toBe(content);
});

test("packages, directories of the user and an archive get into it, devices do not", async () => {
  const { dir, tree, target, request } = scene();
  writeFiles(dir, { "repo/pkg_0.tar.bz2": "a package", "mine/deep/file": "of mine" });
  writeFiles(tree, { "seed/preseeded.kaem": "exec it\n" });
  const archive = join(dir, "root.tar");
  writeFileSync(
    archive,
    rawTar([
      { name: "bootstrap-seeds/", type: "5", mode: 0o755 },
      { name: "bootstrap-seeds/POSIX/", type: "5", mode: 0o755 },
      { name: "bootstrap-seeds/POSIX/x86/", type: "5", mode: 0o755 },
      { name: SEED, data: "an older seed", mode: 0o755 },
      { name: "bin/", type: "5", mode: 0o711 },
      { name: "bin/su", data: "su", mode: 0o4755 },
      { name: "lib", type: "2", link: "bin" },
      { name: "dev/", type: "5", mode: 0o755 },
      { name: "dev/null", type: "3", major: 1, minor: 3 },
      paxMember({ path: "bin/ü" }),
      { name: "x", data: "umlaut" },
    ]),
  );
  const notices: string[] = [];
  const added = [parseAdded(join(dir, "mine"))];
  const options = {
    ...request.options,
    hasRepo: true,
    hasPreseed: true,
    addedPaths: added.map(({ path }) => path),
  };
  const given = { repo: join(dir, "repo"), preseed: archive, added };
  await buildMedia({ ...request, ...given, options }, { onNotice: (text) => notices.push(text) });
  const found = contentOf(join(target, IMAGE));
  expect(found.get("/external/repo-preseeded/pkg_0.tar.bz2")?.content).toBe("a package");
  expect(found.get("/external/add/mine/deep/file")?.content).toBe("of mine");
  expect(found.get("/bin")).toMatchObject({ kind: "directory", mode: 0o711 });
  expect(found.get("/bin/su")).toEqual({ kind: "file", mode: 0o4755, content: "su" });
  expect(found.get("/bin/ü")?.content).toBe("umlaut");
  expect(found.get("/lib")).toMatchObject({ kind: "symlink", content: "bin" });
  expect([found.has("/dev"), found.has("/dev/null")]).toEqual([true, false]);
  expect(notices.filter((text) => text.includes("dev/null"))).toHaveLength(1);
  const again = {
    record: target,
    tree,
    mirrors: request.options.mirrors,
    store: request.store,
    keep: false,
    force: false,
    jobs: 2,
  };
  expect(await reproduceBuild({ ...again, ...given })).toMatchObject({ same: true, compared: 1 });
});

test("reproduce finds a container the same, and what differs otherwise", async () => {
  const { tree, target, request, mirror } = scene();
  await buildMedia(request);
  const again = {
    record: target,
    tree,
    mirrors: [{ kind: "directory", path: mirror }] as const,
    store: request.store,
    keep: false,
    force: false,
    jobs: 2,
  };
  expect(await reproduceBuild(again)).toMatchObject({ same: true, compared: 1 });
  appendFileSync(join(tree, "steps/helpers.sh"), "# changed\n");
  expect(await reproduceBuild(again)).toMatchObject({ same: false, subjects: [{ name: IMAGE }] });
});

test("image verify finds a changed byte, with and without the record", async () => {
  const { dir, target, request, tree } = scene();
  await buildMedia(request);
  const path = join(target, IMAGE);
  const whole = await seedstrap(["image", "verify", path, "--tree", tree]);
  expect([whole.code, whole.stderr]).toEqual([0, ""]);
  expect(whole.stdout).toContain("every file and the image are as built");
  const bytes = readFileSync(path);
  bytes[bytes.indexOf("exec after")]! ^= 1;
  const copy = join(dir, "copy.oci.tar");
  for (const place of [path, copy]) {
    writeFileSync(place, bytes);
    const { code, stderr } = await seedstrap(["image", "verify", place]);
    expect([code, stderr]).toEqual([5, expect.stringContaining("the SHA-256 of its layer is ")]);
  }
  const written = await seedstrap(["write", copy, "--file", copy, "--yes", copy]);
  expect([written.code, written.stderr]).toEqual([
    2,
    expect.stringContaining("the image of a container"),
  ]);
  const harvested = await seedstrap(["harvest", target, "-o", join(dir, "h")]);
  expect([harvested.code, harvested.stderr]).toEqual([2, expect.stringContaining("podman cp")]);
}, 60_000);

testWith("tar")("bundle create --images takes a container, and verifies it", async () => {
  const { dir, target, request, tree, mirror } = scene();
  await buildMedia(request);
  const bundle = join(dir, "b.tar");
  const words = ["bundle", "create", "--tree", tree, "-m", mirror, "--store", request.store];
  const made = await seedstrap([...words, "--images", target, "-o", bundle]);
  expect([made.code, made.stderr]).toEqual([0, ""]);
  const member = `seedstrap-bundle/images/${IMAGE}`;
  expect((await run(["tar", "xf", bundle, "-C", dir, member])).code).toBe(0);
  expect(sha256OfFile(join(dir, member))).toBe(sha256OfFile(join(target, IMAGE)));
}, 60_000);

test(
  "a kernel, a disk and a payload are refused, and so is a run unasked",
  async () => {
    const { dir, args, target } = scene();
    for (
      const [words, why] of [
        [["--internal-ci", "pass2", "-o", "x"], "--internal-ci pass2 makes no image"],
        [["--internal-ci", "pass2", "--bmap"], "--internal-ci pass2 makes none"],
        [["--kernel", "/vmlinuz"], "running kernel"],
        [["--disk", "sdb"], "--disk with --container"],
        [["--payload", "always"], "--payload always with --container"],
        [["--output", "boot=image"], "it names no file"],
        [["--output", "container=image"], "It takes FILE"],
        [["--bwrap"], "--bwrap and --container together"],
      ] as const
    ) {
      const { code, stderr } = await seedstrap(["build", ...args, "-t", target, ...words]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(why)]);
    }
    expect((await seedstrap(["build", ...args, "-t", target])).code).toBe(0);
    const unasked = await seedstrap(["run", target], { cwd: dir });
    expect([unasked.code, unasked.stderr]).toEqual([
      2,
      expect.stringContaining("without --container"),
    ]);
    const none = await seedstrap(["run", target, "--container"], { cwd: dir, env: { PATH: dir } });
    expect([none.code, none.stderr]).toEqual([
      9,
      expect.stringContaining("Cannot find podman or docker"),
    ]);
  },
  60_000,
);

test("a later pass is planned, and refused where the first has not run", async () => {
  const { dir, args, target } = scene();
  const words = [...args, "-t", target, "--internal-ci"];
  const planned = await seedstrap(["plan", ...words, "pass2"]);
  expect(planned.code).toBe(0);
  expect(planned.stdout).toContain("distfiles, ");
  expect(planned.stdout).toContain("put again into what the pass before has left");
  expect(planned.stdout).toContain("--entrypoint=/init --env=PATH=/usr/bin IMAGE");
  expect(JSON.parse((await seedstrap(["plan", ...words, "pass2", "--json"])).stdout).images)
    .toEqual([]);
  const none = await seedstrap(["build", ...words, "pass2"]);
  expect([none.code, none.stderr]).toEqual([7, expect.stringContaining("Cannot find a built")]);
  expect(existsSync(target)).toBe(false);

  expect((await seedstrap(["build", ...words, "pass1"])).code).toBe(0);
  expect(readRecord(target).options.internalCi).toBe("pass1");
  const early = await seedstrap(["build", ...words, "pass2"]);
  expect([early.code, early.stderr]).toEqual([
    7,
    expect.stringContaining("no pass1 has come to its end"),
  ]);
  expect(early.stderr).toContain("Begin with --container --internal-ci pass1");
  const again = await seedstrap(["reproduce", target, ...args.slice(2)]);
  expect([again.code, again.stderr]).toEqual([0, ""]);

  const other = join(dir, "directory");
  const bwrap = ["-bw", ...args.slice(1), "-t", other, "--internal-ci", "pass1"];
  expect((await seedstrap(["build", ...bwrap])).code).toBe(0);
  const mixed = await seedstrap(["build", ...args, "-t", other, "--internal-ci", "pass2"]);
  expect([mixed.code, mixed.stderr]).toEqual([7, expect.stringContaining("no pass1 has run")]);
}, 60_000);
