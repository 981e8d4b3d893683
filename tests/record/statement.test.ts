// SPDX-License-Identifier: MIT
import { piecesOfFile } from "../support/pieces.ts";
import { afterEach, expect, test } from "bun:test";
import * as fc from "fast-check";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildMedia, type BuildRequest } from "../../src/job/build.ts";
import { parseRecord, readRecordFile } from "../../src/record/read.ts";
import { type TargetRecord } from "../../src/record/types.ts";
import { compareRecords } from "../../src/record/compare.ts";
import { statementText } from "../../src/record/statement.ts";
import { VERSION } from "../../src/version.ts";
import { sha256 } from "../fetch/servers.ts";
import { sha256OfFile, TempDirs, writeFiles } from "../support/files.ts";
import { expectGolden } from "../support/golden.ts";
import { faultOf } from "../support/sources.ts";
import { buildOptions, miniTree, writeMiniTree } from "../support/tree.ts";
import { record } from "./records.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const HEAD = "0123456789abcdef0123456789abcdef01234567";

/** The program that is started in a directory. */
const SEED = { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "seed" };

async function built(changes: Parameters<typeof buildOptions>[0] = {}) {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(dir, miniTree({ importsPayload: true, files: SEED }));
  writeFiles(tree, { ".git/HEAD": `${HEAD}\n`, "seed/stage0-posix/.git": "gitdir: ../../.git\n" });
  const options = buildOptions({
    externalSources: true,
    mirrors: [{ kind: "directory", path: mirror }],
    ...changes,
  });
  const target = join(dir, "target");
  const request: BuildRequest = {
    tree,
    options,
    store: join(dir, "store"),
    target,
    force: false,
    jobs: 4,
  };
  const made = await buildMedia(request);
  const text = readFileSync(join(target, "seedstrap.json"), "utf8");
  return { dir, target, made, text, statement: JSON.parse(text) };
}

test("the statement of a miniature tree has the expected text", async () => {
  const { statement, made, dir } = await built();
  const { buildDefinition, runDetails } = statement.predicate;
  const { record } = buildDefinition.internalParameters;
  expect(buildDefinition.externalParameters).toEqual(JSON.parse(JSON.stringify(made.options)));
  expect({ ...record, options: buildDefinition.externalParameters }).toEqual(
    JSON.parse(JSON.stringify(made)),
  );
  // The plan has tests of its own; the others change with the files embedded in the program.
  buildDefinition.externalParameters = "OPTIONS";
  buildDefinition.internalParameters.record = "RECORD";
  statement.subject[0].digest.seedstrapPieces1 = "IMAGE";
  expect(runDetails.builder.version).toEqual({ seedstrap: VERSION });
  runDetails.builder.version.seedstrap = "VERSION";
  runDetails.byproducts[0].digest.sha256 = "SBOM";
  const text = JSON.stringify(statement, null, 1);
  expect(text).not.toContain(dir);
  expectGolden("statement.txt", `${text}\n`);
});

test("sha256 of a subject is of the whole file, and other digests have other keys", async () => {
  const qemu = await built({ sha256: true });
  const subjects = new Map<string, Record<string, string>>(
    qemu.statement.subject.map((s: { name: string; digest: object }) => [s.name, s.digest]),
  );
  const payload = sha256OfFile(join(qemu.target, "payload.img"));
  const [boot, other] = qemu.made.images.map(({ name, dataBytes }) => ({
    seedstrapPieces1: piecesOfFile(join(qemu.target, name), dataBytes),
    sha256: sha256(readFileSync(join(qemu.target, name)).subarray(0, dataBytes)),
  }));
  expect(subjects.get("payload.img")).toEqual({ ...other, sha256: payload });
  const { sha256: seedstrapData1, ...pieces } = boot!;
  expect(subjects.get("init.img")).toEqual({ ...pieces, seedstrapData1 });
  const { statement, target, made } = await built({ mode: "bare-metal" });
  for (const [index, { name, digest }] of statement.subject.entries()) {
    const { dataBytes } = made.images[index]!;
    expect(digest).toEqual({ seedstrapPieces1: piecesOfFile(join(target, name), dataBytes) });
  }
  const [sbom] = statement.predicate.runDetails.byproducts;
  expect(sbom.digest.sha256).toBe(sha256OfFile(join(target, sbom.name)));
});

test("a directory is recorded file by file", async () => {
  const { statement, target, made } = await built({ mode: "chroot" });
  expect(statement.subject).toHaveLength(made.files.length);
  for (const { name, digest } of statement.subject) {
    expect(digest).toEqual({ sha256: sha256OfFile(join(target, name)) });
  }
});

test("parseRecord() returns the record that statementText() was given", () =>
  fc.assert(fc.property(record, (record) => {
    expect(parseRecord(statementText(record), "x")).toEqual(record);
    expect(compareRecords(record, record)).toMatchObject({ same: true, materials: [] });
  })));

test("a distfile may have the name of an image", async () => {
  const { text } = await built({ mode: "bare-metal" });
  const { distfiles, ...rest } = parseRecord(text, "x");
  const [first, ...others] = distfiles;
  const record = { ...rest, distfiles: [{ ...first!, name: "init.img" }, ...others] };
  expect(parseRecord(statementText(record), "x")).toEqual(record);
});

test("a record has the same bytes however often it is read and written", async () => {
  const { text } = await built({ mode: "bare-metal" });
  expect(statementText(parseRecord(text, "x"))).toBe(text);
});

/** Changes the field at a path, or removes it for `undefined`, and returns the resulting error. */
function faultWith(text: string, path: string, value: unknown): string {
  const changed = JSON.parse(text);
  const keys = path.split(".");
  const last = keys.pop()!;
  let place = changed;
  for (const key of keys) place = place[key];
  if (value === undefined) delete place[last];
  else place[last] = value;
  return faultOf(() => parseRecord(JSON.stringify(changed), "x.json"));
}

const RECORD = "predicate.buildDefinition.internalParameters.record";
const OPTIONS = "predicate.buildDefinition.externalParameters";

test("parseRecord() refuses a record with a wrong field, and names the field", async () => {
  const { text } = await built();
  const ZERO = "0".repeat(64);
  const hostile: [string, unknown, string][] = [
    ["_type", "https://in-toto.io/Statement/v0.1", "_type is"],
    ["predicateType", "https://slsa.dev/provenance/v0.2", "predicateType is"],
    ["predicate.buildDefinition.buildType", "urn:other", "buildType is"],
    ["predicate.more", 1, "predicate.more is not known"],
    ["subject", {}, "subject is an object, not a list"],
    ["subject", [], "subject does not agree"],
    ["subject.0.digest", { sha256: ZERO }, "subject does not agree"],
    ["subject.0.digest", { sha256: 1 }, "subject.0.digest is an object, not a set of digests"],
    ["subject.0.annotations", [[]], "subject.0.annotations is a list, not a set of strings"],
    ["subject.1.name", "../x", "subject does not agree"],
    ["predicate.buildDefinition.resolvedDependencies", [], "does not agree"],
    ["predicate.runDetails.builder.version.seedstrap", "9", "builder does not agree"],
    [OPTIONS, [], `${OPTIONS}.mode is missing`],
    [`${OPTIONS}.mode`, "vm", 'mode is "vm", not one of qemu, bare-metal, chroot, bwrap'],
    [
      `${OPTIONS}.mode`,
      "chroot",
      "it has images, and its mode is chroot: that is not what a build",
    ],
    [`${OPTIONS}.mode`, undefined, `${OPTIONS}.mode is missing`],
    [`${OPTIONS}.arch`, "x86;id", 'arch is "x86;id", not an architecture'],
    [`${OPTIONS}.cores`, 0, `${OPTIONS}.cores is 0, not a whole number from 1 to 4096`],
    [`${OPTIONS}.cores`, "2", 'cores is "2", not a whole number'],
    [`${OPTIONS}.cores`, 1.5, "cores is 1.5, not a whole number"],
    [`${OPTIONS}.targetSizeMib`, 2 ** 40, "targetSizeMib is 1099511627776, not a whole number"],
    [`${OPTIONS}.swapMib`, -1, "swapMib is -1, not a whole number"],
    [`${OPTIONS}.interactive`, null, "interactive is null, not true or false"],
    [`${OPTIONS}.mirrors`, [{ kind: "http", url: "http://a/$(id)\n" }], "url is"],
    [`${OPTIONS}.mirrors`, [{ kind: "http", url: 'http://a"b' }], "mirrors.0.url is"],
    [`${OPTIONS}.mirrors`, [{ kind: "directory", path: "x" }], "mirrors.0.path is"],
    [`${OPTIONS}.mirrors`, [{ kind: "ftp" }], 'mirrors.0.kind is "ftp", not'],
    [`${OPTIONS}.mirrors`, [{ kind: "directory", path: "/", url: "x" }], "url is not known"],
    [`${OPTIONS}.kernel`, "../vmlinuz", 'kernel is "../vmlinuz", not an absolute path'],
    [`${OPTIONS}.internalCi`, "pass9", 'internalCi is "pass9", not one of'],
    [`${OPTIONS}.mirrorPort`, 0, "mirrorPort is 0, not a whole number"],
    [`${OPTIONS}.target`, "/", "target is not known"],
    [`${OPTIONS}.toString`, "x", "toString is not known"],
    [`${OPTIONS}.a\n\x1b${"b".repeat(99)}`, 1, String.raw`."a\n\u001bb`],
    [`${RECORD}.format`, "seedstrap-target/3", 'format is "seedstrap-target/3", not'],
    [`${RECORD}.images.0.name`, "../../etc/passwd", "images.0.name is"],
    [`${RECORD}.images.0.sizeBytes`, -1, "sizeBytes is -1, not a whole number"],
    [`${RECORD}.images.0.dataBytes`, 2 ** 40, "images.0 is an object, not one whose dataBytes"],
    [`${RECORD}.images.0.piecesSha256`, undefined, "not one with the digests of an image or"],
    [`${RECORD}.images.0.blocksSha256`, ZERO, "not one with the digests of an image or those"],
    [`${RECORD}.images.0.files.0.sha256`, "A".repeat(64), "files.0.sha256 is"],
    [`${RECORD}.images.1.name`, "init.img", "images is a list, not one with unique names"],
    [`${RECORD}.limits.0.used`, "1", 'limits.0.used is "1", not a number'],
    [`${RECORD}.distfiles.0.name`, "../x", 'name is "../x", not a distfile name'],
    [`${RECORD}.distfiles.0.size`, 0.5, "distfiles.0.size is 0.5, not a size, or null"],
    [`${RECORD}.distfiles.0.origin`, { kind: "url", url: "file:///x" }, "url is"],
    [`${RECORD}.distfiles.0.origin`, { kind: "store", url: "http://x/" }, "url is not known"],
    [`${RECORD}.servedMirrors`, [{ path: "x", port: 1 }], 'path is "x", not an absolute path'],
    [`${RECORD}.checkout.commits.0.commit`, "HEAD", 'commit is "HEAD", not a commit'],
    [`${RECORD}.checkout`, undefined, "record.checkout is missing"],
    [`${RECORD}.builderSha256`, ZERO, "builder does not agree"],
    [`${RECORD}.mke2fs`, "1.47.0", "builder does not agree"],
    ["predicate.runDetails.builder.version.mke2fs", "1.47.0", "builder does not agree"],
  ];
  const { text: directory } = await built({ mode: "bwrap" });
  expect(faultWith(directory, `${OPTIONS}.mode`, "qemu")).toContain(
    "it has a directory, and its mode is qemu: that is not what a build leaves",
  );
  for (const [path, value, wanted] of hostile) {
    const fault = faultWith(text, path, value);
    expect(fault).toStartWith("Cannot understand x.json: ");
    expect(fault).toContain(wanted);
  }
  expect(faultOf(() => parseRecord("[".repeat(1e6), "x.json"))).toStartWith("Cannot understand");
  const own = text.replace('"externalParameters": {', '"externalParameters": {"__proto__": {},');
  expect(faultOf(() => parseRecord(own, "x.json"))).toContain("__proto__ is not known");
});

test("parseRecord() refuses a damaged record with an error, and does not crash", async () => {
  const { text } = await built({ mode: "bare-metal" });
  const change = fc.record({
    at: fc.nat({ max: text.length - 1 }),
    cut: fc.nat({ max: 40 }),
    put: fc.constantFrom("null", "{}", "[]", '"x"', "-1", "1e400", "true", ""),
  });
  fc.assert(
    fc.property(change, ({ at, cut, put }) => {
      const read = settle(() => parseRecord(text.slice(0, at) + put + text.slice(at + cut), "x"));
      if (typeof read === "string") expect(read).toStartWith("Cannot understand x: ");
      else expect(parseRecord(statementText(read), "x")).toEqual(read);
    }),
    { numRuns: 300 },
  );
});

test("readRecordFile() does not read a file of more than 16 MiB", () => {
  const path = join(temp.make(), "seedstrap.json");
  writeFileSync(path, "{}");
  expect(faultOf(() => readRecordFile(path))).toContain("_type is missing");
  truncateSync(path, 16 * 1024 * 1024 + 1);
  expect(faultOf(() => readRecordFile(path))).toContain("it has 16777217 bytes, at most");
});

/** Returns what was parsed, or the error. */
function settle(parse: () => TargetRecord): TargetRecord | string {
  try {
    return parse();
  } catch {
    return faultOf(parse);
  }
}
