// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { Buffer } from "node:buffer";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import {
  containerImage,
  isContainer,
  isOwnContainer,
  type LayerEntry,
  layerSegments,
  readContainer,
  readLayer,
} from "../../src/format/oci.ts";
import { memorySource } from "../../src/format/reader.ts";
import { MIB } from "../../src/format/segment.ts";
import { verifyImage } from "../../src/image/linear.ts";
import { paxMember, type RawMember, rawTar } from "../archive/support.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { damaged, Random } from "../support/mutate.ts";
import { run, testWith } from "../support/run.ts";
import { assertBounded, bytesOfSegments, faultOf, watchedSource } from "../support/sources.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const SETTINGS = { architecture: "386", entrypoint: ["/seed"], environment: ["PATH=/bin"] };

function imageOf(entries: readonly LayerEntry[]) {
  const layer = layerSegments(entries);
  const layerBytes = bytesOfSegments(layer);
  const layerSha256 = sha256(layerBytes);
  const image = containerImage(layer, layerSha256, SETTINGS);
  return { ...image, bytes: bytesOfSegments(image.segments), layerBytes, layerSha256 };
}

/** An image of ours around any layer. */
function around(layer: Uint8Array): Uint8Array {
  const { segments } = containerImage([{ kind: "bytes", bytes: layer }], sha256(layer), SETTINGS);
  return bytesOfSegments(segments);
}

/** What is other than it should be in {@link foreign}. */
interface Foreign {
  readonly sizeBytes?: number;
  readonly diffSha256?: string;
  /** White space in the index. */
  readonly spaceBytes?: number;
}

/** An image of another program, with all digests but those given right. */
function foreign(layer: Uint8Array, { sizeBytes, diffSha256, spaceBytes = 0 }: Foreign) {
  const blob = (text: string, size = text.length) => ({
    mediaType: "application/json",
    digest: `sha256:${sha256(Buffer.from(text))}`,
    size,
  });
  const layerSha256 = sha256(layer);
  const config = JSON.stringify({ rootfs: { diff_ids: [`sha256:${diffSha256 ?? layerSha256}`] } });
  const manifest = JSON.stringify({
    config: blob(config),
    layers: [{
      mediaType: "application/x-tar",
      digest: `sha256:${layerSha256}`,
      size: sizeBytes ?? layer.length,
    }],
  });
  const index = JSON.stringify({ manifests: [blob(manifest)] }) + " ".repeat(spaceBytes);
  const member = (data: string | Uint8Array) => ({
    name: `blobs/sha256/${sha256(Buffer.from(data))}`,
    data,
  });
  return rawTar([{ name: "index.json", data: index }, ...[config, manifest, layer].map(member)]);
}

const file = (path: string, bytes: Uint8Array, mode = 0o644): LayerEntry => ({
  path,
  mode,
  body: { kind: "bytes", bytes },
});

const FEW: readonly LayerEntry[] = [
  { path: "bin", mode: 0o755 },
  file("bin/su", sampleBody(700), 0o4755),
  { path: "lib", mode: 0o777, target: "bin/../bin" },
  file("seed", sampleBody(70_000), 0o755),
  file("empty", new Uint8Array()),
];

const names = fc.oneof(
  fc.constantFrom("a b", "ü", "\u{1F4BE}", " ", "...", "wh.", "new\nline", "x".repeat(255)),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }),
).filter((name) =>
  !/[/\0]/.test(name) && ![".", ".."].includes(name) && !name.startsWith(".wh.") &&
  name.isWellFormed()
);
const paths = fc.array(names, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
const modes = fc.integer({ min: 0, max: 0o7777 });
const entry: fc.Arbitrary<LayerEntry> = fc.oneof(
  fc.record({ path: paths, mode: modes }),
  fc.record({ path: paths, mode: fc.constant(0o777), target: paths }),
  fc.record({ path: paths, mode: modes, size: fc.constantFrom(0, 1, 511, 512, 513, 5000) })
    .map(({ path, mode, size }) => file(path, sampleBody(size, size + 1), mode)),
);

test("readLayer() returns what was written, and nothing of it depends on anything else", () =>
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
      const { bytes, layerBytes, ...image } = imageOf(entries);
      expect(Buffer.from(imageOf(entries).bytes).equals(bytes)).toBe(true);
      const source = watchedSource(bytes);
      expect(isContainer(source)).toBe(true);
      const head = readContainer(source);
      expect(head).toMatchObject({
        layerSha256: sha256(layerBytes),
        configSha256: image.configSha256,
        manifestSha256: image.manifestSha256,
        endOffsetBytes: bytes.length,
      });
      expect(isOwnContainer(source, head, SETTINGS)).toBe(true);
      const got = [...readLayer(source, head)].map(
        ({ kind, path, mode, uid, gid, sizeBytes, dataOffsetBytes, target }) => ({
          entry: {
            path,
            mode,
            ...(kind === "file" && {
              bytes: Buffer.from(bytes.subarray(dataOffsetBytes, dataOffsetBytes + sizeBytes)),
            }),
            ...(target !== undefined && { target }),
          },
          owner: [uid, gid],
        }),
      );
      const wanted = entries.map(({ body, ...rest }) => ({
        entry: { ...rest, ...(body?.kind === "bytes" && { bytes: Buffer.from(body.bytes) }) },
        owner: [0, 0],
      }));
      expect(got).toEqual(wanted);
      assertBounded(source, 6 + entries.length);
    }),
    { numRuns: 200 },
  ));

test("a name that would delete a file of a lower layer is refused", () => {
  for (const path of [".wh.a", "steps/.wh..wh..opq", ".wh.d/file"]) {
    expect(faultOf(() => layerSegments([file(path, new Uint8Array())]))).toContain(
      "into the image of a container",
    );
  }
});

/** An image with a text in place of another one of the same length. */
function changed(bytes: Uint8Array, from: string, to: string): Uint8Array {
  const all = Buffer.from(bytes);
  const at = all.indexOf(from);
  expect([at >= 0, from.length]).toEqual([true, to.length]);
  all.write(to, at);
  return all;
}

test("each way to be damaged is told", () => {
  const { bytes, layerSha256, configSha256 } = imageOf(FEW);
  const faultIn = (image: Uint8Array) =>
    faultOf(() => verifyImage(memorySource(image), "container"));
  const cases: readonly (readonly [Uint8Array, string])[] = [
    [bytes.subarray(0, 2000), "claims 409 bytes, more than are left"],
    [bytes.subarray(0, bytes.length - 1024), "the image has no end"],
    [
      changed(bytes, "manifests", "manifestz"),
      "its index.json is not as expected: manifests is missing",
    ],
    [
      changed(
        bytes,
        '"schemaVersion":2,"mediaType":"application/vnd.oci.image.m',
        '"schemaVersion":3,"mediaType":"application/vnd.oci.image.m',
      ),
      "the SHA-256 of its blobs/sha256/",
    ],
    [
      changed(bytes, '"os":"linux","config"', '"os":"linus","config"'),
      `the SHA-256 of its blobs/sha256/${configSha256} is `,
    ],
    [changed(bytes, "bin/su", "bin/so"), "the layer: the checksum of a header is wrong"],
    [rawTar([{ name: "oci-layout", data: "{}" }]), "it has no index.json"],
    [
      rawTar(Array.from({ length: 300 }, (_, i) => ({ name: `blobs/${i}` }))),
      "it has more than 256 members",
    ],
  ];
  for (const [image, fault] of cases) expect(faultIn(image)).toContain(fault);
  const twice = rawTar([{ name: "index.json", data: "{}" }]).subarray(0, 1024);
  expect(faultIn(Buffer.concat([twice, bytes]))).toContain("it has index.json twice");
  // GNU tar pads to 10 KiB.
  const layer = bytesOfSegments(layerSegments(FEW));
  const padded = (end: string) => around(Buffer.concat([layer, Buffer.from(end)]));
  expect(() => verifyImage(memorySource(padded("\0".repeat(8192))), "container")).not.toThrow();
  expect(faultIn(padded("\0\0more"))).toContain("the layer goes on after its end");
  const late = Buffer.from(layer);
  late[late.length - 1] = 1;
  expect(faultIn(around(late))).toContain("the layer has no end");
  // The zeros after it are those of the image.
  expect(faultIn(around(layer.subarray(0, -512)))).toContain("the layer has no end");
  const inLayer = Buffer.from(bytes);
  const head = readContainer(memorySource(bytes));
  const [, su] = [...readLayer(memorySource(bytes), head)];
  inLayer[su!.dataOffsetBytes]! ^= 1;
  expect(faultIn(inLayer)).toContain("the SHA-256 of its layer is ");
  expect(isOwnContainer(memorySource(inLayer), head, SETTINGS)).toBe(true);
  expect(layerSha256).toBe(head.layerSha256);
});

test("a layer has files, directories and links below its root, and nothing else", () => {
  const long = "n".repeat(70_000);
  const cases: readonly (readonly [readonly RawMember[], string])[] = [
    [[{ name: "../x" }], "leads out of it by its path"],
    [[{ name: "a/../../x" }], "leads out of it by its path"],
    [[{ name: "/etc/x" }], "leads out of it by its path"],
    [[{ name: "a/./x" }], "leads out of it by its path"],
    [[paxMember({ path: "../x" }), { name: "x" }], "leads out of it by its path"],
    [[{ name: "x", type: "1", link: "y" }], 'is of the type "1"'],
    [[{ name: "x", type: "3" }], 'is of the type "3"'],
    [[{ name: "x", type: "L", data: "y" }], 'is of the type "L"'],
    [[{ name: "x/", type: "5", data: "more" }], "has data and is no file"],
    [[paxMember({ size: "-1" }), { name: "x" }], "has a number that is none"],
    [[paxMember({ uid: "root" }), { name: "x" }], "has a number that is none"],
    [[paxMember({ path: long }), { name: "x" }], "has a pax header of 70012 bytes"],
    [[{ name: Uint8Array.of(0xff) }], "has a name that is not UTF-8"],
  ];
  for (const [members, fault] of cases) {
    expect(faultOf(() => verifyImage(memorySource(around(rawTar(members))), "container")))
      .toContain(fault);
  }
});

test("the parts of an image have to agree, and what leads to its layer is small", () => {
  const layer = bytesOfSegments(layerSegments(FEW));
  const image = (more: Foreign = {}) => memorySource(foreign(layer, more));
  expect(verifyImage(image(), "container").files).toBe(3);
  const faultIn = (more: Foreign) => faultOf(() => verifyImage(image(more), "container"));
  expect(faultIn({ sizeBytes: layer.length + 512 })).toContain("bytes, the manifest says");
  expect(faultIn({ diffSha256: sha256(new Uint8Array(1)) }))
    .toContain("its layer is compressed, or not its own");
  expect(faultIn({ spaceBytes: 2 * MIB })).toContain("its index.json has 2");
});

test("an image that says more than seedstrap makes is not its own", () => {
  const { bytes } = imageOf(FEW);
  const own = (image: Uint8Array, settings = SETTINGS) => {
    const source = memorySource(image);
    return isOwnContainer(source, readContainer(source), settings);
  };
  expect(own(bytes)).toBe(true);
  expect(own(bytes, { ...SETTINGS, entrypoint: ["/other"] })).toBe(false);
  // docker would give that name to it.
  expect(own(changed(bytes, '"RepoTags":["localhost/live', '"RepoTags":["localhost/dead'))).toBe(
    false,
  );
  // An engine may know it.
  const end = bytes.length - 1024;
  const more = rawTar([{ name: "repositories", data: "{}" }]);
  expect(own(Buffer.concat([bytes.subarray(0, end), more]))).toBe(false);
  expect(own(Buffer.concat([bytes, new Uint8Array(512)]))).toBe(false);
});

/** Runs a reader, which may end with an error about the image and no other. */
function ends(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    if (!(error instanceof UserError) || !["format", "verify"].includes(error.kind)) throw error;
  }
}

test("reading an image that is damaged ends, in bounded memory", () =>
  fc.assert(
    fc.property(fc.integer(), (number) => {
      const bytes = damaged(new Random(number), {
        bytes: imageOf(FEW).bytes.slice(),
        words: ["99999999999"],
      });
      const source = watchedSource(bytes);
      ends(() => {
        for (const { dataOffsetBytes, sizeBytes } of readLayer(source, readContainer(source))) {
          if (dataOffsetBytes + sizeBytes > bytes.length) throw new Error("content past the end");
        }
      });
      ends(() => verifyImage(source, "container"));
    }),
    { numRuns: 200 },
  ));

const testSkopeo = testWith("skopeo");
const testUmoci = testWith("umoci");

testSkopeo("skopeo reads the image as an OCI archive and as one of docker", async () => {
  const dir = temp.make();
  const path = join(dir, "image.oci.tar");
  const { bytes, manifestSha256, layerSha256 } = imageOf(FEW);
  writeFileSync(path, bytes);
  for (const kind of ["oci-archive", "docker-archive"]) {
    const { stdout, stderr, code } = await run(["skopeo", "inspect", `${kind}:${path}`]);
    expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
    const said = JSON.parse(stdout);
    expect(said).toMatchObject({
      Created: "1970-01-01T00:00:00Z",
      Architecture: "386",
      Os: "linux",
      Layers: [`sha256:${layerSha256}`],
      Env: ["PATH=/bin"],
    });
    if (kind === "oci-archive") expect(said.Digest).toBe(`sha256:${manifestSha256}`);
  }
});

testUmoci("umoci unpacks the image to what was put into it", async () => {
  const dir = temp.make();
  const layout = join(dir, "oci");
  mkdirSync(layout);
  writeFileSync(join(dir, "image.oci.tar"), imageOf(FEW).bytes);
  expect((await run(["tar", "xf", "../image.oci.tar"], { cwd: layout })).code).toBe(0);
  const bundle = join(dir, "bundle");
  const unpacked = await run([
    "umoci",
    "unpack",
    "--rootless",
    "--image",
    `${layout}:latest`,
    bundle,
  ]);
  expect(unpacked.code).toBe(0);
  const root = join(bundle, "rootfs");
  const digestOf = (path: string) => sha256(readFileSync(join(root, path)));
  expect(readdirSync(root).sort()).toEqual(["bin", "empty", "lib", "seed"]);
  expect(readlinkSync(join(root, "lib"))).toBe("bin/../bin");
  expect(digestOf("seed")).toBe(sha256(sampleBody(70_000)));
  expect(digestOf("bin/su")).toBe(sha256(sampleBody(700)));
  const modes = ["", "seed", "bin/su", "empty"].map((path) =>
    statSync(join(root, path)).mode % 0o10000
  );
  expect(modes).toEqual([0o755, 0o755, 0o4755, 0o644]);
  expect(statSync(join(root, "seed")).mtimeMs).toBe(0);
  const config = await Bun.file(join(bundle, "config.json")).json();
  expect(config.process).toMatchObject({ args: ["/seed"], cwd: "/" });
  expect(config.process.env).toContain("PATH=/bin");
});
