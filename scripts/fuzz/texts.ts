// SPDX-License-Identifier: MIT
/**
 * Readers of texts: checkouts, records, reports, consoles, command lines.
 *
 * @module
 */
import { CommanderError } from "@commander-js/extra-typings";
import fc from "fast-check";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { expandAbbreviations, expandShortOptions } from "../../src/cli/argv.ts";
import { parsePlanRequest, planCommandBase } from "../../src/cli/options.ts";
import { LineReader } from "../../src/console/lines.ts";
import { RunWatch } from "../../src/console/outcome.ts";
import { PlainOutput } from "../../src/console/plain.ts";
import { UserError } from "../../src/errors.ts";
import { distfileNameFault } from "../../src/fetch/distfile_name.ts";
import { parseContentRange, parseRetryAfter } from "../../src/fetch/download.ts";
import { bareUrl, plainText, publicUrl } from "../../src/fetch/failure.ts";
import { parseMirror } from "../../src/fetch/mirror.ts";
import { ORIGINS_DIR, recallOrigin } from "../../src/fetch/origin.ts";
import { formatBmap, readBmap } from "../../src/format/bmap.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { formatSums, parseSums } from "../../src/format/sums.ts";
import { planBuild } from "../../src/job/build.ts";
import { checkVerdict } from "../../src/preflight/run.ts";
import { explainReason, parseReport } from "../../src/preflight/report.ts";
import { compareRecords } from "../../src/record/compare.ts";
import { containersOf } from "../../src/record/containers.ts";
import { parseRecord } from "../../src/record/read.ts";
import { lastRun } from "../../src/record/run.ts";
import { statementText } from "../../src/record/statement.ts";
import { parseMountPoints } from "../../src/runtime/mounts.ts";
import { printable, printableJson } from "../../src/text.ts";
import { formatConfig, parseConfig } from "../../src/tree/config.ts";
import { headCommit } from "../../src/tree/git.ts";
import { evaluateManifest, parseManifest } from "../../src/tree/manifest.ts";
import { parseSources } from "../../src/tree/sources.ts";
import { sealedBmap } from "../../tests/support/bmap.ts";
import { writeFiles } from "../../tests/support/files.ts";
import type { Random } from "../../tests/support/mutate.ts";
import { buildOptions, miniTree, STAGE1_TEXT, writeMiniTree } from "../../tests/support/tree.ts";
import { record } from "../../tests/record/records.ts";
import { demand, type Reader, soundsOf, textOf } from "./reader.ts";

const TREE = miniTree({
  importsPayload: true,
  movesToDisk: true,
  files: { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "a seed" },
});
const treeTexts = (end: string) =>
  Object.entries(TREE.files).flatMap(([path, text]) =>
    path.endsWith(end) && typeof text === "string" ? [text] : []
  );
const MANIFEST_WORDS = [
  ...["build:", "improve:", "jump:", "define:", "uninstall:", "(", ")", "==", "!=", "&&", "||"],
  ...["True", "False", "CHROOT", "ARCH", "x86", "# a", "steps/../../a", "alpha-1.0"],
];
const CONFIG = 'ARCH=x86\nCHROOT=False\nJOBS=2\nMIRRORS="http://a http://b"\nEMPTY=\n';
const SHA256 = "0123456789abcdef".repeat(4);
const COMMIT = SHA256.slice(0, 40);

// deno-lint-ignore no-control-regex -- what a terminal obeys, but for BS, HT, LF and CR
const STEERS = /[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

/** Cuts bytes at random places. */
function cut(random: Random, bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + random.below(random.pick([1, 10, 1000, 100_000]));
    parts.push(bytes.subarray(at, end));
    at = end;
  }
  return parts;
}

const manifest: Reader = {
  name: "manifest",
  prepare: () => ({
    sounds: soundsOf(
      [
        ...treeTexts("steps/manifest"),
        "build: a-1\nuninstall: a b c\ndefine: X = ( ARCH == x86 && CHROOT != True )\njump: linux ( X == True )\n",
      ],
      { words: MANIFEST_WORDS, isText: true },
    ),
    read(bytes) {
      const parsed = parseManifest(textOf(bytes), "steps/manifest");
      const active = evaluateManifest(parsed, parseConfig(CONFIG, "cfg"));
      demand(active.length <= parsed.lines.length, "a line is executed once");
    },
  }),
};

const sources: Reader = {
  name: "sources",
  prepare: () => ({
    sounds: soundsOf(
      [
        ...treeTexts("/sources"),
        `f https://a.example/b-1.tar.gz ${SHA256} c.tar.gz\ng https://g.example/h~v1 _ ${SHA256} h.tar\n`,
      ],
      { words: ["f", "g", "file", "git", "_", "http://a/%2e%2e", SHA256], isText: true },
    ),
    read(bytes) {
      for (const { fileName, sha256 } of parseSources(textOf(bytes), "steps/a/sources")) {
        demand(distfileNameFault(fileName) === undefined, `a name: ${JSON.stringify(fileName)}`);
        demand(/^[0-9a-f]{64}$/.test(sha256), "a digest");
      }
    },
  }),
};

const config: Reader = {
  name: "config",
  prepare: () => ({
    sounds: soundsOf([CONFIG], { words: ["=", "ARCH", "\n"], isText: true }),
    read(bytes) {
      const text = textOf(bytes);
      demand(formatConfig(parseConfig(text, "cfg")) === text, "what is read is written the same");
    },
  }),
};

const hex0: Reader = {
  name: "hex0",
  prepare: () => ({
    sounds: soundsOf([STAGE1_TEXT, "# a\n7f 45 4C;b\n46\t0\v1\f2 3\r\n"], {
      words: ["#", ";", "\n", "f", "FF"],
    }),
    read(bytes) {
      demand(assembleHex0(bytes, "a.hex0").length <= bytes.length / 2, "two digits make a byte");
    },
  }),
};

const git: Reader = {
  name: "git",
  prepare(dir) {
    const inner = join(dir, "home/tree");
    const files: Readonly<Record<string, string>> = {
      ".git/HEAD": "ref: refs/heads/main\n",
      ".git/refs/heads/main": "ref: refs/heads/other\n",
      ".git/packed-refs": `# pack-refs with: peeled\n${COMMIT} refs/heads/other\n^${COMMIT}\n`,
      ".git/commondir": "../.git\n",
      "linked/.git": "gitdir: ../.git\n",
    };
    writeFiles(inner, files);
    // A commit outside, which no path may lead to by way of a reference.
    const secret = "f".repeat(40);
    writeFiles(dir, { "secret": secret, "home/secret": secret });
    const paths = Object.keys(files);
    const outside = "ref: refs/heads/../../../../secret\n";
    return {
      sounds: soundsOf([...Object.values(files), outside], {
        words: ["ref: ", "refs/heads/../../../../secret", "gitdir: ", "refs/", COMMIT, "../.."],
        isText: true,
      }),
      read(bytes, sound) {
        const path = paths.find((path) => files[path] === textOf(sound.bytes)) ?? ".git/HEAD";
        writeFileSync(join(inner, path), bytes);
        try {
          for (const start of [inner, join(inner, "linked")]) {
            const commit = headCommit(start);
            demand(
              commit === undefined || /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(commit),
              "a commit",
            );
            demand(commit !== secret || textOf(bytes).includes(secret), "a reference stays inside");
          }
        } finally {
          writeFileSync(join(inner, path), files[path]!);
        }
      },
    };
  },
};

/** A whole checkout in which a file is damaged, or is a link, and a plan of it. */
const checkout: Reader = {
  name: "checkout",
  prepare(dir) {
    const { tree, mirror } = writeMiniTree(dir, TREE);
    const paths = Object.keys(TREE.files).filter((path) => !path.endsWith("/"));
    const all = paths.map((path) => readFileSync(join(tree, path)));
    return {
      sounds: soundsOf(all, { words: [...MANIFEST_WORDS, SHA256], isText: true }),
      async read(bytes, sound, random) {
        const index = all.findIndex((one) => Buffer.compare(one, sound.bytes) === 0);
        const place = join(tree, paths[index]!);
        const target = random.pick(["/etc/passwd", ".", "..", "../..", "self", tree, paths[0]!]);
        const isLink = random.below(8) === 0;
        rmSync(place);
        if (isLink) symlinkSync(target, place);
        else writeFileSync(place, bytes);
        try {
          const { plan } = await planBuild({
            tree,
            options: buildOptions({
              mode: random.pick(["qemu", "bare-metal", "chroot"] as const),
              mirrors: [{ kind: "directory", path: mirror }],
            }),
            store: join(dir, "store"),
            repo: undefined,
            preseed: undefined,
            isOffline: true,
          });
          for (const { path } of plan.entries) {
            demand(!path.split("/").includes(".."), `an entry: ${JSON.stringify(path)}`);
          }
        } finally {
          rmSync(place, { force: true });
          mkdirSync(dirname(place), { recursive: true });
          writeFileSync(place, all[index]!);
        }
      },
    };
  },
};

const EDGE_VALUES = [
  null,
  true,
  0,
  -1,
  1.5,
  2 ** 53,
  1e300,
  "",
  "\ud800",
  "\x1b[2J",
  "../a",
  [],
  {},
];

/** Replaces a value in a JSON value by one at an edge, or by another of it. */
function changeValue(random: Random, root: object): void {
  const values: [object, string, unknown][] = [];
  const collect = (holder: object) => {
    for (const [key, value] of Object.entries(holder)) {
      values.push([holder, key, value]);
      if (typeof value === "object" && value !== null) collect(value);
    }
  };
  collect(root);
  const [holder, key, old] = random.pick(values);
  const alike = values.filter(([, , value]) => typeof value === typeof old);
  const value = random.below(2) === 0
    ? random.pick(alike)[2]
    : random.pick([random.pick(EDGE_VALUES), `${key}\u202e/..`, Number(old) + 1]);
  if (random.below(8) === 0) Reflect.deleteProperty(holder, key);
  else Reflect.set(holder, key, structuredClone(value));
}

const recordReader: Reader = {
  name: "record",
  prepare() {
    const records = fc.sample(record, { seed: 1, numRuns: 6 });
    return {
      // A statement that agrees with a record of which some values are others.
      repair(bytes, random, sound) {
        const changed = structuredClone(parseRecord(textOf(sound.bytes), "seedstrap.json"));
        for (let left = 1 + random.below(2); left > 0; left--) changeValue(random, changed);
        try {
          return new TextEncoder().encode(statementText(changed));
        } catch {
          return bytes;
        }
      },
      sounds: soundsOf(records.map(statementText), { words: [SHA256, '"sha256"'], isText: true }),
      read(bytes, sound) {
        const before = parseRecord(textOf(sound.bytes), "seedstrap.json");
        const after = parseRecord(textOf(bytes), "seedstrap.json");
        const again = parseRecord(statementText(after), "seedstrap.json");
        demand(
          JSON.stringify(again) === JSON.stringify(after),
          "a record is read as it is written",
        );
        const { same } = compareRecords(before, after);
        const outputs = ({ images, files }: typeof before) =>
          JSON.stringify([
            images.map((
              { name, piecesSha256, sha256, blocksSha256 },
            ) => [name, piecesSha256, sha256, blocksSha256]),
            files.map(({ path, sha256 }) => [path.replace(/^\.?\//, ""), sha256]),
          ]);
        demand(!same || outputs(before) === outputs(after), "other outputs are no reproduction");
      },
    };
  },
};

/** JSON files of our own that are read again: of a run, of an origin, of containers. */
const state: Reader = {
  name: "state",
  prepare(dir) {
    const run = join(dir, ".seedstrap/runs/1.json");
    const origin = join(dir, ORIGINS_DIR, SHA256);
    const containers = join(dir, ".seedstrap/containers");
    writeFiles(dir, { ".seedstrap/runs/": "", [`${ORIGINS_DIR}/`]: "" });
    return {
      sounds: soundsOf([
        JSON.stringify({
          format: "seedstrap-run/1",
          verdict: "failed",
          why: "it ended",
          lastStep: "a-1 pass 1",
          lines: ["a", "b"],
          began: "2026-01-01T00:00:00.000Z",
          ended: "2026-01-01T00:00:01.000Z",
        }),
        JSON.stringify({ url: "http://a.example/", redirectedTo: "http://b.example/c" }),
        JSON.stringify({
          format: "seedstrap-containers/1",
          engine: "podman",
          names: ["seedstrap-0123456789ab", "seedstrap-ba9876543210"],
        }),
      ], { words: ['"verdict"', '"done"', '"url"', '"docker"'], isText: true }),
      repair(_, random, sound) {
        const changed: object = JSON.parse(textOf(sound.bytes));
        changeValue(random, changed);
        return new TextEncoder().encode(JSON.stringify(changed));
      },
      read(bytes) {
        writeFileSync(run, bytes);
        writeFileSync(origin, bytes);
        writeFileSync(containers, bytes);
        const read = lastRun(dir);
        demand(read === undefined || read.lines.every((line) => typeof line === "string"), "lines");
        const url = recallOrigin(dir, SHA256)?.url;
        demand(url === undefined || typeof url === "string", "a URL");
        demand(containersIn(dir).every((name) => /^seedstrap-[0-9a-f]{12}$/.test(name)), "a name");
      },
    };
  },
};

/** The containers of a target; none where they are refused, as what a run or an origin has is. */
function containersIn(dir: string): readonly string[] {
  try {
    return containersOf(dir)?.names ?? [];
  } catch (error) {
    if (error instanceof UserError) return [];
    throw error;
  }
}

const sums: Reader = {
  name: "sums",
  prepare: () => ({
    sounds: soundsOf([
      formatSums(["a", "b c", "d\\e\nf\rg", " h"].map((path) => ({ path, sha256: SHA256 }))),
    ], { words: ["\\", "\\n", "  ", " *", SHA256], isText: true }),
    read(bytes) {
      const read = parseSums(textOf(bytes));
      const files = [...read].map(([path, sha256]) => ({ path, sha256 }));
      const again = parseSums(formatSums(files));
      demand(JSON.stringify([...again]) === JSON.stringify([...read]), "sums are read as written");
    },
  }),
};

const BMAP_SIZES = [1, 4096, 5 * 4096, 9 * 4096 + 7];

const bmap: Reader = {
  name: "bmap",
  prepare: () => ({
    sounds: soundsOf(
      BMAP_SIZES.map((sizeBytes) => {
        const first = { offsetBytes: 0, sizeBytes: Math.min(8192, sizeBytes), sha256: SHA256 };
        const last = { offsetBytes: 9 * 4096, sizeBytes: 7, sha256: SHA256 };
        return formatBmap({ sizeBytes, ranges: sizeBytes > 9 * 4096 ? [first, last] : [first] });
      }),
      { words: ["<!--", "-->", "<Range>", "</bmap>", "<BlockMap>", "0-1", SHA256], isText: true },
    ),
    repair: (bytes) => Buffer.from(sealedBmap(Buffer.from(bytes).toString("latin1")), "latin1"),
    read(bytes) {
      const read = readBmap(bytes, "x.bmap");
      let end = 0;
      for (const { offsetBytes, sizeBytes } of read.ranges) {
        demand(offsetBytes >= end && sizeBytes > 0, "ranges are in order, and not empty");
        end = offsetBytes + sizeBytes;
        demand(end <= read.sizeBytes, "ranges end within the image");
        // Those of other blocks cannot be written.
        if (offsetBytes % 4096 !== 0 || (end % 4096 !== 0 && end !== read.sizeBytes)) return;
      }
      const again = readBmap(Buffer.from(formatBmap(read)), "again");
      demand(JSON.stringify(again) === JSON.stringify(read), "a bmap is read as written");
    },
  }),
};

const REPORT = `SeaBIOS (version 1.16)\r
preflight: start version=1.0 drive=80 srcfs-lba=189\r
preflight: boot drive=80 entries=5 crc=bad found=11 expected=22 state=ok\r
preflight: memory spans=3 faults=0 state=ok\r
preflight: verdict failed crc,memory-map\r
`;

const preflight: Reader = {
  name: "preflight",
  prepare: () => ({
    sounds: soundsOf([REPORT.replace(/failed.*/, "ok\r"), REPORT], {
      words: ["preflight: ", "verdict", "ok", "failed", "state=ok", "start"],
      isText: true,
    }),
    read(bytes) {
      const report = parseReport(textOf(bytes));
      for (const reason of report.verdict?.reasons ?? []) {
        demand(/^[a-z0-9-]*$/.test(reason) && explainReason(reason) !== "", "a reason");
      }
      checkVerdict(report, "log");
    },
  }),
};

const CONSOLE = ` +> pkg=first-1.0 \r
 +> kaem --file pass1.kaem \r
/usr/bin/first: OK\r
[    0.0] a kernel begins\r
third-2.0: beginning build using script pass2.sh\r
third-2.0: build successful\r
\x1b]0;title\x07\x1b[1;31mred\x1b[0m \x1bPq\x1b\\ \xc3\xa4 Kernel panic - not syncing: a\r
[  123.456789] reboot: Power down\r
`;

const guest: Reader = {
  name: "console",
  prepare: () => ({
    sounds: soundsOf([CONSOLE, CONSOLE.replace(/^.*panic.*\n/m, "")], {
      words: [
        "\x1b[",
        "\x1b]",
        "\x1bP",
        "\x07",
        "\x1b\\",
        "\x9b",
        ": OK",
        "pkg=",
        " +> ",
        "reboot: ",
      ],
    }),
    read(bytes, _sound, random) {
      const parts = cut(random, bytes);
      const plain = new PlainOutput();
      const shown = parts.map((part) => plain.push(part)).join("");
      demand(!STEERS.test(shown), `what is shown steers: ${JSON.stringify(shown)}`);
      demand(shown.length <= bytes.length, "nothing is added to what is shown");
      const whole = new LineReader();
      const piece = new LineReader();
      const lines = [...whole.push(bytes), ...whole.end()];
      const pieces = [...parts.flatMap((part) => piece.push(part)), ...piece.end()];
      // A line that is too long is cut where a piece ends.
      const isSame = bytes.length > 4000 || JSON.stringify(lines) === JSON.stringify(pieces);
      demand(isSame, "lines do not depend on where they are cut");
      const watch = new RunWatch();
      for (const part of parts) watch.push(part);
      const expected = { lastStep: { name: "third-2.0", pass: 2 }, switchesOff: true };
      const { verdict, why } = watch.judge(expected, { kind: "ended" });
      const text = lines.join("\n");
      if (verdict === "done") {
        demand(text.includes("Power down") && text.includes("third-2.0: "), `done: ${why}`);
      }
    },
  }),
};

/** Short texts from checkouts and servers: names, URLs, headers; and what is printed of them. */
const names: Reader = {
  name: "names",
  prepare: () => ({
    sounds: soundsOf([
      "http://a.example/b",
      "hello-1.0.tar.gz",
      "https://user:pass@a.example:80/b/c?d=e#f",
      "http://[::1]/%41",
      "file:///srv/distfiles",
      "bytes 5-9/10",
      "bytes 0-18446744073709551615/*",
      "Sun, 06 Nov 1994 08:49:37 GMT",
      "120",
      "36 35 8:1 / /mnt/a\\040b rw - ext4 /dev/sda1 rw\n",
    ], { words: ["://", "@", "?", "#", "%", "[", ":", "bytes ", "-", "/", "*", "\\040", "\\777"] }),
    read(bytes) {
      const text = textOf(bytes);
      demand(!/[\p{Cc}\u202e]/u.test(printable(text)), "printable");
      demand(!/[\x7f-\x9f\u202e]/.test(printableJson(JSON.stringify(text))), "printable JSON");
      demand(JSON.parse(printableJson(JSON.stringify(text))) === text, "the same JSON");
      demand(!/[\p{Cc}\u202e]/u.test(plainText(text)), "plain text");
      if (distfileNameFault(text) === undefined) {
        demand(dirname(resolve("/a/b", text)) === "/a/b", "a name is in its directory");
      }
      for (const shown of [publicUrl(text), bareUrl(text)]) {
        if (URL.canParse(shown)) {
          const { username, password } = new URL(shown);
          demand(username === "" && password === "", `a secret is shown: ${shown}`);
        }
      }
      const range = parseContentRange(text);
      if (range !== undefined) {
        const { startByte, lastByte, totalBytes = Infinity } = range;
        demand(startByte <= lastByte && lastByte < totalBytes, "a range");
      }
      const rest = parseRetryAfter(text, "Sun, 06 Nov 1994 08:49:37 GMT");
      demand(rest === undefined || (Number.isFinite(rest) && rest >= 0), `a rest of ${rest}`);
      for (const path of parseMountPoints(text)) demand(typeof path === "string", "a mount point");
      const mirror = parseMirror(text);
      if (mirror.kind === "directory") demand(mirror.path.startsWith("/"), "an absolute path");
      else {
        const { username, password, search } = new URL(mirror.url);
        demand(username + password + search === "", `a secret of a mirror: ${mirror.url}`);
      }
    },
  }),
};

const argv: Reader = {
  name: "argv",
  prepare(dir) {
    const known = new Set(planCommandBase("plan").options.flatMap(({ long }) => long ?? []));
    return {
      sounds: soundsOf([
        "-q\n-qr4G\n--target-size=16G\n-m\nhttp://a.example\nfile:///srv\n--cores\n4",
        "--bare-metal\n--swap\n4G\n--payload\nalways\n--payload-layout\n32\n--mirror-port=80",
        `-bw\n--tree\n${dir}\n--internal-ci\npass1\n--early-preseed\na.tar\n-r\nrepo\n--force`,
        "-c\n--arch\nx86\n--qemu-cmd=\n-t=a\n--\n--kern\n-i",
      ], { words: [...known, "-q", "-b", "-c", "--", "=", "1T", "0x1", "4G"], isText: true }),
      read(bytes) {
        // A message may have all of it, as it comes from the user.
        const args = textOf(bytes).slice(0, 8192).split("\n");
        const command = planCommandBase("plan").exitOverride().allowUnknownOption(false)
          .configureOutput({ writeErr: () => {}, writeOut: () => {} });
        try {
          const expanded = expandAbbreviations(expandShortOptions(args), known);
          command.parse(expanded, { from: "user" });
          const { options } = parsePlanRequest(command.opts());
          const { cores, qemuRamMib, swapMib, targetSizeMib, mirrorPort } = options;
          for (const number of [cores, qemuRamMib, swapMib, targetSizeMib, mirrorPort]) {
            demand(Number.isSafeInteger(number) && number >= 0, `a number: ${number}`);
          }
        } catch (error) {
          if (!(error instanceof CommanderError)) throw error;
          throw new UserError("usage", error.message);
        }
      },
    };
  },
};

export const textReaders: readonly Reader[] = [
  manifest,
  sources,
  config,
  hex0,
  git,
  checkout,
  recordReader,
  state,
  sums,
  bmap,
  preflight,
  guest,
  names,
  argv,
];
