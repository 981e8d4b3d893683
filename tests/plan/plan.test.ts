// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { brokenLimits, makePlan, neededDistfiles } from "../../src/plan/plan.ts";
import { limitState } from "../../src/plan/limits.ts";
import { payloadFiles } from "../../src/plan/restore.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import type { Plan } from "../../src/plan/types.ts";
import { readTree } from "../../src/tree/model.ts";
import { parseMirror } from "../../src/fetch/mirror.ts";
import { plainLine } from "../../src/cli/output.ts";
import { planAsText } from "../../src/cli/plan.ts";
import { TempDirs } from "../support/files.ts";
import { faultOf } from "../support/sources.ts";
import { expectGolden } from "../support/golden.ts";
import { buildOptions, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Plans for a miniature tree whose distfiles have these sizes, in order; all 3000 by default. */
function plan(
  changes: Partial<BuildOptions> = {},
  options: MiniOptions = {},
  sizes: readonly (number | undefined)[] = Array(6).fill(3000),
): Plan {
  const mini = miniTree(options);
  const tree = readTree(writeMiniTree(temp.make(), mini).tree);
  const known = new Map<string, number>();
  Object.keys(mini.distfiles).forEach((name, i) => {
    if (sizes[i] !== undefined) known.set(name, sizes[i]);
  });
  return makePlan(tree, buildOptions(changes), known);
}

const short = (name: string) => name.split("-")[0];
const places = (plan: Plan) =>
  plan.distfiles.map(({ name, place, restored }) =>
    `${short(name)} ${place}${restored ? `/${restored}` : ""}`
  );
const phases = (plan: Plan) => plan.distfiles.map(({ phase }) => phase);
const ALL = { externalSources: true };
const WITH_SEED = {
  files: { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "the seed" },
};

const RISCV_SEED = {
  files: { "seed/stage0-posix/bootstrap-seeds/POSIX/riscv64/kaem-optional-seed": "the seed" },
};

test("without the payload every distfile needed before the network is in the boot image", () => {
  const made = plan();
  expect(made.hasPayload).toBe(false);
  expect(made.payloadReason).toBe("everything fits into the boot image");
  expect(places(made)).toEqual([
    "alpha boot",
    "beta boot",
    "gamma boot",
    "linux boot",
    "delta boot",
    "omega network",
  ]);
  expect(made.images).toEqual(["init.img"]);
  expect(neededDistfiles(made)).toHaveLength(5);
  expect(made.config).toContain("PAYLOAD_REQUIRED=False\n");
});

test("the split is at jump: fiwix if no line imports the payload", () => {
  const made = plan(ALL, { movesToDisk: true });
  expect(phases(made)).toEqual(["boot", "fiwix", "fiwix", "fiwix", "disk", "network"]);
  expect(places(made)[0]).toBe("alpha boot");
  expect(places(made)[1]).toBe("beta payload/fiwix");
  expect(made.config).toContain("PAYLOAD_REQUIRED=True\n");
});

test("the split is at improve: import_payload if the manifest has it", () => {
  const made = plan(ALL, { importsPayload: true });
  expect(phases(made)).toEqual(["boot", "boot", "fiwix", "fiwix", "fiwix", "network"]);
  expect(places(made)).toEqual([
    "alpha boot",
    "beta boot",
    "gamma payload/fiwix",
    "linux payload/fiwix",
    "delta payload/fiwix",
    "omega payload/fiwix",
  ]);
  expect(made.warnings).toEqual([]);
});

test("without a split everything goes into the boot image, with a warning", () => {
  const made = plan(ALL, { jumpsToFiwix: false });
  expect(made.hasPayload).toBe(false);
  expect(made.payloadReason).toBe("no distfile is left for a payload");
  expect(new Set(made.distfiles.map(({ place }) => place))).toEqual(new Set(["boot"]));
  expect(made.config).toContain("PAYLOAD_REQUIRED=False\n");
  expect(made.warnings).toEqual([
    "the manifest has no jump: fiwix: every distfile goes into the boot image",
  ]);
});

test("--payload always is refused if the manifest has no line for the split", () => {
  expect(() => plan({ payload: "always" }, { jumpsToFiwix: false })).toThrow(
    'the manifest has no "jump: fiwix"',
  );
});

test("--payload always and never override all other options", () => {
  const always = plan({ payload: "always" });
  expect(places(always)).toContain("delta payload/fiwix");
  expect(places(always)).toContain("omega network");
  expect(always.payloadReason).toBe("--payload always");
  const never = plan({ payload: "never", externalSources: true });
  expect(places(never)).toContain("omega boot");
  expect(never.payloadReason).toBe("--payload never");
  expect(never.images).toEqual(["init.img"]);
});

test("--payload auto makes a payload if the boot image would break a limit", () => {
  const options = { ramdiskKib: 1_700_000 };
  const sizes = [3000, 3000, 90_000_000, 3000, 3000, 3000];
  const made = plan({ targetSizeMib: 200 }, options, sizes);
  expect(made.payloadReason).toBe(
    "without it the plan breaks: bytes of files in builder-hex0, beside the Fiwix ramdisk",
  );
  expect(made.hasPayload).toBe(true);
  expect(brokenLimits(made)).toEqual([]);
  const never = plan({ targetSizeMib: 200, payload: "never" }, options, sizes);
  expect(brokenLimits(never).map(({ id }) => id)).toEqual(["file-store"]);
});

test("--payload auto makes no payload that would not help", () => {
  const made = plan({ qemuRamMib: 100 });
  expect(made.hasPayload).toBe(false);
  expect(brokenLimits(made).map(({ id }) => id)).toEqual(["memory"]);
});

test("a payload too large for the ramdisks is restored in two phases", () => {
  const options = { movesToDisk: true, ramdiskKib: 200 };
  const base = { ...ALL, targetSizeMib: 2000 };
  expect(places(plan(base, options))).toContain("delta payload/fiwix");
  const large = plan(base, options, [3000, 3000, 3000, 3000, 190_000, 3000]);
  expect(places(large)).toEqual([
    "alpha boot",
    "beta payload/fiwix",
    "gamma payload/fiwix",
    "linux payload/fiwix",
    "delta payload/disk",
    "omega payload/disk",
  ]);
  expect(brokenLimits(large)).toEqual([]);
  const survivors = plan(base, { ...options, kexecKib: 10, ramdiskKib: 1024 });
  expect(places(survivors)).toContain("delta payload/disk");
  expect(brokenLimits(survivors)).toEqual([]);
});

test("every distfile has the reason for its place", () => {
  const why = (made: Plan) =>
    Object.fromEntries(made.distfiles.map(({ name, why }) => [short(name), why]));
  expect(why(plan())).toMatchObject({
    alpha: "alpha-1.0 (manifest line 4) needs it before jump: fiwix",
    beta: "beta-2.0 (manifest line 6) needs it",
    omega: "the machine downloads it: omega-6.0 (manifest line 12) needs it after " +
      "improve: get_network",
  });
  expect(why(plan(ALL))).toMatchObject({
    omega: "omega-6.0 (manifest line 12) needs it after the network is up, " +
      "--external-sources includes it",
  });
});

test("the boot image has the bootstrap.cfg of the plan, empty with --no-create-config", () => {
  const cfg = (made: Plan) => made.entries.find(({ path }) => path === "./steps/bootstrap.cfg")!;
  const made = plan();
  expect(cfg(made).content).toEqual({
    kind: "generated",
    bytes: new TextEncoder().encode(made.config),
  });
  const bare = plan({ createConfig: false, payload: "always" });
  expect(cfg(bare)).toMatchObject({ size: 0 });
  expect(bare.warnings.join()).toContain("PAYLOAD_REQUIRED unset");
});

test("entries are sorted bytewise, each directory before its content", () => {
  const { entries } = plan();
  const paths = entries.map(({ path }) => path);
  expect(paths[0]).toBe(".");
  const sorted = [...paths].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  expect(paths).toEqual(sorted);
  const seen = new Set<string>();
  for (const { path, content } of entries) {
    const above = path.slice(0, path.lastIndexOf("/"));
    if (path !== ".") expect(seen).toContain(above);
    if (content.kind === "directory") seen.add(path);
    expect(path).toMatch(/^\.(\/[^/]+)*$/);
  }
  expect(new Set(paths).size).toBe(paths.length);
});

test("warnings name an unusual architecture and mirrors that bare metal cannot reach", () => {
  const mirrors = [{ kind: "directory", path: "/m" }] as const;
  const kernel = { arch: "riscv64", kernel: "/k" } as const;
  const made = plan({ mode: "bare-metal", mirrors });
  expect(plan({ mode: "bare-metal", ...kernel }, RISCV_SEED).warnings).toEqual([
    "--arch riscv64 is for development only: only x86 can bootstrap",
  ]);
  expect(made.warnings).toEqual([
    "the machine cannot reach file:///m, it is left out of MIRRORS",
  ]);
});

test("warnings say whether the machine gets the password of a mirror, without showing it", () => {
  const mirrors = [
    "https://u:secret@a.example/x",
    "https://b.example:8443",
    "https://token@c.example",
    "https://d.example/x?key=secret",
  ].map(parseMirror);
  const without = "--mirror-credentials writes it to bootstrap.cfg";
  const made = plan({ mirrors });
  expect(made.warnings).toEqual([
    `the machine will ask the mirror a.example without the password: ${without}`,
    `the machine will ask the mirror c.example without the user name: ${without}`,
    `the machine will ask the mirror d.example without the query: ${without}`,
  ]);
  const urls = "https://a.example/x https://b.example:8443 https://c.example https://d.example/x";
  expect(made.config).toContain(`MIRRORS="${urls}"\n`);
  const told = plan({ mirrors, mirrorCredentials: true });
  const where = "becomes part of the image, in bootstrap.cfg";
  expect(told.warnings).toEqual([
    `the password for the mirror a.example ${where}`,
    `the user name for the mirror c.example ${where}`,
    `the query for the mirror d.example ${where}`,
  ]);
  expect(told.config).toBe(made.config);
  expect(JSON.stringify(told)).not.toContain("u:secret");
  const kernel = { mode: "bare-metal", kernel: "/k" } as const;
  expect(plan({ mirrors, ...kernel, externalSources: true }, WITH_SEED).warnings).toEqual([]);
});

test("--payload auto also makes a payload where the estimate of the steps says so", () => {
  const manifest = String(miniTree().files["steps/manifest"])
    .replace("build: alpha-1.0", "build: alpha-1.0\nbuild: mes-1.0");
  const options = {
    ramdiskKib: 1_700_000,
    kexecKib: 300_000,
    files: { "steps/manifest": manifest },
  };
  const sizes = [3000, 3000, 10_000_000, 3000, 3000, 3000];
  const of = (payload: "auto" | "never") => plan({ targetSizeMib: 200, payload }, options, sizes);
  const never = of("never");
  expect(never.limits.filter(({ near }) => near).map(({ id }) => id)).toEqual(["file-store"]);
  expect(never.warnings).toEqual([
    "probably too much (an estimate): bytes of files in builder-hex0, beside the Fiwix ramdisk: " +
    "9.55 MiB + 84.6 MiB of 67.8 MiB",
  ]);
  const made = of("auto");
  expect(made.hasPayload).toBe(false);
  const less = { ...options, ramdiskKib: 1_675_000 };
  const split = plan({ targetSizeMib: 200 }, less, sizes);
  expect(split.payloadReason).toBe(
    "without it there is probably too much (an estimate): " +
      "bytes of files in builder-hex0, beside the Fiwix ramdisk",
  );
  expect(split.hasPayload).toBe(true);
  expect(split.limits.filter(({ near }) => near)).toEqual([]);
});

test("a size that is not known counts as unknown, not as zero", () => {
  const made = plan({}, {}, [3000, undefined, undefined, undefined, 3000, undefined]);
  const states = new Map(made.limits.map((limit) => [limit.id, limitState(limit)]));
  expect(Object.fromEntries(states)).toEqual({
    "files": "ok",
    "file-store": "unknown",
    "path": "ok",
    "memory": "ok",
    "fiwix-ramdisk": "unknown",
    "kexec-ramdisk": "unknown",
    "disk": "unknown",
  });
  const unknown = made.limits.map(({ id, unknownSizes }) => [id, unknownSizes ?? 0]);
  // Of the three in the boot image, clean_sources keeps one. The last one is not included.
  expect(unknown.filter(([, count]) => count !== 0)).toEqual([
    ["file-store", 3],
    ["fiwix-ramdisk", 3],
    ["kexec-ramdisk", 1],
    ["disk", 3],
  ]);
  expect(made.payloadReason).toStartWith("3 sizes are not known yet");
  expect(planAsText(made, "/t", { all: true }).map(plainLine).join("\n")).not.toMatch(/\bfits\b/);
  const whole = plan();
  expect(whole.limits.filter((limit) => limitState(limit) !== "ok")).toEqual([]);
  expect(whole.payloadReason).toBe("everything fits into the boot image");
});

test("a limit that the known sizes break is broken, whatever the others are", () => {
  const sizes = [3000, undefined, 9_000_000, 3000, 3000, 3000];
  const made = plan({ payload: "never" }, {}, sizes);
  const [limit] = brokenLimits(made);
  expect(limit).toMatchObject({ id: "fiwix-ramdisk", unknownSizes: 1 });
  expect(limitState(limit!)).toBe("broken");
});

test("a plan counts the files of its payload as the record of the build does", () => {
  const made = plan({ ...ALL });
  const text = planAsText(made, "/t", { all: true }).map(plainLine).join("\n");
  expect(payloadFiles(made)).toHaveLength(6);
  expect(text).toContain("payload.img: 6 files");
  expect(payloadFiles(plan(ALL, { importsPayload: true }))).toHaveLength(4);
});

test("builder-hex0 is refused for any architecture but x86", () => {
  for (const arch of ["i686", "amd64", "riscv64"]) {
    expect(() => plan({ arch })).toThrow(
      `Cannot use --arch ${arch} with --qemu: builder-hex0 boots x86 only`,
    );
  }
});

test("a port of builder-hex0 to another machine is refused by name, and a directory works with it", () => {
  const [stage1, stage2] = ["riscv64-stage1-virt.hex0", "riscv64-stage2.hex0"].map((name) =>
    `builder-hex0-${name}`
  );
  const { files, distfiles } = miniTree({
    files: {
      [`builder-hex0/${stage1}`]: "00\n",
      [`builder-hex0/${stage2}`]: "00\n",
      "seed/stage0-posix/bootstrap-seeds/POSIX/riscv64/kaem-optional-seed": "seed",
    },
  });
  const x86 = Object.keys(files).filter((path) => path.startsWith("builder-hex0/builder-hex0-x86"));
  const others = Object.fromEntries(Object.entries(files).filter(([path]) => !x86.includes(path)));
  const tree = readTree(writeMiniTree(temp.make(), { files: others, distfiles }).tree);
  const planned = (changes: Partial<BuildOptions>) =>
    makePlan(tree, buildOptions(changes), new Map());
  expect(() => planned({ arch: "riscv64" })).toThrow(
    `Cannot use --arch riscv64 with --qemu: the checkout has ${stage1}, ${stage2}, but how a boot ` +
      "disk for it is laid out is not known here",
  );
  expect(() => planned({})).toThrow(
    "Cannot make a boot image: it needs builder-hex0-x86-stage1.hex0 and " +
      `builder-hex0-x86-stage2.hex0, and the checkout has ${stage1}, ${stage2}`,
  );
  const directory = planned({ arch: "riscv64", mode: "chroot" });
  expect(directory.config).toContain("ARCH=riscv64\nARCH_DIR=riscv64\n");
  expect(directory.entries.map(({ path }) => path)).toContain("./init");
});

test("a list of the files for Fiwix is made for a directory, and a boot image with one is refused", () => {
  const dir = "steps/lwext4-1.0.0-lb1/files";
  const list = `${dir}/fiwix-file-list.txt`;
  const files = {
    "seed/script-generator.c": `FILE *list = fopen("/${list}", "r");\n`,
    [`${dir}/early-artifacts-needed-after-fiwix.txt`]: "/usr/bin/kaem\n",
    "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "seed",
  };
  for (const mode of ["qemu", "bare-metal"] as const) {
    expect(faultOf(() => plan({ mode }, { files }))).toBe(
      "Cannot make a boot image of this checkout: Fiwix gets the files of a list that only its own " +
        `rootfs.py makes | ${list}`,
    );
  }
  const { entries, overlay } = plan({ mode: "chroot" }, { files });
  expect(overlay.files).toContain(list);
  const content = entries.find(({ path }) => path === `./${list}`)!.content;
  const [first, ...lines] = new TextDecoder()
    .decode(content.kind === "generated" ? content.bytes : undefined).trimEnd().split("\n");
  expect(first).toBe("/usr/bin/kaem");
  const ofSteps = entries.filter(({ path, content }) =>
    path.startsWith("./steps/") && content.kind !== "directory"
  );
  expect(lines).toEqual(ofSteps.map(({ path }) => path.slice(1)).sort());
  expect(lines).toContain("/steps/bootstrap.cfg");
});

/** Moves the importer of the checkout behind the jump to the disk. */
const LATE_IMPORT = {
  importsPayload: true,
  movesToDisk: true,
  files: {
    "steps/manifest": String(
      miniTree({ importsPayload: true, movesToDisk: true }).files["steps/manifest"],
    ).replace(/^improve: import_payload.*\n/m, "")
      .replace("improve: finalize_fhs\n", "improve: finalize_fhs\nimprove: import_payload\n"),
  },
};

test("an importer after jump: move_disk fills the disk, and neither of the ramdisks", () => {
  const made = plan({ ...ALL, targetSizeMib: 20_000 }, LATE_IMPORT, [1, 2, 3, 4, 9e9, 9e9]);
  expect(places(made)).toEqual([
    "alpha boot",
    "beta boot",
    "gamma boot",
    "linux boot",
    "delta payload/disk",
    "omega payload/disk",
  ]);
  expect(made.restore).toEqual({ phases: 1, layout: 32, importer: "checkout" });
  expect(brokenLimits(made)).toEqual([]);
  const ids = made.limits.map(({ id }) => id);
  expect(ids).toContain("fiwix-ramdisk");
  expect(ids).not.toContain("fiwix-disk");
  expect(planAsText(made, "/t", { all: true }).map(plainLine)).toContainEqual(
    expect.stringContaining("restored at once after jump: move_disk: 2 files"),
  );
});

test("sizes that the jump does not say are unknown: a warning, and two phases", () => {
  const files = { "steps/jump/fiwix.sh": "make_fiwix_initrd -s ${RAMDISK}\nkexec_size=512\n" };
  const made = plan({ ...ALL, targetSizeMib: 2000 }, { movesToDisk: true, files });
  expect(made.restore).toMatchObject({ phases: 2, inOneGo: { ramdisk: { limit: null } } });
  expect(made.limits.find(({ id }) => id === "fiwix-ramdisk")).toMatchObject({
    limit: null,
    broken: false,
    near: false,
  });
  expect(made.warnings).toHaveLength(1);
  expect(made.warnings[0]).toMatch(
    /^cannot be checked: bytes on the Fiwix ramdisk: [\d.]+ KiB of an unknown number, as steps\/jump/,
  );
  const chroot = plan({ mode: "chroot" }, { files: { ...files, ...WITH_SEED.files } });
  expect(chroot.warnings).toEqual([]);
});

/** A checkout whose early scripts are for another shell than kaem. */
const OTHER_SHELL = {
  files: {
    "steps/beta-2.0/none": "",
    "steps/alpha-1.0/pass1.bake": "exec alpha\n",
    "steps/alpha-1.0/pass2.bake": "exec alpha\n",
  },
};
function otherShell(changes: Partial<BuildOptions>): Plan {
  const { files, distfiles } = miniTree(OTHER_SHELL);
  const kept = Object.entries(files).filter(([path]) => !path.endsWith(".kaem"));
  const bakes = kept.filter(([path]) => path.endsWith("1.sh"))
    .map(([path, text]) => [path.replace(/sh$/, "bake"), text]);
  const all = { ...Object.fromEntries(kept), ...Object.fromEntries(bakes) };
  const { tree } = writeMiniTree(temp.make(), { files: all, distfiles });
  return makePlan(readTree(tree), buildOptions(changes), new Map());
}

test("a checkout whose early scripts are not for kaem has no overlay", () => {
  for (const payload of ["always", "auto"] as const) {
    expect(() => otherShell({ ...ALL, payload })).toThrow(
      "the early scripts of the checkout are .bake, the importer has one for kaem",
    );
  }
  const made = otherShell({ ...ALL, payload: "never" });
  expect(made.overlay.files).toEqual(["steps/bootstrap.cfg"]);
  expect(made.missing).toEqual([]);
  expect(made.warnings).toEqual([
    "steps/beta-2.0/none is empty and will be lost at jump: fiwix: no script of ours is for .bake",
  ]);
});

test("an empty submodule is an error only where the bootstrap needs it", () => {
  const inner = ["x86", "AMD64", "bootstrap-seeds"]
    .map((name) => `[submodule "${name}"]\n  path = ${name}\n`).join("");
  const files = { "seed/stage0-posix/.gitmodules": inner };
  const made = plan({}, { files });
  expect(made.warnings).toEqual([
    "submodules that this build does not need are empty: seed/stage0-posix/AMD64: " +
    "the image is not that of a complete clone",
  ]);
  const { files: all, distfiles } = miniTree({ files });
  const without = Object.entries(all).filter(([path]) => !path.startsWith("seed/stage0-posix/x86"));
  const { tree } = writeMiniTree(temp.make(), { files: Object.fromEntries(without), distfiles });
  expect(() => makePlan(readTree(tree), buildOptions(), new Map())).toThrow(
    "Cannot bootstrap with this checkout: the submodule seed/stage0-posix/x86 is empty",
  );
  expect(() => makePlan(readTree(tree), buildOptions({ hasPreseed: true }), new Map()))
    .not.toThrow("submodule");
});

test("a plan reads like this", () => {
  const made = plan(ALL, { importsPayload: true }, [3000, 3001, undefined, 120_000, 5, 6]);
  expectGolden("plan.txt", `${planAsText(made, "/t", { all: true }).map(plainLine).join("\n")}\n`);
});
