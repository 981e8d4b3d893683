// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { type BuildOptions, defaultOptions } from "../../src/plan/options.ts";
import { brokenLimits, makePlan } from "../../src/plan/plan.ts";
import { payloadSums } from "../../src/plan/restore.ts";
import type { Plan } from "../../src/plan/types.ts";
import { readTree } from "../../src/tree/model.ts";
import { TempDirs } from "../support/files.ts";
import { buildOptions, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Plans a build that includes every distfile, each of this size. */
function plan(changes: Partial<BuildOptions>, options: MiniOptions = {}, size = 3000): Plan {
  const mini = miniTree({ movesToDisk: true, ...options });
  const tree = readTree(writeMiniTree(temp.make(), mini).tree);
  const sizes = new Map(Object.keys(mini.distfiles).map((name) => [name, size]));
  const base = { externalSources: true, targetSizeMib: 2000 };
  return makePlan(tree, buildOptions({ ...base, ...changes }), sizes);
}

/** Returns the text of a file that exists only in the image. */
function generated(plan: Plan, path: string): string | undefined {
  const entry = plan.entries.find((entry) => entry.path === `./${path}`);
  return entry?.content.kind === "generated"
    ? new TextDecoder().decode(entry.content.bytes)
    : undefined;
}
const LIST = "steps/payload-import-1.0/fiwix.list";
const REST = "steps/payload-import-1.0/rest.list";

test("one phase restores everything after the jump to Fiwix", () => {
  const made = plan({});
  expect(made.restore).toMatchObject({ phases: 1, layout: 64, importer: "overlay" });
  expect(generated(made, LIST)).toBe(
    "beta-2.0.tar.gz\ndelta-5.0.tar.gz\ngamma-3.0.tar.gz\nlinux-4.0.tar.gz\nomega-6.0.tar.gz\n",
  );
  expect(generated(made, REST)).toBeUndefined();
  expect(generated(made, "steps/improve/import_payload_rest.sh")).toBeUndefined();
  expect(generated(made, "steps/payload-import-1.0/src/payload-import.c")).toContain("LBPAYLD1");
  expect(generated(made, "steps/manifest")).toContain("\nimprove: import_payload (");
});

test("two phases have a list each, and the lists together have all files", () => {
  const made = plan({ payloadPhases: "two" });
  expect(made.restore?.phases).toBe(2);
  expect(generated(made, LIST)).toBe("beta-2.0.tar.gz\ngamma-3.0.tar.gz\nlinux-4.0.tar.gz\n");
  expect(generated(made, REST)).toBe("delta-5.0.tar.gz\nomega-6.0.tar.gz\n");
  expect(generated(made, "steps/improve/import_payload_rest.sh")).toContain("rest.list");
  expect(generated(made, "steps/manifest")).toContain(
    "improve: finalize_fhs\nimprove: import_payload_rest (",
  );
});

test("auto computes the use of both ramdisks with one phase", () => {
  const fits = plan({});
  expect(fits.restore?.inOneGo?.kexec).toEqual({ used: 12_000, expected: 0, limit: 512 * 1024 });
  expect(plan({}, { kexecKib: 8 }).restore?.phases).toBe(2);
  const large = plan({}, { ramdiskKib: 400 }, 70_000);
  expect(large.restore?.phases).toBe(2);
  expect(brokenLimits(large)).toEqual([]);
  const forced = plan({ payloadPhases: "one" }, { ramdiskKib: 400 }, 70_000);
  expect(forced.restore?.phases).toBe(1);
  expect(brokenLimits(forced).map(({ id }) => id)).toEqual(["fiwix-ramdisk"]);
});

test("if two phases are not possible, the limit is broken", () => {
  const options = { movesToDisk: false, ramdiskKib: 400 };
  const made = plan({}, options, 70_000);
  expect(made.restore).toMatchObject({
    phases: 1,
    obstacle: 'the manifest has no "jump: move_disk"',
  });
  expect(brokenLimits(made).map(({ id }) => id)).toEqual(["fiwix-ramdisk"]);
  expect(() => plan({ payloadPhases: "two" }, options)).toThrow("Cannot use --payload-phases two");
});

const WITH_SEED = {
  files: { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "the seed" },
};
/** The overlay of a plan that installs to a disk, and needs nothing else. */
const GUARDED = {
  manifestLines: [
    { text: "improve: guard_disk ( KERNEL_BOOTSTRAP == True )", place: "before jump: move_disk" },
  ],
  files: [
    "steps/bootstrap.cfg",
    "steps/manifest",
    "steps/improve/guard_disk.sh",
    "steps/improve/guard_disk.boot",
  ],
  madeAgain: [],
};

test("a checkout with an importer is used as it is, with the layout that it reads", () => {
  const own = plan({}, { importsPayload: true });
  expect(own.restore).toMatchObject({ importer: "checkout", layout: 32, phases: 1 });
  expect(own.overlay).toEqual(GUARDED);
  const wide = plan({}, {
    importsPayload: true,
    files: {
      "steps/manifest": miniTree({ importsPayload: true, movesToDisk: true })
        .files["steps/manifest"]!
        .toString().replace("jump: fiwix", "build: payload-import-2.0\njump: fiwix"),
      "steps/payload-import-2.0/src/payload-import.c": "/* reads layout 64 too */\n",
    },
  });
  expect(wide.restore?.layout).toBe(64);
  const wrong = plan({ payloadLayout: 64 }, { importsPayload: true });
  expect(wrong.warnings.join()).toContain("reads layout 32 only");
});

test("distfiles and swap on the disk of the system count against its size", () => {
  const used = (made: Plan) => made.limits.find(({ id }) => id === "system-disk")?.used;
  const two = { payloadPhases: "two", targetSizeMib: 2048 } as const;
  // linux-4.0 and all after it, and alpha, which is built again at the end.
  expect(used(plan(two))).toBe(4 * 3000);
  expect(used(plan({ ...two, swapMib: 1 }))).toBe(4 * 3000 + 1024 * 1024);
  expect(used(plan({ externalSources: false, targetSizeMib: 2048 }))).toBe(4 * 3000);
  expect(used(plan({ ...two, disk: "sdc" }))).toBeUndefined();
  expect(brokenLimits(plan({ ...two, swapMib: 1024 })).map(({ id }) => id)).toEqual([
    "system-disk",
  ]);
});

test("the disk is looked at where the system is installed to one, and nowhere else", () => {
  const guards = (made: Plan) => made.overlay.manifestLines.some(({ text }) => /guard_/.test(text));
  expect(guards(plan({ payload: "never" }))).toBe(true);
  expect(guards(plan({}, { movesToDisk: false }))).toBe(false);
  for (const mode of ["chroot", "bwrap"] as const) {
    expect(guards(plan(defaultOptions(mode), WITH_SEED))).toBe(false);
  }
  expect(guards(plan({ kernel: "/boot/vmlinuz" }, WITH_SEED))).toBe(false);
});

test("without a payload the image has nothing of the importer", () => {
  const made = plan({ externalSources: false });
  expect(made.restore).toBeUndefined();
  expect(made.overlay).toEqual(GUARDED);
});

test("an air-gapped machine has every distfile and waits for no network", () => {
  expect(() => plan({ airGapped: true, externalSources: false })).toThrow(
    "Cannot use --air-gapped: the machine would have to download 1 distfile itself",
  );
  expect(plan({}).advice.join()).toContain(
    "use --air-gapped, or the run fails at improve: get_network",
  );
  const made = plan({ airGapped: true });
  expect(made.advice).toEqual([]);
  expect(made.config).toEndWith("PAYLOAD_REQUIRED=True\nAIR_GAPPED=True\n");
  expect(generated(made, "steps/manifest")).toContain(
    "improve: get_network ( AIR_GAPPED != True && CHROOT == False )",
  );
});

test("a kexec-fiwix.c that is not the known version leads to a warning", () => {
  const manifest = miniTree({ movesToDisk: true }).files["steps/manifest"]!.toString();
  const made = plan({}, {
    files: {
      "steps/manifest": manifest.replace("jump: fiwix", "build: kexec-fiwix-1.0\njump: fiwix"),
      "steps/kexec-fiwix-1.0/src/kexec-fiwix.c": "int main() { return 1; }\n",
    },
  });
  expect(made.warnings.join()).toContain(
    "steps/kexec-fiwix-1.0/src/kexec-fiwix.c is not the version",
  );
});

test("payloadSums() equals the output of sha256sum, sorted bytewise", () => {
  const made = plan({});
  const lines = payloadSums(made.distfiles).split("\n");
  expect(lines.pop()).toBe("");
  expect(lines.map((line) => line.slice(66))).toEqual([
    "beta-2.0.tar.gz",
    "delta-5.0.tar.gz",
    "gamma-3.0.tar.gz",
    "linux-4.0.tar.gz",
    "omega-6.0.tar.gz",
  ]);
  expect(lines.every((line) => /^[0-9a-f]{64} {2}\S/.test(line))).toBe(true);
});
