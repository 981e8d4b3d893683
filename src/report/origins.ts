// SPDX-License-Identifier: MIT
/**
 * What a target was made of and with: digests of outputs and inputs, options, programs.
 *
 * @module
 */

import { MIB } from "../format/segment.ts";
import type { BuildOptions } from "../plan/options.ts";
import type { RecordedImage, TargetRecord } from "../record/types.ts";
import { counted, formatBytes, formatCount } from "../text.ts";
import { type Html, markup } from "./html.ts";
import { digest, facts, folded } from "./words.ts";

/** What was built and what it was built from, each with its digest. */
export function checksumsOf(record: TargetRecord): Html {
  const { images, files, checkout, kernelSha256, preseedSha256, distfiles } = record;
  const packages = [...images.flatMap((image) => image.files), ...files]
    .filter(({ origin }) => origin === "repo");
  const carried = distfiles.filter(({ place }) => place !== "network").length;
  return markup`<h3>Outputs</h3>${
    images.length > 0
      ? table("Outputs", images.flatMap(imageRows))
      : markup`<p>A directory: the digest of each of its ${
        counted(files.length, "file")
      } is in <a href="#files-0">the table of files</a>.</p>`
  }<h3>Inputs</h3>${
    table("Inputs", [
      [
        "checkout",
        digest(checkout.digest),
        "of all its files that a build uses (seedstrapTree1)",
      ],
      ...checkout.commits.map(({ path, commit }) =>
        [path === "." ? "commit" : `commit of ${path}`, digest(commit), "Git"] as const
      ),
      ...optionalRow("kernel", kernelSha256, "SHA-256 of the kernel that was given"),
      ...optionalRow("archive", preseedSha256, "SHA-256 of the archive to begin from"),
    ])
  }<p class="note">${counted(carried, "distfile")}${
    packages.length > 0 &&
    ` and ${counted(packages.length, "prebuilt package")}`
  }: each digest is with <a href="#sources">the sources</a>${
    packages.length > 0 && markup`and <a href="#contents">the files</a>`
  }.</p>`;
}

function optionalRow(
  name: string,
  value: string | undefined,
  what: string,
): (readonly [string, Html, string])[] {
  return value === undefined ? [] : [[name, digest(value), what]];
}

function table(caption: string, rows: readonly (readonly [string, Html, string])[]): Html {
  return markup`<table class="digests"><caption class="unseen">${caption}</caption><thead class="unseen"><tr><th scope="col">What</th><th scope="col">Digest</th></tr></thead><tbody>${
    rows.map(([name, value, what]) =>
      markup`<tr><th scope="row">${name}</th><td>${value}<small class="more">${what}</small></td></tr>`
    )
  }</tbody></table>`;
}

/** The digests of an image, each with what it is of. */
function imageRows(
  { name, piecesSha256, sha256, blocksSha256, dataBytes, sizeBytes }: RecordedImage,
): (readonly [string, Html, string])[] {
  const part = dataBytes < sizeBytes
    ? ` of the first ${formatCount(dataBytes)} bytes; zeros follow up to ${formatBytes(sizeBytes)}`
    : "";
  return [
    ...optionalRow(name, piecesSha256, "SHA-256 of its pieces (seedstrapPieces1)"),
    ...optionalRow(name, sha256, `SHA-256${part}`),
    ...optionalRow(
      name,
      blocksSha256,
      "SHA-256 of its blocks that are not zero (seedstrapBlocks1)",
    ),
  ];
}

/** Programs, options and the configuration of the machine. */
export function environmentOf(record: TargetRecord): Html {
  const { seedstrap, builderSha256, mke2fs, options, config, overlay, payload, servedMirrors } =
    record;
  const { manifestLines, files, madeAgain } = overlay;
  return markup`${
    facts([
      ["seedstrap", seedstrap],
      [
        "its binary",
        builderSha256 === undefined ? "none: it ran from source" : digest(builderSha256),
      ],
      ["mke2fs", mke2fs],
      ["payload", `${payload.present ? "yes" : "none"}: ${payload.reason}`],
      [
        "mirrors that are served to the guest",
        servedMirrors.map(({ path, port }) => markup`<code>${path}</code> on port ${port}`),
      ],
    ])
  }<h3>Options</h3>${optionFacts(options)}${
    config !== "" &&
    markup`<h3 id="config">bootstrap.cfg</h3><pre tabindex="0" role="region" aria-labelledby="config">${
      lines(config)
    }</pre>`
  }${
    (manifestLines.length > 0 || files.length > 0) && folded(
      markup`<strong>The overlay</strong> <span class="note">${
        counted(files.length, "file")
      } only in the image, ${
        counted(
          manifestLines.length,
          "line",
        )
      } added to the manifest</span>`,
      markup`<h4>Lines of the manifest</h4><ul>${
        manifestLines.map(({ text, place }) => markup`<li><code>${text}</code> ${place}</li>`)
      }</ul><h4>Files</h4><ul class="names">${
        files.map((file) => markup`<li><code>${file}</code></li>`)
      }</ul>${
        madeAgain.length > 0 &&
        markup`<h4>Made again after the jump to Fiwix</h4><ul class="names">${
          madeAgain.map((file) => markup`<li><code>${file}</code></li>`)
        }</ul>`
      }`,
    )
  }`;
}

const MODES: Readonly<Record<BuildOptions["mode"], string>> = {
  qemu: "QEMU",
  "bare-metal": "a real machine",
  chroot: "a directory, by chroot",
  bwrap: "a directory, by bwrap",
  container: "a container, by podman or docker",
};

/** What a build is for, in a few words. */
export function modeText({ mode }: BuildOptions): string {
  return MODES[mode];
}

function optionFacts(options: BuildOptions): Html {
  const isQemu = options.mode === "qemu";
  const size = (mib: number) => mib === 0 ? undefined : formatBytes(mib * MIB);
  const flags = [
    ["--external-sources", options.externalSources],
    ["--air-gapped", options.airGapped],
    ["--force-timestamps", options.forceTimestamps],
    ["--update-checksums", options.updateChecksums],
    ["--build-kernels", options.buildKernels],
    ["--interactive", options.interactive],
    ["--configurator", options.configurator],
    ["--no-create-config", !options.createConfig],
    ["--mirror-credentials", options.mirrorCredentials === true],
    ["--overwrite-disk", options.overwriteDisk === true],
    ["--repo", options.hasRepo],
    ["--add", options.addedPaths !== undefined],
    ["--early-preseed", options.hasPreseed],
  ] as const;
  const set = flags.flatMap(([flag, isSet]) => isSet ? [markup`<code>${flag}</code>`] : []);
  return facts([
    ["for", modeText(options)],
    ["architecture", options.arch],
    ["cores to build with", options.cores],
    ["switched on", set],
    ["pass of live-bootstrap's CI", options.internalCi],
    [
      "mirrors",
      options.mirrors.map((mirror) =>
        markup`<code>${mirror.kind === "directory" ? mirror.path : mirror.url}</code>`
      ),
    ],
    [
      "payload",
      `${options.payload}, layout ${options.payloadLayout}, phases ${options.payloadPhases}`,
    ],
    ["installed to", options.disk],
    ["swap", size(options.swapMib)],
    ["QEMU", isQemu && markup`<code>${options.qemuCommand}</code>`],
    ["memory of the guest", isQemu && size(options.qemuRamMib)],
    ["boot disk", isQemu && size(options.targetSizeMib)],
    ["kernel", options.kernel !== undefined && markup`<code>${options.kernel}</code>`],
    ["what boots", options.kernel === undefined && options.bootProgram],
  ]);
}

function lines(text: string): Html[] {
  return text.replace(/\n$/, "").split("\n").map((line) => markup`${line}\n`);
}
