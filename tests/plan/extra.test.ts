// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import type { BuildOptions } from "../../src/plan/options.ts";
import { makePlan } from "../../src/plan/plan.ts";
import { readTree } from "../../src/tree/model.ts";
import { TempDirs } from "../support/files.ts";
import { faultOf } from "../support/sources.ts";
import { buildOptions, extraTree, type MiniOptions, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

function plan(changes: Partial<BuildOptions> = {}, mini: MiniOptions = {}) {
  const tree = extraTree(mini);
  const root = writeMiniTree(temp.make(), tree).tree;
  const options = buildOptions({ extraBuilds: ["guix"], ...changes });
  const sizes = new Map(Object.entries(tree.distfiles).map(([name, { length }]) => [name, length]));
  return makePlan(readTree(root, options.extraBuilds), options, sizes);
}
const text = (made: ReturnType<typeof plan>, path: string) => {
  const content = made.entries.find((entry) => entry.path === path)?.content;
  return content?.kind === "generated" ? new TextDecoder().decode(content.bytes) : content?.kind;
};

test("bootstrap.cfg names the extra builds in order after BARE_METAL, and none without any", () => {
  const { config } = plan({ extraBuilds: ["other", "guix"] });
  expect(config).toContain("BARE_METAL=False\nEXTRA_BUILDS=other,guix\nDISK=");
  expect(plan({ extraBuilds: [] }).config).not.toContain("EXTRA_BUILDS");
});

test("where bootstrap.cfg stays empty, a warning says what it would have", () => {
  const warning = "--no-create-config leaves EXTRA_BUILDS unset: set it on the machine";
  expect(plan({ createConfig: false }).warnings).toContain(warning);
  expect(plan().warnings).not.toContain(warning);
  expect(plan({ createConfig: false, extraBuilds: [] }).warnings).not.toContain(warning);
});

test("boot images, directories and disks have the directory of an extra build", () => {
  const files = { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "\x7fELF" };
  const paths = (changes: Partial<BuildOptions>) =>
    plan(changes, { files }).entries.map(({ path }) => path).filter((path) =>
      /^\.\/steps-/.test(path)
    );
  const own = [
    "./steps-guix",
    "./steps-guix/alpha-1.0",
    "./steps-guix/alpha-1.0/pass1.sh",
    "./steps-guix/alpha-1.0/sources",
    "./steps-guix/epsilon-7.0",
    "./steps-guix/epsilon-7.0/pass1.sh",
    "./steps-guix/epsilon-7.0/sources",
    "./steps-guix/improve",
    "./steps-guix/improve/get_network.sh",
    "./steps-guix/jump",
    "./steps-guix/jump/linux64.sh",
    "./steps-guix/manifest",
    "./steps-guix/zeta-8.0",
    "./steps-guix/zeta-8.0/pass1.sh",
    "./steps-guix/zeta-8.0/sources",
  ];
  // The empty file is made again after the jump, which would lose it.
  expect(paths({})).toEqual(own);
  const kept = ["./steps-guix/zeta-8.0/files", "./steps-guix/zeta-8.0/files/empty"];
  const whole = [...own.slice(0, 13), ...kept, ...own.slice(13)];
  expect(paths({ mode: "chroot" })).toEqual(whole);
  expect(paths({ kernel: "/vmlinuz", targetSizeMib: 4096 })).toEqual(whole);
  expect(plan().overlay.madeAgain).toContain("steps-guix/zeta-8.0/files/empty");
});

test("what an extra build needs before its own network is carried, the rest is downloaded", () => {
  const { distfiles } = plan({}, { movesToDisk: true });
  const placed = distfiles.filter(({ name }) => name.startsWith("guix-"));
  expect(placed.map(({ name, phase, place }) => [name, phase, place])).toEqual([
    ["guix-epsilon-7.0.tar.gz", "disk", "boot"],
    ["guix-zeta-8.0.tar.gz", "network", "network"],
    ["guix-alpha-1.0.tar.gz", "network", "network"],
  ]);
  expect(placed[0]!.why).toBe("epsilon-7.0 (steps-guix/manifest line 2) needs it");
  expect(placed[1]!.why).toBe(
    "the machine downloads it: zeta-8.0 (steps-guix/manifest line 5) needs it after improve: get_network",
  );
});

test("a distfile is carried if one manifest needs it before its network, in whichever order", () => {
  const { files } = extraTree();
  const shared = { "steps-guix/epsilon-7.0/sources": files["steps/omega-6.0/sources"]! };
  const omega = (changes: Partial<BuildOptions>) =>
    plan(changes, { files: shared, movesToDisk: true }).distfiles
      .find(({ name }) => name === "omega-6.0.tar.gz");
  expect(omega({ extraBuilds: [] })).toMatchObject({ phase: "network", place: "network" });
  expect(omega({})).toMatchObject({ phase: "disk", place: "boot" });
});

test("a payload with files of an extra build is restored in two phases, as clean_sources would delete them", () => {
  const mini = { movesToDisk: true, files: { "steps/improve/clean_sources.sh": "rm\n" } };
  const made = plan({ payload: "always" }, mini);
  expect(made.restore?.phases).toBe(2);
  expect(made.distfiles.find(({ name }) => name === "guix-epsilon-7.0.tar.gz")).toMatchObject({
    place: "payload",
    restored: "disk",
  });
  const manifest = [
    "build: alpha-1.0",
    "jump: fiwix",
    "improve: clean_sources",
    "build: linux-4.0",
  ];
  const files = { ...mini.files, "steps/manifest": manifest.join("\n") };
  expect(plan({ payload: "never" }, { files }).warnings).toContain(
    "improve: clean_sources will delete what no step of steps/ needs: guix-epsilon-7.0.tar.gz",
  );
});

test("--air-gapped skips the wait for a network of an extra build, too", () => {
  const made = plan({ airGapped: true, externalSources: true });
  expect(text(made, "./steps-guix/manifest")).toContain(
    "\nimprove: get_network ( AIR_GAPPED != True )\n",
  );
  expect(made.overlay.manifestLines).toContainEqual({
    text: "improve: get_network ( AIR_GAPPED != True )",
    place: "replaces line 4 of steps-guix/manifest",
  });
  expect(text(plan(), "./steps-guix/manifest")).toBe("tree");
});

test("what an extra build names and does not have is missing", () => {
  const { files } = extraTree();
  expect(plan().missing).toEqual([]);
  const manifest = `${files["steps-guix/manifest"] as string}build: none-1.0\nimprove: gone\n`;
  expect(plan({}, { files: { "steps-guix/manifest": manifest } }).missing).toEqual([
    "steps-guix/manifest:8: build: none-1.0: there is no step steps-guix/none-1.0",
    "steps-guix/manifest:9: improve: gone: there is no steps-guix/improve/gone.sh",
  ]);
});

test("an extra build that no script of the checkout would run is refused", () => {
  const without = (script: string) =>
    faultOf(() => plan({}, { files: { "steps/improve/after.sh": script } }));
  expect(without("true\n")).toBe(
    "Cannot use --extra-builds guix: no script of the checkout reads EXTRA_BUILDS, so that the " +
      "machine would never come to steps-guix/manifest | steps/",
  );
  expect(without("test $BUILD_GUIX_ALSO\n")).toEndWith("| steps/improve/after.sh");
});

test("a plan says which step directories it leaves out", () => {
  const note = "steps-guix/, steps-other/ of the checkout is left out";
  expect(plan({ extraBuilds: [] }).advice.join()).toContain(note);
  expect(plan({ extraBuilds: ["other", "guix"] }).advice.join()).not.toContain("left out");
});
