// SPDX-License-Identifier: MIT
/**
 * Makes the arguments of QEMU for disks in layers: what a guest writes goes to the topmost one, and
 * the image that was built is only read.
 *
 * QEMU gets every layer by name, and follows no header to another file. The machine is that of a
 * guest on plain images: `-drive` makes its disks the same way.
 *
 * @module
 */

import { escapeComma } from "./qemu.ts";

/** A disk of a guest; paths are absolute. */
export interface LayeredDisk {
  /** The image, which is never written. */
  readonly image: string;
  /** The lowest first; the last one is written. At least one. */
  readonly layers: readonly string[];
}

/**
 * A layer that is being written need not outlive the machine that it is on: what a checkpoint needs
 * is forced to the disk when it is saved, and everything later is lost with the guest anyway. So
 * QEMU never waits for the disk.
 */
const CACHE = { direct: false, "no-flush": true } as const;

/** Returns the arguments for disks, in the order of the BIOS: the boot disk first. */
export function layeredDriveArgs(disks: readonly LayeredDisk[]): string[] {
  return disks.flatMap(({ image, layers }, disk) => [
    "-blockdev",
    JSON.stringify({
      "node-name": nodeOf(disk, 0),
      driver: "raw",
      "read-only": true,
      file: { driver: "file", filename: image },
    }),
    ...layers.slice(0, -1).flatMap((path, index) => [
      "-blockdev",
      JSON.stringify({
        ...layerNode({ disk, number: index + 1, path }),
        "read-only": true,
        backing: nodeOf(disk, index),
      }),
    ]),
    "-drive",
    [
      `node-name=${nodeOf(disk, layers.length)}`,
      "driver=qcow2",
      "file.driver=file",
      `file.filename=${escapeComma(layers.at(-1)!)}`,
      `backing=${nodeOf(disk, layers.length - 1)}`,
      "cache=unsafe",
    ].join(","),
  ]);
}

/** A layer as QEMU knows it. */
export interface LayerNode {
  /** Number of the disk, from 0 on. */
  readonly disk: number;
  /** How many things are below it, the image among them. */
  readonly number: number;
  /** Absolute path. */
  readonly path: string;
}

/** The description of a layer for QEMU, without what is below it. */
export function layerNode({ disk, number, path }: LayerNode): Readonly<Record<string, unknown>> {
  return {
    "node-name": nodeOf(disk, number),
    driver: "qcow2",
    cache: CACHE,
    file: { driver: "file", filename: path, cache: CACHE },
  };
}

/** Name of a layer for QEMU, or of the image that is below all. */
export function nodeOf(disk: number, number: number): string {
  return number === 0 ? `disk${disk}-image` : `disk${disk}-layer${number}`;
}
