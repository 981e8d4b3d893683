// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { existsSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { buildMedia, type BuildRequest, planBuild } from "../../src/job/build.ts";
import { reproduceBuild } from "../../src/job/reproduce.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import { openView } from "../../src/image/view.ts";
import { openSource } from "../../src/source/open.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { buildOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const SEED = "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed";

/** Makes a checkout with files of the user in distfiles/, and a request to build from it. */
function scene(changes: Partial<BuildOptions>): BuildRequest & { dir: string } {
  const dir = temp.make();
  const mini = miniTree({ movesToDisk: true, files: { [SEED]: "the seed" } });
  const manifest = String(mini.files["steps/manifest"])
    .replace("jump: linux", "improve: clean_sources\njump: linux");
  const files = {
    ...mini.files,
    "steps/manifest": manifest,
    "steps/improve/clean_sources.sh": "rm\n",
  };
  const { tree, mirror } = writeMiniTree(dir, { files, distfiles: mini.distfiles });
  writeFiles(join(tree, "distfiles"), {
    "linux.config": "CONFIG_X=y\n",
    "a b.tar": "own",
    ".origins/x": "of a store",
    "half.tar.part": "a part",
    "more/c": "in a directory",
    "beta-2.0.tar.gz": mini.distfiles["beta-2.0.tar.gz"]!,
  });
  symlinkSync("/nowhere", join(tree, "distfiles/broken"));
  return {
    dir,
    tree,
    store: join(dir, "store"),
    options: buildOptions({
      externalSources: true,
      targetSizeMib: changes.mode === undefined ? 2000 : 0,
      mirrors: [{ kind: "directory", path: mirror }],
      ...changes,
    }),
    target: join(dir, "target"),
    force: false,
    jobs: 2,
  };
}

test("files of the user in distfiles/ are carried after jump: move_disk, and named", async () => {
  const request = scene({});
  const { plan } = await planBuild(request);
  const own = plan.distfiles.filter(({ steps }) => steps.length === 0);
  const why = "it is in distfiles/ of the checkout, --external-sources includes it";
  const fixed = { urls: [], place: "payload", restored: "disk", phase: "network", why };
  expect(own).toMatchObject([
    { name: "a b.tar", sha256: sha256("own"), size: 3, ...fixed },
    { name: "linux.config", sha256: sha256("CONFIG_X=y\n"), size: 11, ...fixed },
  ]);
  expect(plan.warnings).toEqual([
    "distfiles/broken is not carried: it is not a file",
    "distfiles/more is not carried: it is not a file",
  ]);
  const record = await buildMedia(request);
  expect(record.distfiles.find(({ name }) => name === "linux.config")).toMatchObject({
    steps: [],
    origin: { kind: "checkout" },
  });
  const source = openSource(join(request.target, "payload.img"));
  const names = [...openView(source).entries()].map(({ path }) => path);
  source.close();
  expect(names).toContain("linux.config");
  expect(names).toContain("a b.tar");
  expect(names).not.toContain("half.tar.part");
  const { tree, store, options: { mirrors } } = request;
  const path = join(request.target, "seedstrap.json");
  const again = { record: path, tree, store, mirrors, keep: false, force: false, jobs: 2 };
  expect(await reproduceBuild(again)).toMatchObject({ same: true, materials: [] });
});

test("without --external-sources they are not carried", async () => {
  const { plan } = await planBuild(scene({ externalSources: false }));
  expect(plan.distfiles.map(({ name }) => name)).not.toContain("linux.config");
  expect(plan.warnings).toEqual([]);
});

test("in a directory they are among the distfiles, which clean_sources deletes", async () => {
  const request = scene({ mode: "chroot" });
  const { plan } = await planBuild(request);
  expect(plan.warnings).toContain(
    "improve: clean_sources will delete what no step needs: a b.tar, linux.config",
  );
  await buildMedia(request);
  const distfiles = join(request.target, "external/distfiles");
  expect(readFileSync(join(distfiles, "linux.config"), "utf8")).toBe("CONFIG_X=y\n");
  expect(existsSync(join(distfiles, "more"))).toBe(false);
});

test("without a payload, and with one phase, clean_sources deletes them: a warning", async () => {
  const warning = "improve: clean_sources will delete what no step needs: a b.tar, linux.config";
  for (const changes of [{ payload: "never" }, { payloadPhases: "one" }] as const) {
    const { plan } = await planBuild(scene(changes));
    expect(plan.warnings).toContain(warning);
  }
});
