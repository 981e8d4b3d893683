// SPDX-License-Identifier: MIT
/** Files that cannot be read, or are not what they should be, are errors of the user, not bugs. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { asNobody, nobodyObstacle } from "../support/nobody.ts";
import { type Ran, seedstrap } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { ODD } from "./odd_arguments.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const why = nobodyObstacle();
if (why !== undefined) console.log(`skipped: tests as another user: ${why}`);

function expectNoBug({ code, stdout, stderr }: Ran): void {
  expect(`${stdout}${stderr}`).not.toMatch(/bug:|undefined|NaN|\[object/);
  // A stack trace.
  expect(`${stdout}${stderr}`).not.toMatch(/^\s+at .*:\d+:\d+\)$/m);
  expect(code).not.toBe(1);
}

describe.skipIf(why !== undefined)("as an ordinary user", () => {
  const dir = temp.make();
  let command: string[] = [];
  let tree = "";
  const call = (...args: string[]) => seedstrap(args, { command, cwd: dir });

  beforeAll(async () => {
    command = asNobody(dir);
    ({ tree } = writeMiniTree(dir, miniTree({ importsPayload: true })));
    spawnSync("chown", ["-R", "65534:65534", join(dir, "tree"), join(dir, "mirror")]);
    mkdirSync(join(dir, "work"));
    spawnSync("chown", ["65534:65534", join(dir, "work")]);
    const sources = ["-m", `file://${join(dir, "mirror")}`, "--distfiles", join(dir, "work/store")];
    const target = ["--tree", tree, "-t", join(dir, "work/target")];
    expect(await call("build", "-b", "--external-sources", ...sources, ...target))
      .toMatchObject({ code: 0 });
  });

  /** Runs commands while a file is something else. */
  async function whileOdd(
    path: string,
    make: (path: string) => void,
    run: () => Promise<void>,
  ): Promise<void> {
    const kept = join(dir, "kept");
    renameSync(path, kept);
    make(path);
    try {
      await run();
    } finally {
      rmSync(path, { recursive: true, force: true });
      renameSync(kept, path);
    }
  }

  const FILES = ["steps/manifest", "steps/alpha-1.0/sources", "steps/alpha-1.0/pass1.sh"];
  for (const [kind, make] of Object.entries(ODD)) {
    test(`a file of the checkout that is ${kind} is no bug`, async () => {
      for (const file of FILES) {
        await whileOdd(join(tree, file), make, async () => {
          const ran = await call("plan", "-b", "--external-sources", "--tree", tree);
          expectNoBug(ran);
          expect([0, 3, 8]).toContain(ran.code);
        });
      }
    }, 30_000);

    test(`a file of a target that is ${kind} is no bug`, async () => {
      const image = join(dir, "work/target/init.img");
      for (const path of [image, join(dir, "work/target/seedstrap.json")]) {
        await whileOdd(path, make, async () => {
          expectNoBug(await call("image", "verify", image));
          expectNoBug(
            await call("preflight", "--bare-metal", "-o", join(dir, "no/x"), "work/target"),
          );
        });
      }
    }, 30_000);
  }

  test("a directory that may not be entered is named", async () => {
    const cases = [
      [join(tree, "steps/alpha-1.0"), ["plan", "-b", "--tree", tree], 3],
      [join(tree, "steps"), ["plan", "-b", "--tree", tree], 3],
      [tree, ["sources", "--tree", tree], 3],
      [join(dir, "work/target"), ["image", "ls", join(dir, "work/target/init.img")], 7],
      [join(dir, "work/target"), ["run", join(dir, "work/target")], 7],
    ] as const;
    for (const [place, args, code] of cases) {
      chmodSync(place, 0);
      const ran = await call(...args);
      chmodSync(place, 0o755);
      expectNoBug(ran);
      expect(ran.stderr).toContain("EACCES");
      expect(ran.stderr).toContain(place);
      expect(ran.code).toBe(code);
    }
  });
});

test("a file of a step with a newline in its name is named, by plan, build and bundle", async () => {
  const dir = temp.make();
  const files = { "steps/alpha-1.0/a\nb": "" };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ importsPayload: true, files }));
  const sources = ["--tree", tree, "-m", `file://${mirror}`, "--distfiles", join(dir, "store")];
  for (
    const args of [
      ["plan", "-b", ...sources],
      ["build", "-b", "--external-sources", ...sources, "-t", join(dir, "target")],
      ["bundle", "create", ...sources, "-o", join(dir, "b.tar")],
    ]
  ) {
    const ran = await seedstrap(args);
    expect(ran.stderr).toContain('"alpha-1.0/a\\nb": its name has a newline');
    expect(ran.code).toBe(3);
  }
});

test("a manifest of 5 GiB is too long, and paths that lead nowhere are named", async () => {
  const dir = temp.make();
  const { tree } = writeMiniTree(dir);
  truncateSync(join(tree, "steps/manifest"), 5 * 1024 ** 3);
  const long = await seedstrap(["plan", "-b", "--tree", tree]);
  expect(long.stderr).toContain("it has 5368709120 bytes, at most 4194304 are read");
  expect(long.code).toBe(3);
  symlinkSync("loop", join(dir, "loop"));
  for (const path of [join(dir, "loop"), `/${"x".repeat(300)}`]) {
    for (const args of [["plan", "-b", "--tree", path], ["image", "ls", path], ["run", path]]) {
      const ran = await seedstrap(args);
      expectNoBug(ran);
      expect([3, 7]).toContain(ran.code);
    }
    const out = await seedstrap(["preflight", "--bare-metal", "-o", join(path, "x")]);
    expectNoBug(out);
    expect(out.code).toBe(7);
  }
}, 30_000);
