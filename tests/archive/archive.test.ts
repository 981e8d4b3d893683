// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import fc from "fast-check";
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { readArchive } from "../../src/archive/archive.ts";
import { MAX_MEMBERS } from "../../src/archive/tree.ts";
import type { ArchiveMember } from "../../src/archive/types.ts";
import { GIB } from "../../src/format/segment.ts";
import { rejection } from "../fetch/harness.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { concat } from "../support/sources.ts";
import {
  compress,
  COMPRESSIONS,
  END,
  listed,
  output,
  paxMember,
  type RawMember,
  rawMember,
  rawTar,
  refusal,
} from "./support.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const part = fc.constantFrom("a", "bb", "Grüße", "with space", "x".repeat(99), "y".repeat(160));
const entries = fc.uniqueArray(
  fc.record({
    path: fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/")),
    what: fc.oneof(
      fc.record({ data: fc.uint8Array({ maxLength: 1500 }) }),
      fc.constant("directory" as const),
      fc.record({ symlink: fc.constantFrom("a", "/usr/bin/x", "z".repeat(180)) }),
      fc.constant("hardlink" as const),
    ),
  }),
  { selector: ({ path }) => path, maxLength: 12 },
);

/** Makes files, without those whose path is in use; returns their paths in order. */
function makeFiles(root: string, wanted: typeof entries extends fc.Arbitrary<infer T> ? T : never) {
  const made = new Map<string, string>();
  const files: string[] = [];
  for (const { path, what } of wanted) {
    const place = join(root, path);
    const isBelow = [...made.keys()].some((above) =>
      path.startsWith(`${above}/`) && lstatSync(join(root, above)).isSymbolicLink()
    );
    if (isBelow) continue;
    try {
      mkdirSync(dirname(place), { recursive: true });
      if (what === "directory") mkdirSync(place);
      else if (what === "hardlink") {
        if (files[0] === undefined) continue;
        linkSync(join(root, files[0]), place);
      } else if ("data" in what) {
        writeFileSync(place, what.data, { flag: "wx" });
        files.push(path);
      } else symlinkSync(what.symlink, place);
      made.set(path, place);
    } catch (error) {
      if (!(error instanceof Error && "code" in error)) throw error;
    }
  }
  return made;
}

for (const format of ["ustar", "pax", "gnu", "oldgnu"]) {
  testWith("tar")(`an archive that tar packs as ${format} is listed as it is`, async () => {
    await fc.assert(
      fc.asyncProperty(entries, fc.constantFrom(...COMPRESSIONS, "none"), async (wanted, how) => {
        // ustar cannot store long targets of links, and only some long names.
        const hasLong = wanted.some(({ path }) => path.length > 90);
        const fits = format !== "ustar"
          ? wanted
          : wanted.filter(({ path, what }) =>
            path.length < 200 && !path.includes("y") &&
            !(hasLong && what === "hardlink") && !(typeof what === "object" && "symlink" in what)
          );
        const dir = temp.make();
        const root = join(dir, "root");
        mkdirSync(root);
        const made = makeFiles(root, fits);
        const argv = ["tar", `--format=${format}`, "--sort=name", "--owner=0", "--group=0"];
        const tar = output([...argv, "-cf", "-", "."], undefined, root);
        const bytes = how === "none" ? tar : compress(how as typeof COMPRESSIONS[number], tar);
        const archive = await listed(dir, bytes);
        expect(archive.expandedBytes).toBe(tar.length);
        const byPath = new Map(archive.members.map((member) => [member.path, member]));
        for (const [path, place] of made) {
          const member = byPath.get(path);
          expect([path, isAsOnDisk(place, root, member, byPath, tar)]).toEqual([path, true]);
        }
        for (const { path, kind } of archive.members) {
          if (!made.has(path)) expect([path, kind]).toEqual([path, "directory"]);
        }
      }),
      { numRuns: 25 },
    );
  });
}

function isAsOnDisk(
  place: string,
  root: string,
  member: ArchiveMember | undefined,
  byPath: ReadonlyMap<string, ArchiveMember>,
  tar: Uint8Array,
): boolean {
  const stat = lstatSync(place);
  switch (member?.kind) {
    case "file": {
      const { offset, size, mode } = member;
      const data = readFileSync(place);
      return data.equals(tar.subarray(offset, offset + size)) && size === data.length &&
        member.sha256 === sha256(data) && mode === (stat.mode & 0o7777);
    }
    case "hardlink":
      return byPath.get(member.target)?.kind === "file" &&
        lstatSync(join(root, member.target)).ino === stat.ino;
    case "symlink":
      return readlinkSync(place) === member.target;
    case "directory":
      return stat.isDirectory() && member.mode === (stat.mode & 0o7777);
    default:
      return false;
  }
}

test("implied directories are added, and names are normalised", async () => {
  const tar = rawTar([
    { name: "./", type: "5", mode: 0o700 },
    { name: ".//a/./b//c", data: "1", mode: 0o4755 },
    { name: "a/", type: "5", mode: 0o1777 },
    { name: "old/" },
    { name: "n".repeat(100), prefix: "p", data: "2" },
  ]);
  const { members } = await listed(temp.make(), tar);
  expect(members).toMatchObject([
    { kind: "directory", path: "a", mode: 0o1777 },
    { kind: "directory", path: "a/b", mode: 0o755 },
    { kind: "file", path: "a/b/c", mode: 0o4755, offset: 1024, size: 1, sha256: sha256("1") },
    { kind: "directory", path: "old" },
    { kind: "directory", path: "p" },
    { kind: "file", path: `p/${"n".repeat(100)}` },
  ]);
});

test("a later member replaces an earlier one, but not the file of a hard link", async () => {
  const tar = rawTar([
    { name: "a", data: "first" },
    { name: "link", type: "1", link: "./a" },
    { name: "again", type: "1", link: "link" },
    { name: "a", data: "second" },
    { name: "s", type: "2", link: "a" },
    { name: "s", data: "third" },
  ]);
  const { members } = await listed(temp.make(), tar);
  expect(members).toMatchObject([
    { kind: "file", path: "link", offset: 512, size: 5, sha256: sha256("first") },
    { kind: "hardlink", path: "again", target: "link" },
    { kind: "file", path: "a", size: 6, sha256: sha256("second") },
    { kind: "file", path: "s", sha256: sha256("third") },
  ]);
});

test("names at the top level are dropped with all below, but links to them stay", async () => {
  const members: RawMember[] = [
    { name: "steps/a", data: "kept by a link" },
    { name: "steps", type: "5" },
    { name: "usr/steps", data: "stays" },
    { name: "link", type: "1", link: "steps/a" },
    { name: "external", type: "2", link: "/elsewhere" },
  ];
  const drop = ["steps", "external"];
  const archive = await listed(temp.make(), rawTar(members), { drop });
  expect(archive.members).toMatchObject([
    { kind: "directory", path: "usr" },
    { kind: "file", path: "usr/steps" },
    { kind: "file", path: "link", offset: 512, sha256: sha256("kept by a link") },
  ]);
  const hostile = rawTar([{ name: "steps/../../etc/passwd", data: "x" }]);
  const error = await refusal(temp.make(), hostile, "steps/../../etc/passwd", { drop });
  expect(error.message).toContain('its name contains ".."');
});

test("dropping all names of a file with very many names is fast", async () => {
  // Searching a new first name for each dropped name would take minutes.
  const count = 40_000;
  const links = Array.from({ length: 2 * count }, (_, i): RawMember => ({
    name: i < count ? `steps/${i}` : `${i}`,
    type: "1",
    link: "steps/f",
  }));
  const tar = rawTar([{ name: "steps/f", data: "x" }, ...links]);
  const { members } = await listed(temp.make(), tar, { drop: ["steps"] });
  expect(members).toHaveLength(count);
  expect(members[0]).toMatchObject({ kind: "file", path: `${count}`, offset: 512 });
  expect(members.at(-1)).toMatchObject({ kind: "hardlink", target: `${count}` });
});

test("set-user-id bits are kept only for files of root", async () => {
  const mode = 0o6755;
  const { members } = await listed(
    temp.make(),
    rawTar([
      { name: "root", mode },
      { name: "user", mode, uid: 1000 },
      { name: "group", mode, gid: 100 },
    ]),
  );
  expect(members.map((member) => "mode" in member && member.mode)).toEqual([
    0o6755,
    0o2755,
    0o4755,
  ]);
});

test("devices in dev/ are listed", async () => {
  const tar = rawTar([
    { name: "dev/null", type: "3", mode: 0o666, major: 1, minor: 3 },
    { name: "dev/disk/sda", type: "4", mode: 0o660, major: 8 },
    { name: "dev/initctl", type: "6", mode: 0o600, major: 7, minor: 7 },
  ]);
  expect((await listed(temp.make(), tar)).members.filter(({ kind }) => kind === "device")).toEqual([
    { kind: "device", path: "dev/null", type: "char", mode: 0o666, major: 1, minor: 3 },
    { kind: "device", path: "dev/disk/sda", type: "block", mode: 0o660, major: 8, minor: 0 },
    { kind: "device", path: "dev/initctl", type: "fifo", mode: 0o600, major: 0, minor: 0 },
  ]);
});

test("links that stay inside the root are listed unchanged", async () => {
  const links = ["/usr/bin/x", "../b", "../../top", "/", ".", "nowhere", "./a/../../../c"];
  const members = links.map((link, i): RawMember => ({ name: `a/b/${i}`, type: "2", link }));
  const archive = await listed(temp.make(), rawTar(members));
  expect(archive.members.slice(2)).toEqual(
    links.map((target, i) => ({ kind: "symlink", path: `a/b/${i}`, target })),
  );
});

/** Members of which the last one is refused: the case, the members, and the message. */
const REFUSED: readonly (readonly [string, readonly RawMember[], string])[] = [
  ["..", [{ name: "a/../../b" }], 'its name contains ".."'],
  ["../x", [{ name: "../x" }], 'its name contains ".."'],
  ["absolute", [{ name: "/etc/passwd" }], "its name is absolute"],
  ["no name", [{ name: "" }], "its name is empty"],
  ["a newline", [{ name: "a\nsrc 1 /init" }], "its name contains a newline"],
  ["not UTF-8", [{ name: new Uint8Array([0x61, 0xff]) }], "its name is not UTF-8"],
  ["the root as a file", [{ name: ".", data: "x" }], "it would replace the root"],
  ["the root as a link", [{ name: "./", type: "2", link: "a" }], "it would replace the root"],
  ["a link without a target", [{ name: "a", type: "2" }], "its target is empty"],
  [
    "a link out of the root",
    [{ name: "a/b", type: "2", link: "../../c" }],
    "leads out of the root",
  ],
  [
    "a link far out of the root",
    [{ name: "a", type: "2", link: "b/../../.." }],
    "leads out of the root",
  ],
  ["a link above /", [{ name: "a/b", type: "2", link: "/../c" }], "leads out of the root"],
  [
    "below a link",
    [{ name: "a", type: "2", link: "/etc" }, { name: "a/passwd" }],
    'it is below "a", which is a symbolic link',
  ],
  [
    "far below a link",
    [{ name: "a/b", type: "2", link: "/etc" }, { name: "a/b/c/d" }],
    'it is below "a/b", which is a symbolic link',
  ],
  ["below a file", [{ name: "a" }, { name: "a/b" }], 'it is below "a", which is a file'],
  [
    "a link for a directory",
    [{ name: "a/b" }, { name: "a", type: "2", link: "/etc" }],
    "it is a symlink, and was a directory before",
  ],
  [
    "a directory for a file",
    [{ name: "a" }, { name: "a", type: "5" }],
    "it is a directory, and was a file before",
  ],
  [
    "a hard link to what comes later",
    [{ name: "a", type: "1", link: "b" }],
    'it is a hard link to "b", which is not an earlier file',
  ],
  [
    "a hard link to a link",
    [{ name: "s", type: "2", link: "/etc/shadow" }, { name: "a", type: "1", link: "s" }],
    'it is a hard link to "s", which is not an earlier file',
  ],
  [
    "a hard link out",
    [{ name: "a", type: "1", link: "../b" }],
    'its link target: its name contains ".."',
  ],
  ["an absolute hard link", [{ name: "a", type: "1", link: "/etc/shadow" }], "is absolute"],
  ["a device", [{ name: "usr/sda", type: "4", major: 8 }], "it is a block device outside dev/"],
  ["a device as dev", [{ name: "dev", type: "3", major: 1 }], "character device outside dev/"],
  ["a fifo", [{ name: "tmp/f", type: "6" }], "it is a fifo outside dev/"],
  ["a sparse file", [{ name: "a", type: "S" }], "it is a sparse file of GNU tar"],
  ["an unknown type", [{ name: "a", type: "V" }], 'its type "V" is unknown'],
  [
    "a hard link with data",
    [{ name: "b" }, { name: "a", type: "1", link: "b", data: "x" }],
    "it has 1 bytes, and is not a file",
  ],
  [
    "a directory with data",
    [{ name: "a", type: "5", data: "x" }],
    "it has 1 bytes, and is not a file",
  ],
  [
    "a long name that is too long",
    [{ name: "L", type: "L", data: "n".repeat(1025) }, { name: "n" }],
    "its name has 1025 bytes, more than 1024",
  ],
  ["NUL in a pax name", [paxMember({ path: "a\0b" }), { name: "n" }], "its name contains a NUL"],
  ["a pax name with ..", [paxMember({ path: "../b" }), { name: "n" }], 'its name contains ".."'],
  [
    "a pax link out of the root",
    [paxMember({ linkpath: "../b" }), { name: "n", type: "2" }],
    "leads out of",
  ],
];
for (const [what, members, said] of REFUSED) {
  test(`refused by name: ${what}`, async () => {
    const last = members.at(-1)!;
    const { name } = last.name === "n" ? nameAhead(members) ?? last : last;
    const shown = typeof name === "string" ? name : new TextDecoder().decode(name);
    const tar = rawTar([{ name: "good", data: "good" }, ...members]);
    const error = await refusal(temp.make(), tar, shown.slice(0, 256));
    expect(error.message).toContain(said);
  });
}

/** Returns the name that the extension before the last member gives it. */
function nameAhead(members: readonly RawMember[]): { name: string } | undefined {
  const data = String(members[0]?.data);
  if (members[0]?.type === "L") return { name: data };
  const path = /^[0-9]+ path=([^\n]*)\n/.exec(data)?.[1];
  return path === undefined ? undefined : { name: path };
}

test("wrong sizes are refused", async () => {
  const tooLong = concat([rawMember({ name: "a", data: "x", size: 4000 }), END]);
  const error = await refusal(temp.make(), tooLong, "a");
  expect(error.message).toContain("it should have 4000 bytes, and the archive ends after 1536");
  const huge = "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
  const said: readonly (readonly [RawMember[], string])[] = [
    [
      [{ name: "a", size: Buffer.from(huge, "latin1").toString("latin1") }],
      "a size is not a number",
    ],
    [[{ name: "a", size: "12x" }], "a size is not a number"],
    [[{ name: "a", size: 8 ** 11 - 1 }], 'member "a": with it, the archive expands to more than'],
    [[paxMember({ size: "-5" }), { name: "a" }], "its size is not a number"],
    [[paxMember({ size: "99999999999999999999" }), { name: "a" }], "its size is not a number"],
    [[paxMember({ size: "7" }, "g"), { name: "a" }], "it sets the size of all members"],
    [[paxMember({ path: "b" }, "g"), { name: "a" }], "it sets the path of all members"],
    [[{ name: "x", type: "x", data: "7 a=b\n" }, { name: "a" }], "a pax header is damaged"],
    [[{ name: "x", type: "x", data: "9999 a=b\n" }, { name: "a" }], "a pax header is damaged"],
    [[{ name: "x", type: "x", size: 2 ** 21 }], "a header has 2097152 bytes"],
    [[{ name: "L", type: "L", data: "name" }], "it ends where a member was announced"],
    [[paxMember({ "GNU.sparse.major": "1" }), { name: "a" }], "it is a sparse file"],
  ];
  for (const [members, what] of said) {
    expect((await refusal(temp.make(), rawTar(members))).message).toContain(what);
  }
});

test("a tar file that is truncated, damaged, or followed by data is refused", async () => {
  const tar = rawTar([{ name: "a", data: "x".repeat(700) }, { name: "b", data: "y" }]);
  for (let cut = 512; cut < tar.length; cut += 97) {
    await refusal(temp.make(), tar.subarray(0, cut));
  }
  const damaged = tar.slice();
  damaged[1536 + 3] = 1;
  expect((await refusal(temp.make(), damaged)).message).toContain("the checksum of a header");
  const lone = concat([tar.subarray(0, -512), tar]);
  expect((await refusal(temp.make(), lone)).message).toContain(
    "its end has only one block of zeros",
  );
  const more = await refusal(temp.make(), concat([tar, tar]));
  expect(more.message).toContain("data follows its end");
});

test("a flipped bit in a header leads to a refusal or another listing", async () => {
  const tar = rawTar([{ name: "a", data: "data" }, { name: "dev/b", type: "3", major: 1 }]);
  const dir = temp.make();
  let refused = 0;
  for (let bit = 0; bit < 512 * 8; bit += 7) {
    const damaged = tar.slice();
    damaged[bit >> 3] = damaged[bit >> 3]! ^ (1 << (bit & 7));
    await listed(dir, damaged).catch((error) => {
      expect(error.kind).toBe("format");
      refused++;
    });
  }
  // A sum detects every flipped bit, except in the checksum itself.
  expect(refused).toBeGreaterThan(570);
});

test("more than a million members are refused, including implied directories", async () => {
  const deep = Array.from({ length: 500 }, () => "d").join("/");
  const extension = (i: number) => rawMember({ name: "L", type: "L", data: `${i}/${deep}` });
  const one = rawMember({ name: "x" });
  const parts: Uint8Array[] = [];
  for (let i = 0; i < MAX_MEMBERS / 500; i++) parts.push(extension(i), one);
  const error = await refusal(temp.make(), concat([...parts, END]));
  expect(error.message).toContain("the archive has more than 1000000 members");
});

testWith("tar")("sparse files of GNU tar are refused with their name", async () => {
  const dir = temp.make();
  writeFileSync(join(dir, "holes"), "x");
  truncateSync(join(dir, "holes"), 1_000_000);
  for (const format of ["gnu", "pax"]) {
    const argv = ["tar", `--format=${format}`, "--sparse", "-cf", "-", "holes"];
    const error = await refusal(temp.make(), output(argv, undefined, dir), "holes");
    expect(error.message).toContain("it is a sparse file of GNU tar");
  }
});

testWith("tar")("a file of more than 2 GiB is listed with its whole size", async () => {
  const size = 2 * GIB + 777;
  const dir = temp.make();
  const path = join(dir, "archive.tar");
  writeFileSync(join(dir, "small"), "small");
  writeFileSync(join(dir, "big"), "");
  truncateSync(join(dir, "big"), size);
  // The holes of the file become holes of the archive, which takes no time and no space.
  const tar = "tar --format=gnu -cf -";
  writeFileSync(path, output(["sh", "-c", `${tar} big | head -c 512`], undefined, dir));
  const end = 512 + Math.ceil(size / 512) * 512;
  truncateSync(path, end);
  writeFileSync(path, output(["sh", "-c", `${tar} small`], undefined, dir), { flag: "a" });
  const { members } = await readArchive(path, { maxBytes: 3 * GIB });
  expect(members).toMatchObject([
    { kind: "file", path: "big", offset: 512, size },
    { kind: "file", path: "small", offset: end + 512, size: 5 },
  ]);
  const error = await rejection(readArchive(path, { maxBytes: 2 * GIB }));
  expect(error.message).toEndWith(`the archive expands to more than ${2 * GIB} bytes`);
}, 60_000);

test("the size and names of a pax header override those of the header", async () => {
  const size = 700;
  const long = "ä".repeat(400);
  const tar = rawTar([
    paxMember({ size: `${size}`, path: long, comment: "x" }),
    { name: "a", data: "x".repeat(size), size: 0 },
    paxMember({ linkpath: long }),
    { name: "b", type: "1", link: "wrong" },
    paxMember({ comment: "for all" }, "g"),
    { name: "c", type: "7", data: "y" },
  ]);
  const { members } = await listed(temp.make(), tar);
  expect(members).toMatchObject([
    { kind: "file", path: long, size },
    { kind: "hardlink", path: "b", target: long },
    { kind: "file", path: "c", size: 1 },
  ]);
});
