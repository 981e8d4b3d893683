// SPDX-License-Identifier: MIT
/** Every command at a terminal, with hostile text in all that it reads. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { Buffer } from "node:buffer";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { shellQuote } from "../../src/launch/process.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { MAIN, run, seedstrap } from "../support/run.ts";
import { testAtTerminal } from "../support/terminal.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { sha256 } from "../fetch/servers.ts";

const temp = new TempDirs();
const test = testAtTerminal();

/** Sequences that clear, set the title, print inverse and move, by ESC and by C1. */
const ESCAPES = "\x1b[2J\x1b]0;owned\x07\x1b[7m\x9b2J\x9d0;owned\x9c\x7f\x08";
/** What changes the order of text, or is not seen. */
const ORDER = "\u202e\u2066\u200b\u061c\ufeff\u2028";
const HOSTILE = `${ESCAPES}${ORDER}`;
/** What fits into a value of a log of the preflight program. */
const LOGGED = "\x1b[2J\x1b]0;owned\x07\x9b2J\u202e\u2066";

const dir = temp.make();
const at = (name: string) => join(dir, name);
let server: Server;
let url = "";

/** Answers every request with a status text and headers full of control sequences. */
async function serveHostile(): Promise<void> {
  server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (data) => {
      const redirects = String(data).includes("redirect");
      const type = `Content-Encoding: ${HOSTILE}\r\nLocation: gopher://${HOSTILE}/\r\n`;
      const status = redirects ? "302" : "404";
      socket.end(`HTTP/1.1 ${status} ${HOSTILE}\r\n${type}Content-Length: 0\r\n\r\n`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
}

beforeAll(async () => {
  await serveHostile();
  const step = `evil${ORDER}-1.0`;
  const distfile = `d${ORDER}.tar.gz`;
  const body = new TextEncoder().encode("a distfile");
  const mini = miniTree({ importsPayload: true });
  const manifest = String(mini.files["steps/manifest"]);
  const files = {
    ...mini.files,
    "steps/manifest": `${manifest}build: ${step}\nimprove: net${ORDER}work\n`,
    [`steps/${step}/sources`]: `f ${url}/${ORDER}/x ${sha256(body)} ${distfile}\n`,
    [`steps/${step}/${HOSTILE}`]: HOSTILE,
    [`steps/${step}/pass1.kaem`]: "exec x\n",
    [`seed/${HOSTILE}`]: HOSTILE,
    [`steps/improve/net${ORDER}work.sh`]: "true\n",
  };
  const distfiles = { ...mini.distfiles, [distfile]: body };
  writeMiniTree(dir, { files, distfiles });
  const bad = `f ${url}/redirect${ORDER} ${sha256("absent")} absent${ORDER}\n`;
  writeMiniTree(at("absent"), { files: { ...files, [`steps/${step}/sources`]: bad }, distfiles });
  const changed = { ...files, [`seed/${HOSTILE}`]: `other ${HOSTILE}`, [`seed/2${HOSTILE}`]: "" };
  writeMiniTree(at("changed"), { files: changed, distfiles });
  for (const [tree, target] of [["tree", "target"], ["changed/tree", "other"]] as const) {
    const sources = ["-m", `file://${at("mirror")}`, "--distfiles", at("store")];
    const media = ["--external-sources", "--tree", at(tree), "-t", at(target)];
    const ran = await seedstrap(["build", "-b", ...sources, ...media]);
    if (ran.code !== 0) throw new Error(ran.stderr);
  }
  const record = JSON.parse(readFileSync(at("target/seedstrap.json"), "utf8"));
  const { buildDefinition } = record.predicate;
  buildDefinition.externalParameters.qemuCommand = `./${HOSTILE}`;
  for (const known of buildDefinition.internalParameters.record.distfiles) {
    known.why += HOSTILE;
    known.urls.push(`http://${HOSTILE}/`);
  }
  buildDefinition.internalParameters.record.warnings.push(HOSTILE);
  mkdirSync(at(`h${HOSTILE}`));
  writeFileSync(at("record.json"), JSON.stringify(record));
  writeFileSync(at("broken.json"), JSON.stringify({ ...record, [HOSTILE]: HOSTILE }));
  const bytes = Buffer.from(`${HOSTILE.replace("\x08", "")}\n`, "latin1");
  writeFileSync(
    at("console.log"),
    Buffer.concat([
      Buffer.from("alpha-1.0: beginning build using script pass1.sh\n"),
      Buffer.from("alpha-1.0: build successful\nguard_disk: REFUSED: "),
      bytes,
      Buffer.from(`${HOSTILE.replace("\x08", "")}: OK\nreboot: Power down\n`),
    ]),
  );
  writeFileSync(
    at("serial.log"),
    `preflight: start version=${LOGGED}\r\npreflight: boot drive=${LOGGED} state=${LOGGED}\r\n` +
      `preflight: ram use=${LOGGED} base=1\r\npreflight: verdict ok\r\n`,
  );
  writeFiles(at("runs"), {
    [`one/a${HOSTILE}.tar.bz2`]: HOSTILE,
    [`two/a${HOSTILE}.tar.bz2`]: "other",
    [`two/b${HOSTILE}.tar.bz2`]: "other",
  });
  writeFileSync(at("blank"), "");
}, 60_000);

afterAll(async () => {
  await new Promise((resolve) => server.close(resolve));
  temp.release();
});

const SOURCES = () => ["-m", `file://${at("mirror")}`, "--distfiles", at("store")];
const TREE = () => ["--tree", at("tree"), ...SOURCES()];
const BOOT = () => at("target/init.img");

/** Command lines, and what some have to print of what is hostile. */
const COMMANDS: readonly (readonly [name: string, argv: () => string[], shown?: string])[] = [
  ["an unknown option", () => ["plan", `--x${HOSTILE}`], "\\u202e"],
  ["an unknown command", () => ["image", `ls${HOSTILE}`]],
  ["a bad value", () => ["plan", "-q", "--payload", HOSTILE], "\\x9b2J"],
  ["a bad mirror", () => ["plan", "-q", "-m", HOSTILE]],
  ["a tree that is not there", () => ["plan", "-q", "--tree", `/${HOSTILE}`], "\\x1b[2J"],
  ["plan", () => ["plan", "--all", "-b", ...TREE()], "evil\\u202e"],
  ["plan --json", () => ["plan", "-b", "--json", ...TREE()], "\\u202e"],
  [
    "plan --qemu, without the distfiles",
    () => ["plan", "--all", "-q", "--tree", at("tree")],
    "\\u202e",
  ],
  [
    "build",
    () => ["build", "-b", "--external-sources", ...TREE(), "-t", at(`h${HOSTILE}`)],
    "\\x9b",
  ],
  ["build --json", () => ["build", "-b", "--json", ...TREE(), "-t", at("json")], "\\u202e"],
  ["a server that has nothing", () => [
    "build",
    "-b",
    "--external-sources",
    "--tree",
    at("absent/tree"),
    "-m",
    url,
    "--distfiles",
    at("empty-store"),
    "-t",
    at("none"),
  ], "absent\\u202e"],
  ["sources", () => ["sources", "--tree", at("tree")], "d\\u202e"],
  ["sources --json", () => ["sources", "--json", "--tree", at("tree")], "d\\u202e"],
  ["image ls", () => ["image", "ls", BOOT()], "\\x1b[2J"],
  ["image ls -l", () => ["image", "ls", "-l", BOOT()], "\\x1b[2J"],
  ["image ls --json", () => ["image", "ls", "--json", BOOT()], "\\u001b[2J"],
  ["image cat", () => ["image", "cat", BOOT(), `./${HOSTILE}`], "\\x1b[2J"],
  ["image cat of nothing", () => ["image", "cat", BOOT(), `./no${HOSTILE}`], "\\x9b2J"],
  ["image extract", () => ["image", "extract", BOOT(), "-o", at(`out${HOSTILE}`)], "\\x1b[2J"],
  ["image verify", () => ["image", "verify", "--tree", at("tree"), BOOT()]],
  ["image diff", () => ["image", "diff", BOOT(), at("other/init.img")], "\\x1b[2J"],
  ["image diff --json", () => ["image", "diff", "--json", BOOT(), at("other/init.img")], "\\u001b"],
  ["bundle create", () => ["bundle", "create", ...TREE(), "-o", at(`b${HOSTILE}.tar`)], "\\x1b[2J"],
  ["bundle ls", () => ["bundle", "ls", at(`b${HOSTILE}.tar`)], "\\x1b[2J"],
  ["bundle verify", () => ["bundle", "verify", at(`b${HOSTILE}.tar`)]],
  [
    "bundle unpack",
    () => ["bundle", "unpack", at(`b${HOSTILE}.tar`), "-o", at(`u${HOSTILE}`)],
    "\\x9b",
  ],
  ["preflight --log", () => ["preflight", "--log", at("serial.log")], "\\x1b[2J"],
  [
    "preflight --log --json",
    () => ["preflight", "--json", "--log", at("serial.log")],
    "\\u001b[2J",
  ],
  ["reproduce", () => ["reproduce", at("record.json"), ...TREE(), "-t", dir]],
  ["reproduce of what is none", () => ["reproduce", at("broken.json"), ...TREE()]],
  ["harvest", () => ["harvest", BOOT(), "-o", at(`p${HOSTILE}`)]],
  ["harvest --compare", () => ["harvest", "--compare", at("runs/one"), at("runs/two")], "\\x1b[2J"],
  ["run", () => ["run", at(`none${HOSTILE}`)], "\\x1b[2J"],
  ["watch", () => ["watch", at("console.log")], "alpha-1.0: build successful"],
  ["watch --json", () => ["watch", "--json", at("console.log")], "\\u009d"],
  ["watch --quiet", () => ["watch", "--quiet", at("console.log")], "\\x9d"],
  ["write", () => ["write", BOOT(), at(`none${HOSTILE}`)], "\\x1b[2J"],
  ["devices", () => ["devices"]],
];

/** What seedstrap itself sends: its colours, and the line of progress. */
// deno-lint-ignore no-control-regex -- it is what a terminal obeys
const OWN = /\x1b\[(?:0|1|22|3[1-6]|39)m|\r\x1b\[(?:K|\d+A\x1b\[J)/g;
const UNFIT =
  // deno-lint-ignore no-control-regex -- likewise
  /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u;

describe("at a terminal nothing hostile comes out of", () => {
  for (const [name, argv, shown] of COMMANDS) {
    test(name, async () => {
      const words = shellQuote([process.execPath, MAIN, ...argv()]);
      const { stdout, stderr } = await run(["script", "-qec", words, "/dev/null"], { cwd: dir });
      expect(stderr).toBe("");
      const text = stdout.replaceAll("\r\n", "\n").replaceAll(OWN, "");
      expect(text).not.toBe("");
      expect(text).not.toContain("bug:");
      expect(UNFIT.exec(text)).toBeNull();
      if (shown !== undefined) expect(text).toContain(shown);
    }, 30_000);
  }
});
