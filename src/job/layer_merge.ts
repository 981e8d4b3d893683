// SPDX-License-Identifier: MIT
/**
 * Merges layers of a guest's disks, so that there are few of them however often it is saved.
 *
 * @module
 */

import { rmSync } from "node:fs";
import { messageOf, systemCode, UserError } from "../errors.ts";
import { type Qmp, QmpError } from "../launch/qmp.ts";
import { nodeOf } from "../plan/layers.ts";
import {
  layerName,
  listCheckpoints,
  nextNumbers,
  removeUnneeded,
  replaceLayers,
  type SavedFile,
  settleFile,
} from "../record/checkpoints.ts";
import { mergeLayers } from "../write/layers.ts";
import type { GuestDisks, Layer } from "./guest_disks.ts";
import { checkFree } from "./space.ts";

/** Merges the layers of one guest. */
export class LayerMerger {
  readonly #dir: string;
  readonly #place: string;
  readonly #disks: GuestDisks;
  readonly #onNotice: (text: string) => void;
  /** Ends the merging of layers. */
  #compacting: AbortController | undefined;
  #mayCompact = true;
  #isOver = false;

  /** @param place The directory of the layers of a target. */
  constructor(
    dir: string,
    place: string,
    disks: GuestDisks,
    onNotice: (text: string) => void,
  ) {
    this.#dir = dir;
    this.#place = place;
    this.#disks = disks;
    this.#onNotice = onNotice;
  }

  /** Ends a merging that is under way. */
  abort(): void {
    this.#compacting?.abort();
  }

  /** Ends a merging that is under way, as the guest is gone. */
  end(): void {
    this.#isOver = true;
    this.abort();
  }

  /**
   * Makes one layer of two between which there is no checkpoint any more. What is written often is
   * merged often, and what is large seldom: of layers that are merged with one a quarter as large
   * there are as many as the logarithm of what the guest has written.
   */
  async run(qmp: Qmp): Promise<void> {
    if (!this.#mayCompact) return;
    this.#compacting = new AbortController();
    try {
      for (const [disk, { layers }] of this.#disks.all.entries()) {
        for (;;) {
          const at = mergeableAt(layers, this.#chains(disk));
          if (at === undefined) break;
          if (!await this.#merge(qmp, disk, at, this.#compacting.signal)) return;
        }
      }
    } catch (error) {
      // Nothing was lost: both layers are still there.
      this.#mayCompact = error instanceof UserError && error.kind === "interrupt";
      if (systemCode(error) === undefined && !isExpected(error)) throw error;
      if (!this.#mayCompact && !this.#isOver) {
        this.#onNotice(`layers are not merged any more: ${messageOf(error)}`);
      }
    } finally {
      this.#compacting = undefined;
    }
  }

  /** The layers that each checkpoint needs of a disk. */
  #chains(disk: number): (readonly string[])[] {
    const { name } = this.#disks.all[disk]!;
    return listCheckpoints(this.#dir).map(({ read }) =>
      typeof read === "string"
        ? []
        : read.disks.find(({ image }) => image === name)?.layers.map(({ name }) => name) ?? []
    );
  }

  /** Merges the layers at an index and above it. The guest goes on meanwhile. */
  async #merge(qmp: Qmp, disk: number, at: number, signal: AbortSignal): Promise<boolean> {
    const dir = this.#dir;
    const { name: image, layers } = this.#disks.all[disk]!;
    const [lower, upper, above] = layers.slice(at, at + 3) as [Layer, Layer, Layer];
    const name = layerName(image, nextNumbers(dir).layer);
    const path = (layer: string) => this.#disks.pathOf(layer);
    const base = this.#disks.baseOf(this.#disks.all[disk]!, at);
    const paths = { lower: path(lower.name), upper: path(upper.name), into: path(name) };
    let merged: Layer;
    const { nodes } = this.#disks.all[disk]!;
    try {
      await checkFree(this.#place, lower.saved!.sizeBytes + upper.saved!.sizeBytes);
      if (!await mergeLayers(paths, base, signal)) return false;
      const saved = await settleFile(dir, name, signal);
      merged = { name, node: nodes + 1, saved };
      this.#disks.all[disk]!.nodes++;
      const below = nodeOf(disk, layers[at - 1]?.node ?? 0);
      await qmp.execute("blockdev-add", {
        ...this.#disks.nodeOf(disk, merged),
        "read-only": true,
        backing: below,
      });
      await qmp.execute("blockdev-reopen", {
        options: [{
          ...this.#disks.nodeOf(disk, above),
          "read-only": true,
          backing: nodeOf(disk, merged.node),
        }],
      });
    } catch (error) {
      const node = nodeOf(disk, nodes + 1);
      await qmp.execute("blockdev-del", { "node-name": node }).catch(ignore);
      for (const part of [name, `${name}.part`]) rmSync(path(part), { force: true });
      throw error;
    }
    layers.splice(at, 2, merged);
    this.#disks.tell();
    replaceLayers(dir, image, [lower.name, upper.name], merged.saved!);
    for (const { node } of [upper, lower]) {
      // One that was made by -drive is gone by itself.
      await qmp.execute("blockdev-del", { "node-name": nodeOf(disk, node) }).catch(ignore);
    }
    removeUnneeded(dir);
    return true;
  }
}

/** A layer is merged with one below it that is at most so many times as large. */
const MERGE_RATIO = 4;
/** Deeper than this, any two are merged: QEMU looks for what was not written in every layer. */
const MOST_LAYERS = 32;

/**
 * Where two layers can be merged: the index of the lower one.
 *
 * @param layers Of a disk. The one above the two must no longer be written.
 * @param chains The layers that each checkpoint needs of it.
 */
export function mergeableAt(
  layers: readonly { readonly name: string; readonly saved?: SavedFile }[],
  chains: readonly (readonly string[])[],
): number | undefined {
  for (let at = layers.length - 4; at >= 0; at--) {
    const [lower, upper] = [layers[at]!, layers[at + 1]!];
    if (lower.saved === undefined || upper.saved === undefined) continue;
    const isBetween = chains.some((chain) => {
      const found = chain.indexOf(lower.name);
      return found >= 0 && chain[found + 1] !== upper.name;
    });
    if (isBetween) continue;
    const isNear = lower.saved.sizeBytes <= MERGE_RATIO * upper.saved.sizeBytes;
    if (isNear || layers.length > MOST_LAYERS) return at;
  }
  return undefined;
}

function isExpected(error: unknown): boolean {
  return error instanceof UserError || error instanceof QmpError;
}

function ignore(): void {}
