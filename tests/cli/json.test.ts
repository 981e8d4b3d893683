// SPDX-License-Identifier: MIT
/** What scripts get from `--json`: one object, whatever the command and however it ends. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { EXIT } from "../../src/errors.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { run, seedstrap } from "../support/run.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const dir = temp.make();
const at = (name: string) => join(dir, name);
let args: string[] = [];

beforeAll(async () => {
  args = setUp(dir);
  expect(await buildIn(dir, args)).toMatchObject({ code: 0 });
  const bundle = ["bundle", "create", ...args, "-o", at("lb.tar")];
  expect(await seedstrap(bundle)).toMatchObject({ code: 0 });
  const damaged = readFileSync(at("lb.tar"));
  damaged[damaged.length - 20_000]! ^= 1;
  writeFileSync(at("damaged.tar"), damaged);
  const cut = readFileSync(at("target/payload.img"));
  writeFileSync(at("cut.img"), cut.subarray(0, 10_000));
  copyFileSync(at("target/init.img"), at("drive"));
  writeFileSync(at("noise"), "no image");
  writeFileSync(at("serial.log"), "preflight: verdict ok\n");
  writeFileSync(at("bad.log"), "preflight: verdict failed memory\n");
  writeFiles(dir, { "run1/a.tar.bz2": "one", "run2/a.tar.bz2": "other" });
}, 60_000);

const BUILD = ["-b", "--external-sources"];
const write = (image: string) => ["write", "--file", "--yes", "drive", image, at("drive")];

/** Commands that end well, and a field that each has to print. */
const WELL: readonly (readonly [argv: () => readonly string[], field: string])[] = [
  [() => ["plan", ...BUILD, ...args], "limits"],
  [() => ["build", ...BUILD, ...args, "-t", at("again")], "images"],
  [() => ["sources", "--tree", at("tree")], "sources"],
  [() => ["fetch", ...args], "files"],
  [() => ["store", "ls", "--store", at("store")], "files"],
  [() => ["store", "verify", "--store", at("store")], "verified"],
  [() => ["store", "gc", "--store", at("store"), "--tree", at("tree")], "bytes"],
  [() => ["checkpoint", "ls", at("target")], "checkpoints"],
  [() => ["mirror", at("m"), ...args], "findings"],
  [() => ["image", "ls", at("target/init.img")], "entries"],
  [() => ["image", "verify", at("target/init.img")], "files"],
  [() => ["image", "verify", at("lb.tar")], "faults"],
  [() => ["image", "diff", at("target/init.img"), at("target/init.img")], "differences"],
  [() => ["image", "digest", at("target/init.img"), at("lb.tar")], "digests"],
  [() => ["bundle", "create", ...args, "-o", at("other.tar")], "parts"],
  [() => ["bundle", "verify", at("lb.tar")], "faults"],
  [() => ["bundle", "ls", at("lb.tar")], "entries"],
  [() => ["preflight", "--log", at("serial.log")], "verdict"],
  [() => ["preflight", "-b", "-o", at("stick.img")], "sha256"],
  [() => ["harvest", "--compare", at("run1"), at("run1")], "equal"],
  [() => ["reproduce", at("target/seedstrap.json"), ...args], "same"],
  [() => ["report", at("target"), "-o", at("report.html")], "sizeBytes"],
  [() => ["devices"], "devices"],
  [() => ["doctor", "-b", ...args, "-t", at("target")], "checks"],
  [() => ["explain", at("serial.log")], "cause"],
  [() => ["ps"], "runs"],
  [() => write(at("target/init.img")), "device"],
];

/** Commands that fail, the kind of the failure, and what they print all the same. */
const FAILING: readonly (readonly [() => readonly string[], keyof typeof EXIT, string?])[] = [
  [() => ["plan", "--biuld"], "usage"],
  [() => ["biuld"], "usage"],
  [() => ["image"], "usage"],
  [() => ["plan", ...BUILD, "--tree", at("none")], "tree"],
  [() => ["plan", "-q", "-qr100", ...args], "limit", "limits"],
  [() => ["build", ...BUILD, "--offline", "--tree", at("tree"), "--distfiles", at("s")], "fetch"],
  [() => ["sources", "--tree", at("none")], "tree"],
  [() => ["mirror", at("noise"), "--tree", at("tree")], "target"],
  [() => ["mirror", "--check", "--tree", at("tree")], "fetch", "findings"],
  [() => ["image", "ls", at("noise")], "format"],
  [() => ["image", "verify", at("cut.img")], "format"],
  [() => ["image", "diff", at("target/init.img"), at("cut.img")], "format"],
  [() => ["image", "diff", at("target/init.img"), at("lb.tar")], "different", "differences"],
  [() => ["image", "digest", at("none")], "target"],
  [() => ["bundle", "create", ...args, "-o", at("run1")], "target"],
  [() => ["bundle", "verify", at("damaged.tar")], "verify", "faults"],
  [() => ["bundle", "ls", at("noise")], "format"],
  [() => ["preflight", "--log", at("noise")], "format"],
  [() => ["preflight", "--log", at("bad.log")], "preflight", "verdict"],
  [() => ["harvest", at("target/init.img"), "-o", at("out")], "format"],
  [() => ["harvest", "--compare", at("run1"), at("run2")], "different", "differences"],
  [() => ["reproduce", at("none"), ...args], "target"],
  [() => ["run", at("none")], "target"],
  [() => ["resume", at("none")], "target"],
  [() => ["run", at("none"), "--detach"], "target"],
  [() => ["attach", at("none")], "target"],
  [() => ["stop", at("none")], "target"],
  [() => ["watch", at("none")], "target"],
  [() => ["checkpoint", "export", at("none"), "-o", at("x.zst")], "target"],
  [() => ["checkpoint", "import", at("none"), at("target")], "target"],
  [() => ["checkpoint", "disk", at("target"), "-o", at("run1")], "target"],
  [() => ["store", "verify", "--store", at("noise")], "usage"],
  [() => ["serve", at("none")], "target"],
  [() => ["image", "convert", at("none"), "--to", "vdi", "-o", at("x.vdi")], "target"],
  [() => ["doctor", "-q", "--accel", "tcg", "-qc", at("none"), "-t", at("t")], "launch", "checks"],
  [() => ["explain", at("target")], "target"],
  [() => write(at("noise")), "format"],
];

describe("--json is one object with the version of its shape", () => {
  for (const [argv, field] of WELL) {
    test(argv().slice(0, 2).join(" "), async () => {
      const ran = await seedstrap([...argv(), "--json"]);
      const { schema, error, ...result } = JSON.parse(ran.stdout);
      expect({ schema, error, code: ran.code }).toEqual({ schema: 1, error: undefined, code: 0 });
      expect(Object.keys(result)).toContain(field);
    }, 30_000);
  }
});

describe("--json says how a command has failed, as standard error does", () => {
  for (const [argv, kind, field] of FAILING) {
    test(`${argv().slice(0, 2).join(" ")}: ${kind}`, async () => {
      const ran = await seedstrap([...argv(), "--json"]);
      const { schema, error, ...result } = JSON.parse(ran.stdout);
      expect(schema).toBe(1);
      expect(error).toMatchObject({ kind, code: EXIT[kind] });
      expect(Object.keys(error)).toEqual(["kind", "code", "message", "place", "hint"]);
      expect(ran.code).toBe(EXIT[kind]);
      expect(ran.stderr).toContain(`seedstrap: ${error.message.split("\n")[0]}\n`);
      if (error.place !== null) expect(ran.stderr).toContain(`\n  at ${error.place}\n`);
      if (error.hint !== null) expect(ran.stderr).toContain(`\n  hint: ${error.hint}\n`);
      if (field === undefined) expect(result).toEqual({});
      else expect(Object.keys(result)).toContain(field);
    }, 30_000);
  }

  test("every command that has --json is among them", async () => {
    const withJson: string[] = [];
    const visit = async (words: readonly string[]): Promise<void> => {
      const { stdout } = await seedstrap([...words, "--help"]);
      if (/^ {2}--json /m.test(stdout)) withJson.push(words.join(" "));
      if (words.length > 0 && !/^Commands:$/m.test(stdout)) return;
      // Several commands may share a line.
      for (const [, names] of stdout.matchAll(/^ {2}([a-z]+(?:, [a-z]+)*) /gm)) {
        for (const name of names!.split(", ")) {
          if (name !== "help") await visit([...words, name]);
        }
      }
    };
    await visit([]);
    const tried = [...WELL, ...FAILING].map(([argv]) => argv().join(" "));
    expect(withJson.filter((name) => !tried.some((line) => line.startsWith(name)))).toEqual([]);
    expect(withJson.length).toBeGreaterThanOrEqual(25);
  }, 30_000);
});

test("a list that ends early is closed, and followed by the error", async () => {
  const program = join(temp.make(), "list.ts");
  const from = (path: string) => JSON.stringify(join(import.meta.dirname!, "../../src", path));
  writeFileSync(
    program,
    `import { endJson, printJsonList } from ${from("cli/json.ts")};
     import { UserError } from ${from("errors.ts")};
     function* items() {
       yield { path: "a\u009b" };
       throw new UserError("format", "Cannot go on", { where: "here" });
     }
     await printJsonList("entries", items()).catch(endJson);`,
  );
  const ran = await run([process.execPath, program]);
  expect(ran.stdout).not.toMatch(/[^\P{Cc}\n]/u);
  expect(JSON.parse(ran.stdout)).toEqual({
    schema: 1,
    entries: [{ path: "a\u009b" }],
    error: { kind: "format", code: 6, message: "Cannot go on", place: "here", hint: null },
  });
});
