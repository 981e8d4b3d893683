// SPDX-License-Identifier: MIT
/**
 * Generators of records, for property tests.
 *
 * @module
 */
import * as fc from "fast-check";
import { distfileNameFault } from "../../src/fetch/distfile_name.ts";
import type {
  DistfileOrigin,
  RecordedDistfile,
  RecordedFile,
  RecordedImage,
  TargetRecord,
} from "../../src/record/types.ts";
import { subjectName, TARGET_FORMAT } from "../../src/record/types.ts";
import { buildOptions } from "../support/tree.ts";

const text = fc.string({ unit: "grapheme" });
const sha256 = fc.stringMatching(/^[0-9a-f]{64}$/);
const size = fc.nat();
const url = fc.webUrl({ withQueryParameters: true });
const place = fc.constantFrom("boot" as const, "payload" as const, "network" as const);

const file: fc.Arbitrary<RecordedFile> = fc.record({
  path: text.map((path) => `./${path}`),
  origin: fc.constantFrom("tree" as const, "repo" as const, "generated" as const),
  size,
  sha256,
});

const origin: fc.Arbitrary<DistfileOrigin> = fc.oneof(
  fc.record({ kind: fc.constantFrom("checkout" as const, "mirror" as const, "store" as const) }),
  fc.record({ kind: fc.constant("url" as const), url, redirectedTo: url }, {
    requiredKeys: ["kind", "url"],
  }),
);

export const distfile: fc.Arbitrary<RecordedDistfile> = fc.record({
  name: text.filter((name) => distfileNameFault(name) === undefined),
  sha256,
  urls: fc.array(fc.oneof(text, url)),
  size: fc.option(size),
  phase: fc.constantFrom("boot" as const, "fiwix" as const, "disk" as const),
  place,
  why: text,
  steps: fc.array(text),
  origin,
}, { requiredKeys: ["name", "sha256", "urls", "size", "phase", "place", "why", "steps"] });

function image(name: "init.img" | "disk.img"): fc.Arbitrary<RecordedImage> {
  const common = {
    name: fc.constant(name),
    role: fc.constant(name === "init.img" ? "boot" as const : "disk" as const),
    dataBytes: fc.nat({ max: 1000 }),
    sizeBytes: fc.integer({ min: 1000, max: 1001 }),
    files: fc.array(file),
  };
  return name === "init.img"
    ? fc.oneof(
      fc.record({ ...common, piecesSha256: sha256, sha256 }, {
        requiredKeys: ["name", "role", "dataBytes", "sizeBytes", "files", "piecesSha256"],
      }),
      fc.record({ ...common, sha256 }),
    )
    : fc.record({ ...common, blocksSha256: sha256 });
}

const checkout = fc.record({
  digest: sha256,
  commits: fc.array(fc.record({
    path: fc.constantFrom(".", "builder-hex0", "seed/stage0-posix"),
    commit: fc.stringMatching(/^[0-9a-f]{40}$/),
  })),
});

const optional = fc.record({
  kernelSha256: sha256,
  preseedSha256: sha256,
  builderSha256: sha256,
  mke2fs: text,
}, { requiredKeys: [] });

export const record: fc.Arbitrary<TargetRecord> = fc.record({
  mode: fc.constantFrom("qemu" as const, "chroot" as const),
  cores: fc.integer({ min: 1, max: 4096 }),
  config: text,
  reason: text,
  warnings: fc.array(text),
  distfiles: fc.uniqueArray(distfile, { selector: ({ name }) => name }),
  images: fc.tuple(image("init.img"), image("disk.img")),
  files: fc.uniqueArray(file, { selector: ({ path }) => subjectName(path) }),
  checkout,
  rest: optional,
}).map(({ mode, cores, config, reason, warnings, distfiles, images, files, checkout, rest }) => ({
  format: TARGET_FORMAT,
  seedstrap: "1.2.3",
  options: JSON.parse(JSON.stringify(buildOptions({ mode, cores }))),
  config,
  payload: { present: false, reason },
  overlay: { manifestLines: [{ text: reason, place: config }], files: [], madeAgain: [] },
  warnings,
  limits: [],
  distfiles,
  images: mode === "qemu" ? images : [],
  files: mode === "qemu" ? [] : files,
  servedMirrors: [{ path: "/srv", port: 24816 }],
  checkout,
  ...rest,
}));
