// SPDX-License-Identifier: MIT
/**
 * What a target is made of: the files of its images, by the step that they belong to.
 *
 * @module
 */

import { plainPath } from "../image/types.ts";
import { kindOf } from "../record/find.ts";
import { stepsOf, stepsOfRecord } from "../record/steps.ts";
import type { RecordedFile, RecordedImage, TargetRecord } from "../record/types.ts";
import { counted } from "../text.ts";
import type { Phase } from "../plan/split.ts";

/** What a file is, as the map has colours for it: a distfile by when it is first needed. */
export type Category =
  | "checkout"
  | "seedstrap"
  | "package"
  | "added"
  | "archive"
  | `distfile-${Phase}`;

/** A file of an image, or of a directory to start in. */
export interface ContentFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly category: Category;
  /** The steps that need it. */
  readonly steps: readonly string[];
}

/** Files that belong together. */
export interface ContentGroup {
  /** Of the first step that needs them, else of the directory that they are in. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly fileCount: number;
  /** The largest first, those of the same size by path; some are left out of a hostile record. */
  readonly files: readonly ContentFile[];
}

/** An image, or a directory to start in. */
export interface Content {
  readonly name: string;
  /** All files together. */
  readonly fileBytes: number;
  /** Bytes that are no content of files: boot code, records, padding; 0 for a directory. */
  readonly otherBytes: number;
  /** Undefined for a directory. */
  readonly image: RecordedImage | undefined;
  readonly fileCount: number;
  /** The largest first. */
  readonly groups: readonly ContentGroup[];
}

/** Most files of an image that are named, and groups: live-bootstrap has some 1,700, and 200. */
const MAX_FILES = 5000;
const MAX_GROUPS = 500;

const SCRIPTS = /^(improve|jump): /;

/** Returns what each image of a target holds; a directory is like one image. */
export function contentsOf(record: TargetRecord): Content[] {
  const steps = stepsOfRecord(record);
  const phases = new Map(record.distfiles.map(({ name, phase }) => [name, phase]));
  const content = (name: string, image: RecordedImage | undefined): Content => {
    const kind = image === undefined ? "disk" : kindOf(image.role);
    const files = (image ?? record).files.map((file): ContentFile => ({
      path: plainPath(file.path),
      sizeBytes: file.size,
      sha256: file.sha256,
      category: categoryOf(file, phases),
      steps: stepsOf(file.path, kind, steps),
    }));
    const fileBytes = total(files);
    return {
      name,
      fileBytes,
      // A file system shares blocks, and leaves holes in them.
      otherBytes: Math.max(0, bytesOf(image) - fileBytes),
      image,
      fileCount: files.length,
      groups: grouped(files),
    };
  };
  if (record.images.length === 0) return [content("directory", undefined)];
  return record.images.map((image) => content(image.name, image));
}

/** Bytes of an image that are not a sparse tail; a disk with a file system is mostly empty. */
function bytesOf(image: RecordedImage | undefined): number {
  return image === undefined || image.blocksSha256 !== undefined ? 0 : image.dataBytes;
}

function categoryOf(
  { path, origin }: RecordedFile,
  phases: ReadonlyMap<string, Phase>,
): Category {
  switch (origin) {
    case "distfile":
      return `distfile-${phases.get(path.slice(path.lastIndexOf("/") + 1)) ?? "boot"}`;
    case "generated":
      return "seedstrap";
    case "repo":
      return "package";
    case "added":
      return "added";
    case "preseed":
      return "archive";
    default:
      return "checkout";
  }
}

function grouped(files: readonly ContentFile[]): ContentGroup[] {
  const groups = [...Map.groupBy(files, groupOf)].map(([name, files]) => ({
    name,
    sizeBytes: total(files),
    files: files.toSorted((a, b) => bySize(a, b) || compare(a.path, b.path)),
  })).sort((a, b) => bySize(a, b) || compare(a.name, b.name));
  let left = MAX_FILES;
  const named = groups.slice(0, MAX_GROUPS).map((group): ContentGroup => {
    const some = group.files.slice(0, left);
    left -= some.length;
    return { ...group, fileCount: group.files.length, files: some };
  });
  const others = groups.slice(MAX_GROUPS);
  if (others.length === 0) return named;
  return [...named, {
    name: counted(others.length, "smaller group"),
    sizeBytes: total(others),
    fileCount: others.reduce((sum, { files }) => sum + files.length, 0),
    files: [],
  }];
}

function groupOf({ path, steps: [step] }: ContentFile): string {
  const script = step === undefined ? undefined : SCRIPTS.exec(step)?.[1];
  if (script !== undefined) return `steps/${script}`;
  if (step !== undefined) return step;
  const [top, ...rest] = path.split("/");
  return rest.length === 0 ? "files at the root" : `${top}/`;
}

function bySize(a: { readonly sizeBytes: number }, b: { readonly sizeBytes: number }): number {
  return b.sizeBytes - a.sizeBytes;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function total(items: readonly { readonly sizeBytes: number }[]): number {
  return items.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
