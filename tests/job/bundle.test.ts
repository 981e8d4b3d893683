// SPDX-License-Identifier: MIT
import { after } from "../support/progress.ts";
import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openBundle } from "../../src/image/bundle.ts";
import { buildMedia, type BuildRequest } from "../../src/job/build.ts";
import { type BundleRequest, createBundle, unpackBundle } from "../../src/job/bundle.ts";
import { openCheckout, walkTree } from "../../src/tree/checkout.ts";
import { rejection } from "../fetch/harness.ts";
import { Bench, sampleBody, sha256 } from "../fetch/servers.ts";
import { describeDir, sha256OfFile, TempDirs, writeFiles } from "../support/files.ts";
import { run, testWith } from "../support/run.ts";
import { faultOf } from "../support/sources.ts";
import { buildOptions, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const bench = new Bench();
afterEach(() => {
  temp.release();
  return bench.release();
});

const BETA = "beta-2.0.tar.gz";

/** Makes a checkout with a mirror beside it, and a request to bundle both. */
function scene(mini: MiniOptions = {}) {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(dir, miniTree(mini));
  const request: BundleRequest & { readonly output: string } = {
    tree,
    store: join(dir, "store"),
    mirrors: [{ kind: "directory", path: mirror }],
    isOffline: false,
    jobs: 2,
    preNetwork: false,
    hasBinary: false,
    output: join(dir, "b.tar"),
  };
  const build: BuildRequest = {
    tree,
    store: request.store,
    options: buildOptions({ externalSources: true, mirrors: request.mirrors }),
    target: join(dir, "target"),
    force: false,
    jobs: 2,
  };
  return { dir, tree, mirror, request, build };
}
const paths = (bundle: string) => [...openBundle(bundle).members.keys()];
/** Changes a request to use a bundle only, without mirrors. */
const fromBundle = <T extends BundleRequest | BuildRequest>(request: T, bundle: string): T => ({
  ...request,
  tree: bundle,
  isOffline: true,
  store: `${bundle}.store`,
  ...("options" in request ? { options: { ...request.options, mirrors: [] } } : { mirrors: [] }),
});
const images = (target: string) =>
  ["init.img", "payload.img"].map((name) => sha256OfFile(join(target, name)));

test("createBundle() includes the checkout and its distfiles, and no other files", async () => {
  const { request, tree, dir } = scene();
  await createBundle(request);
  const before = readFileSync(request.output);
  // None of these changes the bundle.
  writeFiles(tree, {
    ".git/config": "",
    "builder-hex0/.git": "gitdir: elsewhere",
    "steps/bootstrap.cfg": "ARCH=x86\n",
    "distfiles/other.tar.gz": "not wanted",
    "__pycache__/x.pyc": "",
    "target/.seedstrap/made": "",
    "target/init.img": "image",
  });
  cpSync(request.output, join(tree, "old.tar"));
  cpSync(request.output, join(tree, "cut.tar.001"));
  writeFiles(tree, { "cut.tar.002": "its other part" });
  symlinkSync("/dev/null", join(tree, "target/null"));
  const output = join(dir, "again.tar");
  await createBundle({ ...request, output });
  expect(readFileSync(output).equals(before)).toBe(true);
  const { distfiles } = miniTree();
  expect(paths(output)).toContain("steps/manifest");
  expect(paths(output).filter((path) => path.startsWith("distfiles/")))
    .toEqual(Object.keys(distfiles).sort().map((name) => `distfiles/${name}`));
  writeFiles(tree, { "notes.txt": "of the checkout" });
  rmSync(output);
  await createBundle({ ...request, output });
  expect(paths(output)).toContain("notes.txt");
});

testWith("git")(
  "what git does not track is no part of a bundle, but for what builds read",
  async () => {
    const { request, dir, tree } = scene({ files: { "lib/a.py": "", "README.rst": "" } });
    await createBundle(request);
    const before = readFileSync(request.output);
    const git = async (...args: string[]) => {
      const all = ["git", "-C", tree, "-c", "user.name=a", "-c", "user.email=a@b", ...args];
      expect(await run(all, { env: { ...process.env as Record<string, string>, HOME: dir } }))
        .toMatchObject({ code: 0 });
    };
    await git("init", "-q");
    await git("add", "-A");
    await git("commit", "-q", "-m", "x");
    writeFiles(tree, {
      ".gitignore": "ignored\n",
      "preflight.img": "an image",
      "etc/passwd": "extracted",
      "run1/SHA256SUMS": "a harvest",
      "lib/b.py": "",
      "lib/deep/c.py": "",
      ignored: "",
      "empty/": "",
      "seed/extra.kaem": "",
    });
    const notices: string[] = [];
    const output = join(dir, "again.tar");
    await createBundle({ ...request, output }, { onNotice: (text) => notices.push(text) });
    const others = paths(request.output).filter((path) => !path.startsWith("seedstrap-bundle"));
    expect(paths(output).filter((path) => !path.startsWith("seedstrap-bundle")).sort())
      .toEqual([...others, "seed/extra.kaem"].sort());
    const left = (path: string) => `${path} is left out: git does not track it`;
    expect(notices.sort()).toEqual([
      left(".gitignore"),
      left("empty"),
      left("etc"),
      "git does not track these files, which builds read: seed/extra.kaem",
      left("ignored"),
      left("lib/b.py"),
      left("lib/deep"),
      left("preflight.img"),
      left("run1"),
    ].sort());
    rmSync(join(tree, "seed/extra.kaem"));
    rmSync(output);
    await createBundle({ ...request, output });
    expect(readFileSync(output).equals(before)).toBe(true);
  },
);

test("without git, images and harvests of ours are no part of a bundle", async () => {
  const { request, build, dir, tree } = scene();
  await createBundle(request);
  const before = readFileSync(request.output);
  await buildMedia(build);
  cpSync(join(build.target, "init.img"), join(tree, "preflight.img"));
  cpSync(join(build.target, "payload.img"), join(tree, "p.img"));
  writeFiles(tree, { "run1/SHA256SUMS": "", "run1/bash-2.05b_0.tar.bz2": "a package" });
  const output = join(dir, "again.tar");
  await createBundle({ ...request, output });
  expect(readFileSync(output).equals(before)).toBe(true);
});

test("a bundle of a bundle, or of an unpacked one, is the same bundle", async () => {
  const { request, dir, tree } = scene();
  chmodSync(join(tree, "steps/helpers.sh"), 0o755);
  await createBundle(request);
  const bundle = openBundle(request.output);
  const out = join(dir, "out");
  mkdirSync(out);
  await unpackBundle(bundle, out);
  expect(statSync(join(out, "steps/helpers.sh")).mode % 0o1000).toBe(0o755);
  expect(statSync(join(out, "steps/manifest")).mode % 0o1000).toBe(0o644);
  for (const [name, body] of Object.entries(miniTree().distfiles)) {
    expect(sha256OfFile(join(out, "distfiles", name))).toBe(sha256(body));
  }
  const whole = readFileSync(request.output);
  for (const [index, from] of [request.output, out].entries()) {
    const output = join(dir, `${index}.tar`);
    await createBundle({ ...fromBundle(request, from), output });
    expect(readFileSync(output).equals(whole)).toBe(true);
  }
});

test("buildMedia() builds the same images from a bundle as from the checkout", async () => {
  const { request, build, dir } = scene();
  await buildMedia(build);
  await createBundle(request);
  const target = join(dir, "offline");
  const before = describeDir(dir).filter((line) => line.startsWith("b.tar"));
  const record = await buildMedia({ ...fromBundle(build, request.output), target });
  expect(images(target)).toEqual(images(build.target));
  expect(describeDir(dir).filter((line) => line.startsWith("b.tar"))).toEqual(before);
  expect(existsSync(`${request.output}.store`)).toBe(false);
  expect(record.distfiles.every(({ size }) => size !== null)).toBe(true);
});

test("a step with names that are left out elsewhere is built from a bundle as from the checkout", async () => {
  const { request, build, dir, tree } = scene();
  const odd = {
    "steps/alpha-1.0/.seedstrap/made": "a file of the step",
    "steps/alpha-1.0/__pycache__/x.pyc": "another",
    "steps/beta-2.0/files/.seedstrap": "no directory",
    "steps/.seedstrap/inner/": "",
    "steps/seedstrap-bundle/plan.json": "{}",
    "steps/.x.part-1": "of no bundle",
    "steps/distfiles/x": "of no mirror",
    "seed/stage0-posix/__pycache__/y.pyc": "of the seed",
    "seed/stage0-posix/.seedstrap/made": "likewise",
    "builder-hex0/.seedstrap/made": "not read",
  };
  writeFiles(tree, odd);
  const plain = await buildMedia(build);
  await createBundle(request);
  expect(paths(request.output)).toEqual(
    expect.arrayContaining(Object.keys(odd).map((path) => path.replace(/\/$/, ""))),
  );
  const target = join(dir, "offline");
  const bundled = await buildMedia({ ...fromBundle(build, request.output), target });
  expect(images(target)).toEqual(images(build.target));
  expect(bundled.checkout.digest).toBe(plain.checkout.digest);
  // They are in the image, and not only left out of both.
  rmSync(join(tree, "steps/alpha-1.0/__pycache__"), { recursive: true });
  const without = await buildMedia({ ...build, target: join(dir, "without") });
  expect(images(join(dir, "without"))).not.toEqual(images(target));
  expect(without.checkout.digest).not.toBe(plain.checkout.digest);
});

test("buildMedia() makes the same directory from a bundle as from the checkout", async () => {
  const { request, build, dir, tree } = scene({
    files: { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "seed" },
  });
  chmodSync(join(tree, "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed"), 0o755);
  await createBundle(request);
  const targets = [join(dir, "a"), join(dir, "b")];
  const { mirrors } = request;
  const options = buildOptions({ mode: "bwrap", externalSources: true, mirrors });
  const plain = { ...build, options, target: targets[0]! };
  await buildMedia(plain);
  await buildMedia({ ...fromBundle(plain, request.output), target: targets[1]! });
  const [a, b] = targets.map((target) =>
    describeDir(target).filter((line) => !line.startsWith("seedstrap.json"))
      .map((line) => line.replace(/ [\d.]+ (\w*)$/, " $1"))
  );
  expect(a).toEqual(b!);
});

test("createBundle() in parts gives the same bytes, and a build reads them in place", async () => {
  const { request, build, dir } = scene();
  await buildMedia(build);
  await createBundle(request);
  const output = join(dir, "cut.tar");
  // An odd size, so that parts end within headers, data and padding.
  const cut = { ...request, output, partBytes: 5001, wantsSha256: true };
  const { parts } = await createBundle(cut);
  expect(parts.length).toBeGreaterThan(5);
  expect(parts.map(({ path }) => path)).toEqual(
    parts.map((_, index) => `${output}.${String(index + 1).padStart(3, "0")}`),
  );
  expect(parts.slice(0, -1).every(({ path }) => statSync(path).size === 5001)).toBe(true);
  expect(parts.every(({ path, sha256 }) => sha256OfFile(path) === sha256)).toBe(true);
  const whole = statSync(request.output).size;
  const many = { ...request, output: `${output}.many`, partBytes: Math.floor(whole / 1000) };
  expect((await rejection(createBundle(many))).message).toMatch(/it would have \d{4} parts/);
  const joined = Buffer.concat(parts.map(({ path }) => readFileSync(path)));
  expect(joined.equals(readFileSync(request.output))).toBe(true);
  for (const [index, tree] of [output, `${output}.001`].entries()) {
    const target = join(dir, `from-${index}`);
    await buildMedia({ ...fromBundle(build, tree), target });
    expect(images(target)).toEqual(images(build.target));
  }
  await unpackBundle(openBundle(output), join(dir, "out"));
  expect(sha256OfFile(join(dir, "out/distfiles", BETA))).toBe(sha256(sampleBody(3001, 2)));
});

test("createBundle() fetches missing distfiles, and replaces wrong ones", async () => {
  const server = await bench.files(sampleBody(3001, 2));
  const { request, mirror, tree, dir } = scene({ url: server.url });
  await createBundle(request);
  const whole = readFileSync(request.output);
  for (const wrong of [undefined, new Uint8Array(), sampleBody(3001, 99)]) {
    rmSync(join(mirror, BETA), { force: true });
    rmSync(request.store, { recursive: true, force: true });
    if (wrong !== undefined) writeFiles(join(tree, "distfiles"), { [BETA]: wrong });
    const output = join(dir, `${wrong?.length}.tar`);
    const notices: string[] = [];
    await createBundle({ ...request, output }, { onNotice: (text) => notices.push(text) });
    expect(readFileSync(output).equals(whole)).toBe(true);
    expect(notices).toHaveLength(wrong === undefined ? 0 : 1);
  }
});

test("--offline asks no server, and names every missing distfile", async () => {
  const server = await bench.files(sampleBody(3001, 2));
  const { request, build, mirror, dir } = scene({ url: server.url });
  rmSync(join(mirror, BETA));
  rmSync(join(mirror, "gamma-3.0.tar.gz"));
  const seen = server.seen.length;
  const mirrors = [...request.mirrors, { kind: "http", url: server.url } as const];
  for (
    const attempt of [
      () => createBundle({ ...request, mirrors, isOffline: true }),
      () => buildMedia({ ...build, options: { ...build.options, mirrors }, isOffline: true }),
    ]
  ) {
    const error = await rejection(attempt());
    expect(error).toMatchObject({ kind: "fetch", exitCode: 4 });
    expect(error.message).toContain("2 distfiles are missing");
    expect(error.message).toContain(`${BETA}, SHA-256 ${sha256(sampleBody(3001, 2))}`);
    expect(error.message).toContain("gamma-3.0.tar.gz, SHA-256 ");
  }
  expect(server.seen).toHaveLength(seen);
  expect(readdirSync(dir).sort()).toEqual(["mirror", "tree"]);
});

test("createBundle() can leave out distfiles needed after the network", async () => {
  const { request, build } = scene();
  const { index } = await createBundle({ ...request, preNetwork: true });
  const bundled = index.distfiles.filter(({ isBundled }) => isBundled).map(({ name }) => name);
  expect(bundled).not.toContain("omega-6.0.tar.gz");
  expect(bundled).toHaveLength(5);
  const error = await rejection(buildMedia(fromBundle(build, request.output)));
  expect(error.message).toContain("1 distfile is missing");
  expect(error.message).toContain("omega-6.0.tar.gz");
  const options = { ...build.options, externalSources: false, mirrors: [] };
  await buildMedia({ ...fromBundle(build, request.output), options });
  // Without --offline the missing distfile is fetched.
  await buildMedia({ ...build, tree: request.output });
});

test("buildMedia() does not use damaged files of a bundle", async () => {
  const server = await bench.files(sampleBody(3001, 2));
  const { request, build, dir } = scene({ url: server.url });
  await buildMedia({ ...build, options: { ...build.options, mirrors: request.mirrors } });
  const right = images(build.target);
  await createBundle(request);
  const bundle = openBundle(request.output);
  const whole = readFileSync(request.output);
  const damage = (path: string) => {
    const bytes = Buffer.from(whole);
    bytes[bundle.members.get(path)!.dataOffset]! ^= 1;
    writeFileSync(request.output, bytes);
  };
  damage(`distfiles/${BETA}`);
  const offline = await rejection(buildMedia(fromBundle(build, request.output)));
  expect(offline).toMatchObject({ kind: "verify", exitCode: 5 });
  expect(offline.message).toBe(
    "Cannot continue with --offline: 1 distfile has a wrong SHA-256\n" +
      `  damaged in ${request.output}: ${BETA}`,
  );
  expect(offline.hint).toStartWith("seedstrap bundle verify lists all damage");
  const notices: string[] = [];
  const online = { ...fromBundle(build, request.output), isOffline: false };
  await buildMedia(online, { onNotice: (text) => notices.push(text) });
  expect(images(build.target)).toEqual(right);
  expect(notices[0]).toStartWith(
    `distfiles/${BETA} in ${request.output} is damaged and not used: its SHA-256 is `,
  );
  // One file is only copied, the other is read for the plan.
  for (const path of ["seed/seed.kaem", "steps/manifest"]) {
    damage(path);
    const error = await rejection(buildMedia(fromBundle(build, request.output)));
    expect(error).toMatchObject({ kind: "verify", exitCode: 5 });
    expect(error.message).toContain(JSON.stringify(path));
  }
  damage(`distfiles/${BETA}`);
  const unpacked = await rejection(unpackBundle(openBundle(request.output), join(dir, "out")));
  expect(unpacked).toMatchObject({ kind: "verify" });
  expect(unpacked.message).toContain(BETA);
  expect(readdirSync(dir).sort()).toEqual(["b.tar", "b.tar.store", "mirror", "target", "tree"]);
});

test(
  "unpackBundle() refuses a bundle with any damage that verify finds, and leaves nothing",
  async () => {
    const { request, dir } = scene();
    await createBundle(request);
    const { members, layout } = openBundle(request.output);
    const whole = readFileSync(request.output);
    // Of each header: mode, time, type of the members after the texts, owner, and its own padding.
    const places = [...members.values()].flatMap(({ headerOffset, dataOffset, size, member }) => [
      ...[101, 137, 266, 500].map((at) => headerOffset + at),
      ...(member.path.startsWith("seedstrap-bundle/") ? [] : [headerOffset, headerOffset + 156]),
      ...(size === 0 ? [] : [dataOffset, dataOffset + size - 1]),
      ...(size % 512 === 0
        ? []
        : [dataOffset + size, Math.ceil((dataOffset + size) / 512) * 512 - 1]),
    ]);
    for (const offset of [...places, layout.endOffset, whole.length - 1]) {
      const bytes = Buffer.from(whole);
      bytes[offset]! ^= 1;
      writeFileSync(request.output, bytes);
      const unpacking = async () => {
        await unpackBundle(openBundle(request.output), join(dir, "out"));
      };
      const { kind } = await rejection(unpacking());
      expect([offset, kind]).toEqual([offset, "verify"]);
      expect(existsSync(join(dir, "out"))).toBe(false);
    }
  },
  60_000,
);

test("createBundle() includes images that are as they were built, and refuses others", async () => {
  const { request, build, dir } = scene();
  await buildMedia(build);
  const output = request.output;
  await createBundle({ ...request, images: build.target });
  // 64 MiB of zeros after the boot image take no space.
  expect(statSync(output).blocks * 512).toBeLessThan(20 * 1024 * 1024);
  await unpackBundle(openBundle(output), join(dir, "out"));
  const taken = join(dir, "out/seedstrap-bundle/images");
  expect(images(taken)).toEqual(images(build.target));
  expect(readFileSync(join(taken, "seedstrap.json"), "utf8"))
    .toBe(readFileSync(join(build.target, "seedstrap.json"), "utf8"));
  rmSync(output);
  const boot = join(build.target, "init.img");
  const bytes = readFileSync(boot);
  for (
    const [offset, fault] of [[100, "its pieces are"], [bytes.length - 1, "not zeros"]] as const
  ) {
    const changed = Buffer.from(bytes);
    changed[offset]! ^= 1;
    writeFileSync(boot, changed);
    const error = await rejection(createBundle({ ...request, images: build.target }));
    expect(error).toMatchObject({ kind: "verify" });
    expect(error.message).toContain(fault);
    expect(existsSync(output)).toBe(false);
  }
});

test("createBundle() replaces no file, and leaves none when it is aborted", async () => {
  const { request, dir } = scene({ distfileBytes: 2_000_000 });
  for (const there of [request.output, `${request.output}.002`]) {
    writeFileSync(there, "mine");
    expect(await rejection(createBundle(request))).toMatchObject({ kind: "target" });
    expect(readFileSync(there, "utf8")).toBe("mine");
    rmSync(there);
  }
  const before = readdirSync(dir).sort();
  for (const partBytes of [undefined, 1_000_000]) {
    const stop = new AbortController();
    const events = after(5e6, () => stop.abort());
    const making = createBundle({ ...request, partBytes }, events, stop.signal);
    expect(await rejection(making)).toMatchObject({ kind: "interrupt" });
    expect(readdirSync(dir).sort()).toEqual(before);
  }
  await createBundle(request);
  const stop = new AbortController();
  const events = after(5e6, () => stop.abort());
  const out = join(dir, "out");
  const unpacking = unpackBundle(openBundle(request.output), out, events, stop.signal);
  expect(await rejection(unpacking)).toMatchObject({ kind: "interrupt" });
  expect(readdirSync(dir).sort()).toEqual(["b.tar", ...before].sort());
});

test("createBundle() replaces no file that is created while it writes", async () => {
  for (const [partBytes, name] of [[undefined, ""], [1_000_000, ".002"]] as const) {
    const { request, dir } = scene({ distfileBytes: 2_000_000 });
    const other = request.output + name;
    const events = after(0, () => writeFileSync(other, "somebody's"));
    const error = await rejection(createBundle({ ...request, partBytes }, events));
    expect(error.message).toContain(`${other} exists`);
    expect(readFileSync(other, "utf8")).toBe("somebody's");
    expect(readdirSync(dir).filter((file) => file.includes("b.tar"))).toEqual([`b.tar${name}`]);
  }
});

test("unpackBundle() refuses a directory that is not empty", async () => {
  const { request, dir } = scene();
  await createBundle(request);
  writeFiles(dir, { "full/mine": "" });
  const unpacking = unpackBundle(openBundle(request.output), join(dir, "full"));
  expect(await rejection(unpacking)).toMatchObject({ kind: "target" });
  expect(readdirSync(join(dir, "full"))).toEqual(["mine"]);
});

testWith("tar")("a tar file made by another program is not a bundle", async () => {
  const { request, dir } = scene();
  await createBundle(request);
  await unpackBundle(openBundle(request.output), join(dir, "out"));
  const other = join(dir, "other.tar");
  await run(["tar", "cf", other, "-C", join(dir, "out"), "."]);
  expect(faultOf(() => openBundle(other))).toContain("as a bundle: it is not one");
  expect(faultOf(() => openCheckout(other))).toContain("Cannot find a live-bootstrap checkout");
  // Nor is one with the right first members.
  const names = ["seedstrap-bundle/SHA256SUMS", "seedstrap-bundle/plan.json", "steps"];
  await run(["tar", "cf", other, "-C", join(dir, "out"), ...names]);
  expect(faultOf(() => openBundle(other))).toContain("Cannot use the bundle");
});

test("walkTree() of a bundle skips everything below a skipped directory", async () => {
  const { request } = scene();
  await createBundle(request);
  const skips = (path: string) => path === "steps" || path === "distfiles";
  const left = walkTree(request.output, "", "the checkout", skips).map(({ path }) => path);
  expect(left).toContain("seed/seed.kaem");
  expect(left.filter((path) => /^(steps|distfiles|seedstrap-bundle)/.test(path))).toEqual([]);
});

test("walkTree() lists the same entries for a bundle as for the checkout", async () => {
  const { request, tree } = scene();
  await createBundle(request);
  const listed = (root: string) =>
    walkTree(root, "seed").map(({ path, kind, sizeBytes, isExecutable }) =>
      `${path} ${kind} ${sizeBytes} ${isExecutable}`
    ).sort();
  expect(listed(request.output)).toEqual(listed(tree));
  expect(faultOf(() => walkTree(request.output, "none"))).toContain("there is no directory none");
});
