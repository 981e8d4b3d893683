// SPDX-License-Identifier: MIT
/**
 * The map of the bytes of a target: an area for each image, in it one for each step, in that one for
 * each file.
 *
 * Every view of the map is laid out beforehand, and the areas are links: to the view of a step, or
 * to the row of a file. The link opens the view without a script (`:target`); the script adds the
 * arrow keys.
 *
 * @module
 */

import { counted, formatBytes } from "../text.ts";
import type { Category, Content, ContentFile, ContentGroup } from "./contents.ts";
import { type Fragment, Html, markup } from "./html.ts";
import type { Placement } from "./places.ts";
import { type Box, squarify } from "./treemap.ts";
import { share } from "./words.ts";

const CATEGORIES: Readonly<Record<Category | "other", string>> = {
  checkout: "file of the checkout",
  "distfile-boot": "distfile, needed first",
  "distfile-fiwix": "distfile, needed under Fiwix",
  "distfile-disk": "distfile, needed on the disk",
  "distfile-network": "distfile, needed with the network",
  package: "prebuilt package",
  added: "file of --add",
  archive: "file of the archive to begin from",
  seedstrap: "made by seedstrap",
  other: "smaller ones",
};

/** The canvas for which areas are laid out, in pixels, on a wide and on a narrow screen. */
const CANVASES = [{ width: 1120, height: 520 }, { width: 330, height: 460 }] as const;
/** What a frame with a name takes of its area: the line with the name, and its borders. */
const FRAME = { width: 6, height: 28 };

/** Most areas in a view; the rest is one more. */
const MAX_AREAS = 400;

/** An area to draw. */
interface Area {
  readonly name: string;
  readonly sizeBytes: number;
  readonly category: Category | "other";
  /** What it is, in a line. */
  readonly about: string;
  /** The element that it leads to. */
  readonly to: string | undefined;
}

/** An image, and the ids of what is drawn of it. */
interface Numbered {
  readonly content: Content;
  readonly view: string;
  readonly table: string;
}

/** Returns the id of the row of a file. */
export function rowId(image: number, group: number, file: number): string {
  return `f${image}-${group}-${file}`;
}

/** Returns the id of the table of an image. */
export function tableId(image: number): string {
  return `files-${image}`;
}

/** Draws the map. */
export function mapOf(contents: readonly Content[], places: Placement): Html {
  const images = contents.map((content, index): Numbered => ({
    content,
    view: contents.length === 1 ? "map" : `map-${index}`,
    table: tableId(index),
  }));
  const views = images.flatMap((image, index) => [
    imageView(image, images.length > 1, places),
    ...image.content.groups.flatMap((group, at) =>
      group.files.length === 0 ? [] : [groupView(image, group, [index, at], places)]
    ),
  ]);
  const all = images.length > 1 ? [allView(images, places), ...views] : views;
  return markup`<div class="map" role="group" aria-label="Map of bytes. The tables after it have the same.">${all}<p class="about" aria-live="polite">${
    wholeText(
      contents,
    )
  }</p></div>${legend(contents)}`;
}

function wholeText(contents: readonly Content[]): string {
  const files = contents.reduce((sum, { fileCount }) => sum + fileCount, 0);
  const others = contents.reduce((sum, { otherBytes }) => sum + otherBytes, 0);
  return `${counted(files, "file")}, ${formatBytes(bytesIn(contents))}` +
    (others === 0 ? "" : `; ${formatBytes(others)} of boot code, records and padding beside them`) +
    ". Choose an area to go into it.";
}

function bytesIn(contents: readonly Content[]): number {
  return contents.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
}

/** A view, which the address of the page opens; the first one is open otherwise. */
function view(id: string, path: Fragment, canvas: Fragment): Html {
  return markup`<div class="view" id="${id}"><p class="path">${path}</p><div class="canvas">${canvas}</div></div>`;
}

/** All images, and in each its groups. */
function allView(images: readonly Numbered[], places: Placement): Html {
  const wholeBytes = bytesIn(images.map(({ content }) => content));
  const sizes = images.map(({ content }) => bytesIn([content]));
  const order = [...images.keys()].sort((a, b) => sizes[b]! - sizes[a]! || a - b);
  const boxes = CANVASES.map((canvas) => squarify(order.map((at) => sizes[at]!), whole(canvas)));
  const frames = order.map((at, index) => {
    const image = images[at]!;
    const [wide, narrow] = boxes.map((of) => of[index]!) as [Box, Box];
    const id = places.put(part(wide, CANVASES[0]), part(narrow, CANVASES[1]));
    const { name } = image.content;
    const size = formatBytes(sizes[at]!);
    const about = `${name}: ${size}, ${share(sizes[at]!, wholeBytes)} of all images`;
    const inner = [wide, narrow].map(({ width, height }) => ({
      width: Math.max(1, width - FRAME.width),
      height: Math.max(1, height - FRAME.height),
    }));
    return markup`<div class="frame" id="${id}"><a class="name" href="#${image.view}" title="${about}">${name} <small>${size}</small></a><div class="areas">${
      areasOf(
        groupAreas(image),
        inner,
        places,
      )
    }</div></div>`;
  });
  const chips = images.map(({ content, view }) =>
    markup`<a class="chip" href="#${view}">${content.name}</a>`
  );
  return view(
    "map",
    markup`<strong>all images</strong> ${formatBytes(wholeBytes)}${chips}`,
    frames,
  );
}

/** One image, and its groups. */
function imageView(image: Numbered, hasMore: boolean, places: Placement): Html {
  const { content } = image;
  const path = markup`${
    hasMore && markup`<a class="up" href="#map">all images</a> ›`
  }<strong>${content.name}</strong> ${formatBytes(bytesIn([content]))}`;
  return view(image.view, path, areasOf(groupAreas(image), CANVASES, places));
}

/** One group, and its files. */
function groupView(
  image: Numbered,
  group: ContentGroup,
  [imageIndex, groupIndex]: readonly [number, number],
  places: Placement,
): Html {
  const { content } = image;
  const hasMore = image.view !== "map";
  const path = markup`${
    hasMore && markup`<a href="#map">all images</a> ›`
  }<a class="up" href="#${image.view}">${content.name}</a> › <strong>${group.name}</strong> ${
    formatBytes(
      group.sizeBytes,
    )
  }`;
  const areas = group.files.map((file, index) =>
    fileArea(file, group, rowId(imageIndex, groupIndex, index))
  );
  const others = group.fileCount - group.files.length;
  const rest: Area[] = others === 0 ? [] : [{
    name: counted(others, "more file"),
    sizeBytes: group.sizeBytes - group.files.reduce((sum, file) => sum + file.sizeBytes, 0),
    category: "other",
    about: `${counted(others, "more file")} of ${group.name}`,
    to: undefined,
  }];
  const id = `${tableId(imageIndex)}-${groupIndex}`;
  return view(id, path, areasOf([...areas, ...rest], CANVASES, places));
}

function fileArea(
  { path, sizeBytes, category, steps }: ContentFile,
  group: ContentGroup,
  to: string,
): Area {
  const also = steps.length > 1 ? `, for ${steps.length} steps` : "";
  const about = `${path}: ${formatBytes(sizeBytes)}, ${share(sizeBytes, group.sizeBytes)} of ` +
    `${group.name}, ${CATEGORIES[category]}${also}`;
  return { name: path.slice(path.lastIndexOf("/") + 1), sizeBytes, category, about, to };
}

function groupAreas({ content, table }: Numbered): Area[] {
  const { name, groups } = content;
  const wholeBytes = bytesIn([content]);
  return groups.map((group, index): Area => ({
    name: group.name,
    sizeBytes: group.sizeBytes,
    category: mainCategory(group),
    about: `${group.name}: ${formatBytes(group.sizeBytes)}, ` +
      `${share(group.sizeBytes, wholeBytes)} of ${name}, ${counted(group.fileCount, "file")}`,
    to: group.files.length === 0 ? undefined : `${table}-${index}`,
  }));
}

/** The category that most bytes of a group have. */
function mainCategory({ files }: ContentGroup): Category | "other" {
  const bytes = new Map<Category, number>();
  for (const { category, sizeBytes } of files) {
    bytes.set(category, (bytes.get(category) ?? 0) + sizeBytes);
  }
  return [...bytes].sort(([, a], [, b]) => b - a)[0]?.[0] ?? "other";
}

/** Draws areas on canvases of these sizes; those that are empty are in the tables only. */
function areasOf(
  areas: readonly Area[],
  canvases: readonly { readonly width: number; readonly height: number }[],
  places: Placement,
): Html[] {
  const some = areas.filter(({ sizeBytes }) => sizeBytes > 0);
  const others = some.slice(MAX_AREAS);
  const drawn = others.length === 0 ? some : [...some.slice(0, MAX_AREAS), {
    name: `${others.length} more`,
    sizeBytes: others.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    category: "other" as const,
    about: `${others.length} more, see the tables`,
    to: undefined,
  }].sort((a, b) => b.sizeBytes - a.sizeBytes);
  const sizes = drawn.map(({ sizeBytes }) => sizeBytes);
  const [wide, narrow] = canvases.map((canvas) =>
    squarify(sizes, whole(canvas)).map((box) => part(box, canvas))
  );
  return drawn.map(({ name, sizeBytes, category, about, to }, index) => {
    const id = places.put(wide![index]!, narrow![index]!);
    const label = markup`<span>${name}<small>${formatBytes(sizeBytes)}</small></span>`;
    return to === undefined
      ? markup`<div class="area ${category}" id="${id}" title="${about}">${label}</div>`
      : markup`<a class="area ${category}" id="${id}" title="${about}" href="#${to}">${label}</a>`;
  });
}

function whole({ width, height }: { readonly width: number; readonly height: number }): Box {
  return { x: 0, y: 0, width, height };
}

function part(box: Box, canvas: { readonly width: number; readonly height: number }): Box {
  return {
    x: box.x / canvas.width,
    y: box.y / canvas.height,
    width: box.width / canvas.width,
    height: box.height / canvas.height,
  };
}

/** The colours that are on the map. */
function legend(contents: readonly Content[]): Html {
  const files = contents.flatMap(({ groups }) => groups.flatMap(({ files }) => files));
  const used = new Set<string>(files.map(({ category }) => category));
  const rows = Object.entries(CATEGORIES).filter(([category]) => used.has(category));
  return markup`<ul class="legend">${
    rows.map(([category, text]) => markup`<li><i class="${category}"></i>${text}</li>`)
  }</ul>`;
}
