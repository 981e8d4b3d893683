// SPDX-License-Identifier: MIT
/**
 * The rooms of src/, and the rule that holds between them: a room imports only rooms above it in
 * the table, and no imports form a cycle.
 *
 * usage: bun scripts/rooms.ts [--check | --write | --count]
 *
 * --check fails if the rule is broken, if a file is in no room, or if CONTRIBUTING.md has another
 * table. --write puts the table there. --count prints lines and files by room.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import process from "node:process";

/** Every room and its content, the base first. A name with a dot is a file, else a directory. */
const ROOMS: readonly (readonly [name: string, holds: string])[] = [
  ["errors.ts", "the one error class and its exit codes"],
  ["text.ts", "text from outside, made fit for a terminal"],
  ["refused.ts", "what the system refused to read or write, and what helps"],
  ["read.ts", "opens what is read, and reads files whole, with a limit"],
  ["bytes.ts", "bytes compared, sorted, hashed, tested for zeros; UUIDs"],
  ["progress.ts", "how far long work is, as it tells whoever wants to know"],
  ["json.ts", "JSON checked by a schema, field by field"],
  ["version.ts", "the version"],
  ["assets.gen.ts", "the embedded files: `steps/` and the demo (generated)"],
  ["runtime", "the little that differs between Bun and Deno; FFI; locks; threads"],
  ["launch", "processes: QEMU and its accelerators, chroot, bwrap, containers, mounts, interrupts"],
  ["console", "what a guest prints, as events, and how a run is judged by them"],
  ["fetch", "URLs to the store: names of distfiles, HTTP, mirrors, git; serving"],
  ["format", "one file for each format: its specification, its writer, its reader"],
  ["source", "where bytes come from: a file, a device, the parts of a bundle; extents"],
  ["hash", "SHA-256 of files on every core: the pool of threads, and what each of them does"],
  ["archive", "tars that are not trusted: expanded as streams, compared"],
  ["image", "one view of boot image, payload image, disk, container and bundle; verify, diff"],
  ["tree", "what a checkout says: manifest, predicates, sources, bootstrap.cfg"],
  ["plan", "options and a tree in, a plan out: overlay, split, limits, media, command lines; pure"],
  ["record", "what was built from what: the record of a target, read, written, compared"],
  ["report", "the report of a target: the record and the runs in, a page of HTML out; pure"],
  ["write", "segments to file, directory, disk; atomic commit; extraction"],
  ["device", "block devices: what there is, who uses it, writing it"],
  ["preflight", "the preflight image and its report"],
  ["doctor", "what this machine has of what a bootstrap needs: each check, by trying it"],
  ["demo", "the miniature tree"],
  [
    "job",
    "the flows: build, run, bundle, reproduce, harvest, write; each reads from top to bottom",
  ],
  ["cli", "one file for each command; only this room prints, or parses options"],
];

/** The entry point of the library, which may import all rooms. */
const FACE = "mod.ts";

const ROOT = join(import.meta.dirname!, "..");
const DOCUMENT = "CONTRIBUTING.md";
const [BEGIN, END] = ["<!-- rooms: made by scripts/rooms.ts -->", "<!-- rooms end -->"];

const files = [
  FACE,
  ...readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts")).map((path) => `src/${path}`).sort(),
];
const imports = new Map(files.map((file) => [file, importsOf(file)]));

/** Paths of the files that a file imports, types included. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(ROOT, file), "utf8");
  const found = text.matchAll(/^(?:import|export)\b(?:[^"';]*?\bfrom)?\s*"(\.[^"]+\.ts)"/gm);
  return [...found].map(([, path]) => normalize(join(dirname(file), path!)));
}

/** Returns the index of the room of a file; mod.ts comes after all rooms, -1 is no room. */
function roomOf(file: string): number {
  if (file === FACE) return ROOMS.length;
  const [, name] = file.split("/");
  return ROOMS.findIndex(([room]) => room === name);
}

function wrongWay(): string[] {
  return files.flatMap((file) => {
    const room = roomOf(file);
    if (room < 0) return [`${file} is in no room: add its directory to the table`];
    return imports.get(file)!.filter((other) => roomOf(other) > room)
      .map((other) => `${file} imports ${other}, which is in a room below its own`);
  });
}

/** Files that import each other in a circle, each circle once. */
function circles(): string[] {
  const state = new Map<string, "open" | "done">();
  const path: string[] = [];
  const found: string[] = [];
  const visit = (file: string): void => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      found.push(`a circle: ${[...path.slice(path.indexOf(file)), file].join(" -> ")}`);
      return;
    }
    state.set(file, "open");
    path.push(file);
    for (const other of imports.get(file) ?? []) visit(other);
    path.pop();
    state.set(file, "done");
  };
  for (const file of files) visit(file);
  return found;
}

/** Names that more than one file exports: a reader of an import could take one for the other. */
function sharedNames(): string[] {
  const exporters = new Map<string, string[]>();
  for (const file of files) {
    const text = readFileSync(join(ROOT, file), "utf8");
    const found = text.matchAll(
      /^export (?:async )?(?:function\*?|const|let|class|interface|type|enum) (\w+)/gm,
    );
    for (const name of new Set([...found].map(([, name]) => name!))) {
      exporters.set(name, [...exporters.get(name) ?? [], file]);
    }
  }
  return [...exporters].filter(([, from]) => from.length > 1)
    .map(([name, from]) => `${name} is exported by ${from.join(" and ")}: give one another name`);
}

function table(): string {
  const label = (name: string) => name.includes(".") ? `\`${name}\`` : `\`${name}/\``;
  const names = ROOMS.map(([name]) => label(name).length);
  const width = Math.max(...names);
  const texts = Math.max(...ROOMS.map(([, holds]) => holds.length));
  const row = (a: string, b: string) => `| ${a.padEnd(width)} | ${b.padEnd(texts)} |`;
  return [
    row("room", "holds"),
    `| ${"-".repeat(width)} | ${"-".repeat(texts)} |`,
    ...ROOMS.map(([name, holds]) => row(label(name), holds)),
  ].join("\n");
}

/** Returns the document with the current table, or undefined if it has no markers for it. */
function withTable(text: string): string | undefined {
  const [before, rest] = split(text, BEGIN);
  const [, after] = split(rest, END);
  return after === undefined ? undefined : `${before}${BEGIN}\n\n${table()}\n\n${END}${after}`;
}

function split(text: string | undefined, by: string): [string?, string?] {
  const at = text?.indexOf(by) ?? -1;
  return at < 0 ? [] : [text!.slice(0, at), text!.slice(at + by.length)];
}

function count(): string[] {
  const rows = ROOMS.map(([name], room) => {
    const own = files.filter((file) => roomOf(file) === room);
    const lines = own.map((file) => readFileSync(join(ROOT, file), "utf8").split("\n").length - 1);
    return { name, files: own.length, lines: lines.reduce((sum, n) => sum + n, 0) };
  });
  const arrows = new Set(
    files.flatMap((file) => imports.get(file)!.map((other) => [roomOf(file), roomOf(other)]))
      .filter(([from, to]) => from !== to).map(String),
  );
  return [
    ...rows.map(({ name, files, lines }) => `${name}: ${files} files, ${lines} lines`),
    `${ROOMS.length} rooms, ${arrows.size} arrows, ${circles().length} circles`,
  ];
}

const [mode = "--check", ...rest] = process.argv.slice(2);
if (rest.length > 0 || !["--check", "--write", "--count"].includes(mode)) {
  process.stderr.write("usage: rooms.ts [--check | --write | --count]\n");
  process.exit(2);
}
if (mode === "--count") process.stdout.write(`${count().join("\n")}\n`);
else {
  const path = join(ROOT, DOCUMENT);
  const text = readFileSync(path, "utf8");
  const wanted = withTable(text);
  if (mode === "--write" && wanted !== undefined) writeFileSync(path, wanted);
  const faults = [
    ...wrongWay(),
    ...circles(),
    ...sharedNames(),
    ...(wanted === undefined ? [`${DOCUMENT} has no markers for the table of rooms`] : []),
    ...(mode === "--check" && wanted !== undefined && wanted !== text
      ? [`${DOCUMENT} shows another table of rooms: run bun scripts/rooms.ts --write`]
      : []),
  ];
  for (const fault of faults) process.stderr.write(`${fault}\n`);
  if (faults.length > 0) process.exitCode = 1;
}
