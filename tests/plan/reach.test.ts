// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { limitError } from "../../src/job/check.ts";
import { parseMirror } from "../../src/fetch/mirror.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import { brokenLimits, makePlan } from "../../src/plan/plan.ts";
import { reachFaults } from "../../src/plan/reach.ts";
import type { Plan } from "../../src/plan/types.ts";
import { readTree } from "../../src/tree/model.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { buildOptions, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const [HTTP, HTTPS] = ["http://h.example", "https://s.example"];
const GIT = "git://g.example/x~v1";
const HELPERS = 'for mirror in $(randomize "${MIRRORS}"); do true; done\n';
const line = (url: string, name: string) => `f ${url}/${name} ${sha256(name)}\n`;

/** The sources of the steps that are built after the network is up, by step, in order. */
type Late = Readonly<Record<string, string>>;
const BEFORE = {
  "plain-1": line(HTTP, "plain.tar"),
  "secure-1": line(HTTPS, "secure.tar"),
  "none-1": `g ${GIT} _ ${sha256("none.tar")} none.tar\n`,
  "both-1": line(HTTPS, "both.tar") + line(HTTP, "both.tar"),
  "openssl-3": line(HTTPS, "openssl.tar"),
};
const AFTER = {
  "late-1": line(HTTP, "late.tar"),
  "later-1": line(HTTPS, "later.tar"),
  "last-1": `g ${GIT} _ ${sha256("last.tar")} last.tar\n`,
};

interface NetOptions extends MiniOptions {
  readonly before?: Late;
  readonly after?: Late;
  /** The arguments of the second build of curl. */
  readonly curl?: string;
  readonly helpers?: string;
}

/** A miniature tree with a curl before the network, and one with TLS between other steps. */
function netTree(options: NetOptions = {}) {
  const { before = BEFORE, after = AFTER, curl = "--with-openssl", helpers = HELPERS } = options;
  const late = (steps: Late) => Object.keys(steps).map((step) => `build: ${step}`);
  const sources = Object.entries({ ...before, ...after })
    .map(([step, text]) => [`steps/${step}/sources`, text]);
  return miniTree({
    movesToDisk: true,
    ...options,
    files: {
      ...options.files,
      ...Object.fromEntries(sources),
      "steps/helpers.sh": helpers,
      "steps/curl-8.0/sources": line(HTTPS, "curl.tar"),
      "steps/curl-8.0/pass1.sh": "./configure --without-ssl # not --with-ssl\n",
      "steps/curl-8.0/pass2.sh": `./configure ${curl}\n`,
      "steps/ca-certificates-3/sources": "",
      "steps/manifest": [
        "build: alpha-1.0",
        "jump: fiwix ( KERNEL_BOOTSTRAP == True )",
        "build: beta-2.0",
        "build: linux-4.0",
        "jump: move_disk ( KERNEL_BOOTSTRAP == True )",
        "improve: finalize_fhs",
        "build: curl-8.0",
        "improve: get_network ( CHROOT == False )",
        ...late(before),
        "build: ca-certificates-3",
        "build: curl-8.0",
        ...late(after),
        "",
      ].join("\n"),
    },
  });
}

function plan(
  changes: Partial<BuildOptions> = {},
  options: NetOptions = {},
  known: (name: string) => number | undefined = () => 3000,
): Plan {
  const tree = readTree(writeMiniTree(temp.make(), netTree(options)).tree);
  const sizes = tree.distfiles.flatMap(({ name }) => {
    const size = known(name);
    return size === undefined ? [] : [[name, size] as const];
  });
  return makePlan(tree, buildOptions(changes), new Map(sizes));
}

const ways = (made: Plan) =>
  made.downloads.map(({ name, when, by }) => `${name} ${when.split(" ")[0]} ${by}`);
const placeOf = (made: Plan, name: string) =>
  made.distfiles.find((distfile) => distfile.name === name)?.place;
const carried = (made: Plan) =>
  made.downloads.map(({ name }) => name).filter((name) => placeOf(made, name) !== "network");
const mirrors = (...urls: string[]) => ({ mirrors: urls.map(parseMirror) });

test("each distfile after the network is classed by its URLs, before and after TLS", () => {
  const made = plan();
  expect(made.tls).toBe("curl-8.0 (manifest line 15)");
  expect(ways(made)).toEqual([
    "plain.tar before http",
    "secure.tar before https",
    "none.tar before nowhere",
    "both.tar before http",
    "openssl.tar before https",
    "late.tar after http",
    "later.tar after https",
    "last.tar after nowhere",
  ]);
  // All are on this machine, so that all can be carried.
  expect(carried(made)).toEqual(["secure.tar", "none.tar", "openssl.tar", "last.tar"]);
  expect(reachFaults(made)).toEqual([]);
  expect(made.advice).toEqual([
    "distfiles that the machine cannot download are carried: 2 that it needs before it has TLS " +
    "and that only https has, 2 that have no URL or mirror",
  ]);
  expect(made.distfiles.find(({ name }) => name === "secure.tar")?.why).toBe(
    "secure-1 (manifest line 10) needs it after the network is up, " +
      "but only https has it, and the machine has no TLS yet",
  );
});

test("mirrors count by their scheme, and of several the machine asks any one", () => {
  const https = ["secure.tar", "none.tar", "openssl.tar"];
  expect(carried(plan(mirrors("http://m.example")))).toEqual([]);
  expect(carried(plan(mirrors("https://m.example")))).toEqual(https);
  expect(carried(plan(mirrors("http://m.example", "https://m.example")))).toEqual(https);
});

test("a mirror directory counts where the machine can reach it", () => {
  expect(carried(plan(mirrors("file:///m")))).toEqual([]);
  const far = plan({ ...mirrors("file:///m"), mode: "bare-metal" });
  expect(carried(far)).toEqual(["secure.tar", "none.tar", "openssl.tar", "last.tar"]);
});

test("a tree whose scripts know no mirrors does not ask them", () => {
  const made = plan(mirrors("http://m.example"), { helpers: "curl --fail\n" });
  expect(carried(made)).toEqual(["secure.tar", "none.tar", "openssl.tar", "last.tar"]);
});

test("without a curl that is built with TLS, https never works", () => {
  for (const curl of ["--without-ssl", "", "--with-openssl --without-ssl", "# --with-ssl"]) {
    const made = plan({}, { curl });
    expect(made.tls).toBeUndefined();
    expect(ways(made)).toContain("later.tar before https");
    expect(carried(made)).toContain("later.tar");
  }
});

test("certificates that are built after curl delay TLS", () => {
  const after = { "early-1": line(HTTPS, "early.tar"), "ca-certificates-3": "", ...AFTER };
  const files = { "steps/ca-certificates-3/sources": "" };
  const tree = netTree({ after, files });
  const text = String(tree.files["steps/manifest"]).replace("build: ca-certificates-3\n", "");
  const made = makePlan(
    readTree(
      writeMiniTree(temp.make(), { ...tree, files: { ...tree.files, "steps/manifest": text } })
        .tree,
    ),
    buildOptions(),
    new Map(),
  );
  expect(made.tls).toBe("ca-certificates-3 (manifest line 16)");
  expect(ways(made)).toContain("early.tar before https");
  expect(ways(made)).toContain("later.tar after https");
});

test("what the machine cannot download goes to the payload, the second disk or the root", () => {
  expect(placeOf(plan({ payload: "always" }), "secure.tar")).toBe("payload");
  expect(placeOf(plan({ hasRepo: true }), "secure.tar")).toBe("external");
  expect(placeOf(plan({ mode: "bare-metal", payload: "never" }), "secure.tar")).toBe("boot");
  const seed = { files: { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "x" } };
  expect(placeOf(plan({ mode: "chroot" }, seed), "secure.tar")).toBe("boot");
  expect(placeOf(plan({ mode: "chroot" }, seed), "late.tar")).toBe("network");
  const all = plan({ externalSources: true });
  expect(all.downloads).toEqual([]);
  expect(reachFaults(all)).toEqual([]);
});

test("with --payload never, what does not fit is left out and is an error that lists it", () => {
  const large = (name: string) => name === "secure.tar" ? 3_000_000_000 : 3000;
  const made = plan({ payload: "never", targetSizeMib: 8192 }, {}, large);
  expect(brokenLimits(made)).toEqual([]);
  expect(carried(made)).toEqual([]);
  const error = limitError([], reachFaults(made));
  expect(error.kind).toBe("limit");
  expect(error.message).toBe(
    "Cannot bootstrap with this plan\n" +
      "  2 distfiles which the machine cannot download: no URL, and it knows no " +
      "mirror: none.tar, last.tar\n" +
      "  2 distfiles which the machine needs before it has TLS, and which only https has: " +
      "secure.tar, openssl.tar",
  );
  expect(error.hint).toContain("Leave out --payload never");
});

test("what nobody has is an error, before and after the network, and is not carried", () => {
  const early = `g ${GIT} _ ${sha256("early.tar")} early.tar\n`;
  const files = { "steps/beta-2.0/sources": early };
  const made = plan({}, { files }, () => undefined);
  expect(carried(made)).toEqual(["secure.tar", "openssl.tar"]);
  expect(reachFaults(made).map(({ names }) => names)).toEqual([[
    "early.tar",
    "none.tar",
    "last.tar",
  ]]);
  expect(reachFaults(plan(mirrors("http://m.example"), { files }, () => undefined))).toEqual([]);
  // A directory is looked into: what is not here is not in it.
  const empty = plan(mirrors("file:///m"), { files }, () => undefined);
  expect(reachFaults(empty)).toEqual(reachFaults(made));
  const many = Object.fromEntries(
    Array.from({ length: 9 }, (_, at) => [`n-${at}`, `g ${GIT} _ ${sha256(`${at}`)} ${at}.tar\n`]),
  );
  const listed = limitError([], reachFaults(plan({}, { after: many }, () => undefined))).message;
  expect(listed).toEndWith("none.tar, 0.tar, 1.tar, 2.tar, 3.tar and 5 more");
});

/** Numbers in [0, below), the same for the same seed. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

interface Item {
  readonly name: string;
  /** Undefined for a source that only git has. */
  readonly url: string | undefined;
}

/** Returns sources of steps; names repeat, with the same and with other URLs. */
function randomSteps(random: (below: number) => number): Item[][] {
  return Array.from({ length: 4 }, () =>
    Array.from({ length: 1 + random(2) }, () => ({
      name: `${random(8)}.tar`,
      url: [HTTP, HTTPS, undefined][random(3)],
    })));
}

const asSources = (prefix: string, steps: Item[][]): Late =>
  Object.fromEntries(steps.map((items, at) => [
    `${prefix}-${at}`,
    items.map(({ name, url }) =>
      url === undefined ? `g ${GIT} _ ${sha256(name)} ${name}\n` : line(url, name)
    ).join(""),
  ]));

/** Returns what is not there when a step needs it, where the machine always asks this mirror. */
function missingOf(
  carried: readonly string[],
  before: Item[][],
  after: Item[][],
  builtWithTls: boolean,
  mirror: string | undefined,
): string[] {
  const there = new Set(carried);
  const missing: string[] = [];
  for (const [steps, hasTls] of [[before, false], [after, builtWithTls]] as const) {
    const works = (url: string | undefined) =>
      url !== undefined && (url.startsWith("http:") || (hasTls && url.startsWith("https:")));
    for (const items of steps) {
      for (const { name, url } of items) {
        if (works(mirror) || works(url)) there.add(name);
      }
      for (const { name } of items) {
        if (there.has(name)) continue;
        missing.push(name);
        there.add(name); // the run ends here; go on as if somebody had helped
      }
    }
  }
  return missing;
}

test("the machine gets every distfile of a plan without faults, whatever mirror it chooses", () => {
  const seen = { good: 0, bad: 0 };
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomNumbers(seed);
    const pick = <T>(items: readonly T[]): T => items[random(items.length)]!;
    const [before, after] = [randomSteps(random), randomSteps(random)];
    const curl = pick(["--with-openssl", "--without-ssl"]);
    const given = pick([[], [], ["http://m.example"], ["https://m.example", "http://n.example"]]);
    const isHere = new Set(Array.from({ length: 3 }, () => `${random(8)}.tar`));
    const changes = {
      ...mirrors(...given),
      payload: pick(["auto", "always", "never"] as const),
      externalSources: random(6) === 0,
      mode: pick(["qemu", "bare-metal"] as const),
    };
    const made = plan(
      changes,
      { before: asSources("before", before), after: asSources("after", after), curl },
      (name) => isHere.has(name) ? 3000 : undefined,
    );
    const faulty = reachFaults(made).flatMap(({ names }) => names);
    expect(new Set(faulty).size).toBe(faulty.length);
    const late = made.distfiles.filter(({ phase }) => phase === "network").map(({ name }) => name);
    expect(made.downloads.map(({ name }) => name)).toEqual(changes.externalSources ? [] : late);
    const carried = made.distfiles.filter(({ place }) => place !== "network");
    const missing = (given.length === 0 ? [undefined] : given).flatMap((mirror) =>
      missingOf(carried.map(({ name }) => name), before, after, curl === "--with-openssl", mirror)
    );
    const left = made.distfiles.filter(({ place }) => place === "network").map(({ name }) => name);
    expect([...new Set(missing)].sort()).toEqual(
      left.filter((name) => faulty.includes(name)).sort(),
    );
    seen[faulty.length === 0 ? "good" : "bad"]++;
  }
  expect(seen.good).toBeGreaterThan(5);
  expect(seen.bad).toBeGreaterThan(5);
});

test("what the machine does not read in its sources is carried, whatever URLs and mirrors it has", () => {
  const after = { ...AFTER, "late-1": line(HTTP, "late.tar").trimEnd() };
  const mirrors = [parseMirror("http://m.example")];
  const file = plan({ mirrors }, { after }).distfiles.find(({ name }) => name === "late.tar")!;
  expect(file).toMatchObject({ phase: "network", place: "boot" });
  expect(file.why).toEndWith(
    "after the network is up, but the machine does not read its line of sources, which has no newline",
  );
  expect(plan({ mirrors }).distfiles.find(({ name }) => name === "late.tar")!.place).toBe(
    "network",
  );
});
