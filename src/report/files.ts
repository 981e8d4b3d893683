// SPDX-License-Identifier: MIT
/**
 * The files of a target as tables, one for each image: what the map shows, and their digests.
 *
 * @module
 */

import { counted, formatBytes, formatCount } from "../text.ts";
import type { Content, ContentFile, ContentGroup } from "./contents.ts";
import { type Html, markup } from "./html.ts";
import { rowId, tableId } from "./map.ts";
import { digest, folded, share } from "./words.ts";

/** The files of every image. */
export function filesOf(contents: readonly Content[]): Html[] {
  return contents.map((content, image) =>
    folded(
      markup`<strong>${content.name}</strong> <span class="note">${
        counted(content.fileCount, "file")
      } by step, ${formatBytes(content.fileBytes)}</span>`,
      table(content, image),
      tableId(image),
    )
  );
}

function table(content: Content, image: number): Html {
  const id = tableId(image);
  const listed = content.groups.reduce((sum, { files }) => sum + files.length, 0);
  const others = content.fileCount - listed;
  return markup`${
    finder(`${id}-rows`, "file, step or SHA-256")
  }<table class="files" id="${id}-rows"><caption class="unseen">Files of ${content.name} by step</caption><thead><tr><th scope="col">File</th><th scope="col">SHA-256</th><th scope="col" class="number">Size</th></tr></thead>${
    content
      .groups.map((group, index) => groupRows(group, content, [image, index]))
  }</table>${
    others > 0 &&
    markup`<p class="note">${counted(others, "file is", "files are")} not listed.</p>`
  }`;
}

function groupRows(
  { name, sizeBytes, fileCount, files }: ContentGroup,
  { fileBytes }: Content,
  [image, group]: readonly [number, number],
): Html {
  return markup`<tbody><tr class="group"><th scope="rowgroup" colspan="2">${name} <small>${
    counted(
      fileCount,
      "file",
    )
  }, ${share(sizeBytes, fileBytes)}</small></th><td class="number">${
    formatBytes(
      sizeBytes,
    )
  }</td></tr>${files.map((file, index) => row(file, name, rowId(image, group, index)))}</tbody>`;
}

function row({ path, sizeBytes, sha256, steps }: ContentFile, group: string, id: string): Html {
  const others = steps.filter((step) => step !== group);
  return markup`<tr id="${id}"><td class="name">${path}${
    steps.length > 1 && markup` <small>also for ${others.join(", ")}</small>`
  }</td><td>${digest(sha256)}</td><td class="number" title="${formatCount(sizeBytes)} bytes">${
    formatBytes(sizeBytes)
  }</td></tr>`;
}

/** A field that leaves only the rows of a table that have a text; it works with the script. */
export function finder(table: string, what: string): Html {
  return markup`<p class="finder" hidden><label>Find <input type="search" id="find-${table}" data-table="${table}" placeholder="${what}" autocomplete="off" spellcheck="false"></label> <output></output></p>`;
}
