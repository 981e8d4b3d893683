// SPDX-License-Identifier: MIT
/**
 * The disks of a guest that is saved now and then: each has layers over the image that was built.
 *
 * @module
 */

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256Of } from "../bytes.ts";
import { LAYER_CLUSTER_BYTES, type LayerBase, qcow2 } from "../format/qcow2.ts";
import type { Qmp } from "../launch/qmp.ts";
import { type LayeredDisk, layerNode, nodeOf } from "../plan/layers.ts";
import {
  type Checkpoint,
  layerName,
  nextNumbers,
  putLayers,
  type SavedFile,
  settleFile,
} from "../record/checkpoints.ts";
import type { RecordedImage } from "../record/types.ts";
import { writing } from "../refused.ts";
import { lstatIfThere } from "../runtime/stat.ts";

/** A layer of a disk. */
export interface Layer {
  readonly name: string;
  /** By which QEMU knows it, see {@link nodeOf}. */
  readonly node: number;
  /** Known once it no longer changes, and was forced to the disk. */
  saved?: SavedFile;
}

/** A disk of the guest, and its layers, the lowest first: the last one is written. */
export interface GuestDisk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly built: string;
  readonly layers: Layer[];
  /** How many names QEMU has had for its layers. */
  nodes: number;
}

/** The disks of a guest. */
export class GuestDisks {
  readonly all: readonly GuestDisk[];
  readonly #dir: string;
  readonly #place: string;

  /**
   * Gives each disk a layer of its own.
   *
   * @param dir The target, absolute; the caller has its lock.
   * @param place The directory of the layers, absolute.
   * @param from What the guest goes on from.
   * @throws {UserError} "target" where that cannot be written.
   */
  constructor(
    dir: string,
    place: string,
    images: readonly RecordedImage[],
    from: Checkpoint | undefined,
  ) {
    this.#dir = dir;
    this.#place = place;
    this.all = images.map((image) => {
      const { name, sizeBytes } = image;
      const saved = from?.disks.find((disk) => disk.image === name)?.layers ?? [];
      const layers = saved.map((saved, index) => ({ name: saved.name, node: index + 1, saved }));
      return { name, sizeBytes, built: builtDigest(image), layers, nodes: layers.length };
    });
    this.addLayers();
    this.tell();
  }

  /** As QEMU is told of them. */
  get layered(): LayeredDisk[] {
    return this.all.map(({ name, layers }) => ({
      image: join(this.#dir, name),
      layers: layers.map(({ name }) => this.pathOf(name)),
    }));
  }

  /** Whether the guest has written anything, ever. */
  get isWritten(): boolean {
    return this.all.some((disk) => {
      const { length } = this.#emptyLayer(disk, disk.layers.length - 1);
      const path = this.pathOf(disk.layers.at(-1)!.name);
      return disk.layers.length > 1 || lstatIfThere(path)?.size !== length;
    });
  }

  /** Forgets what a guest has written that starts again. */
  clear(): void {
    for (const disk of this.all) this.#write(disk, disk.layers.length - 1);
  }

  /** Forces all layers but the last ones to the disk, and returns them for the record. */
  async settle(signal: AbortSignal): Promise<Checkpoint["disks"]> {
    for (const { layers } of this.all) {
      for (const layer of layers.slice(0, -1)) {
        layer.saved ??= await settleFile(this.#dir, layer.name, signal);
      }
    }
    return this.all.map(({ name: image, sizeBytes, built, layers }) => ({
      image,
      sizeBytes,
      built,
      layers: layers.slice(0, -1).map((layer) => layer.saved!),
    }));
  }

  /** Path of a layer. */
  pathOf(name: string): string {
    return join(this.#place, name);
  }

  /** A layer as QEMU knows it. */
  nodeOf(disk: number, { name, node: number }: Layer): Readonly<Record<string, unknown>> {
    return layerNode({ disk, number, path: this.pathOf(name) });
  }

  /** Gives each disk of a guest that stands still a new layer, and returns those it had. */
  async freeze(qmp: Qmp): Promise<Layer[]> {
    const frozen = this.all.map(({ layers }) => layers.at(-1)!);
    const added = this.addLayers();
    const nodes: string[] = [];
    try {
      const actions = [];
      for (const [disk, { layers }] of this.all.entries()) {
        const [below, added] = layers.slice(-2) as [Layer, Layer];
        const overlay = nodeOf(disk, added.node);
        await qmp.execute("blockdev-add", { ...this.nodeOf(disk, added), backing: null });
        nodes.push(overlay);
        const node = nodeOf(disk, below.node);
        actions.push({ type: "blockdev-snapshot", data: { node, overlay } });
      }
      // Before: until the guest writes to it, a new layer changes nothing.
      this.tell();
      await qmp.execute("transaction", { actions });
    } catch (error) {
      for (const { layers } of this.all) layers.pop();
      this.tell();
      for (const node of nodes) {
        await qmp.execute("blockdev-del", { "node-name": node }).catch(ignore);
      }
      for (const name of added) rmSync(this.pathOf(name), { force: true });
      throw error;
    }
    return frozen;
  }

  /** Adds an empty layer to each disk, and returns their names. */
  addLayers(): string[] {
    const number = nextNumbers(this.#dir).layer;
    for (const disk of this.all) {
      disk.layers.push({ name: layerName(disk.name, number), node: ++disk.nodes });
      this.#write(disk, disk.layers.length - 1);
    }
    return this.all.map(({ layers }) => layers.at(-1)!.name);
  }

  /** Records which layers the disks have by now. */
  tell(): void {
    putLayers(
      this.#dir,
      this.all.map(({ name: image, layers }) => ({
        image,
        layers: layers.map(({ name }) => name),
      })),
    );
  }

  /** Makes a layer in which nothing is written. */
  #write(disk: GuestDisk, index: number): void {
    const bytes = this.#emptyLayer(disk, index);
    const path = this.pathOf(disk.layers[index]!.name);
    writing(path, () => writeFileSync(path, bytes, { mode: 0o600 }));
  }

  #emptyLayer(disk: GuestDisk, index: number): Uint8Array {
    const sizeBytes = Math.ceil(disk.sizeBytes / 512) * 512;
    return qcow2(sizeBytes, this.baseOf(disk, index), LAYER_CLUSTER_BYTES);
  }

  /** What a layer lies over. */
  baseOf({ name, layers }: GuestDisk, index: number): LayerBase {
    const below = layers[index - 1]?.name;
    return below === undefined
      ? { name: `../../${name}`, format: "raw" }
      : { name: below, format: "qcow2" };
  }
}

/** The digest by which an image is known again, see {@link SavedDisk.built}. */
function builtDigest(image: RecordedImage): string {
  return sha256Of(JSON.stringify(image));
}

/** Reports whether the disks of a checkpoint are of these images, as they were built. */
export function areBuilt(
  disks: Checkpoint["disks"],
  images: readonly RecordedImage[],
): boolean {
  return disks.length === images.length &&
    disks.every(({ image, built }, index) => {
      const now = images[index]!;
      return image === now.name && built === builtDigest(now);
    });
}

function ignore(): void {}
