// SPDX-License-Identifier: MIT
/**
 * Compares a target of seedstrap with one of rootfs.py. Differences that seedstrap announces in its
 * plan are expected, and checked to be as announced.
 *
 * @module
 */

import type { Entry, Media } from "./media.ts";

/** The used part of `seedstrap plan --json`. */
export interface AnnouncedPlan {
  readonly options: { readonly mode: string };
  readonly payload: {
    readonly present: boolean;
    readonly extras?: readonly { readonly name: string; readonly to: string }[];
  };
  readonly images: readonly string[];
  readonly overlay: {
    readonly files: readonly string[];
    readonly manifestLines: readonly { readonly text: string }[];
    readonly madeAgain: readonly string[];
  };
}

/** What was compared, and the differences. */
export interface Comparison {
  /** What was compared, as a phrase. */
  readonly compared: string;
  readonly problems: readonly string[];
}

/** Compares two targets. */
export function compareMedia(theirs: Media, ours: Media, plan: AnnouncedPlan): Comparison {
  const problems: string[] = [];
  const [left, right] = plan.payload.present
    ? [withSecondDisk(theirs), withPayload(ours, plan)]
    : [new Map(theirs.entries), new Map(ours.entries)];
  const settings = takeConfigs(left, right, plan, problems);
  takeManifests(left, right, plan, problems);
  takeOverlay(left, right, plan, problems);
  const count = left.size;
  for (const path of new Set([...left.keys(), ...right.keys()])) {
    const [a, b] = [left.get(path)?.text ?? "nothing", right.get(path)?.text ?? "nothing"];
    if (a !== b) problems.push(`${path}: rootfs.py has ${a}, seedstrap has ${b}`);
  }
  const frames = [theirs, ours].map(({ frame }) => comparableFrame(frame, plan));
  problems.push(...differences("of the images", frames[0]!, frames[1]!));
  const rest = [
    ...(frames[0]!.length > 0 ? [`${frames[0]!.length} facts of images`] : []),
    `${settings} settings`,
  ];
  return { compared: [`${count} entries`, ...rest].join(", "), problems };
}

/** Returns the entries of rootfs.py, which has distfiles on a second disk instead of a payload. */
function withSecondDisk({ entries }: Media): Map<string, Entry> {
  const prefix = "external.img:";
  return new Map([...entries].flatMap(([path, entry]): [string, Entry][] => {
    if (!path.startsWith(prefix)) return [[path, entry]];
    const [kind, , size, digest] = entry.text.split(" ");
    if (kind === "directory") return [];
    return [[`external/${path.slice(prefix.length)}`, { text: `${size} ${digest}` }]];
  }));
}

/**
 * Returns the entries of seedstrap. A payload also contains the checksums of its files, and may
 * contain packages.
 */
function withPayload(
  { entries }: Media,
  { payload: { extras = [] } }: AnnouncedPlan,
): Map<string, Entry> {
  const prefix = "payload.img:";
  const places = new Map(extras.map(({ name, to }) => [name, to.slice(1)]));
  return new Map([...entries].flatMap(([path, entry]): [string, Entry][] => {
    if (!path.startsWith(prefix)) return [[path, entry]];
    const name = path.slice(prefix.length);
    const dir = places.get(name) ?? "external/distfiles";
    return name === "SHA256SUMS" ? [] : [[`${dir}/${name}`, entry]];
  }));
}

/** Compares both bootstrap.cfg and removes them. @returns Number of settings compared. */
function takeConfigs(
  left: Map<string, Entry>,
  right: Map<string, Entry>,
  plan: AnnouncedPlan,
  problems: string[],
): number {
  const path = "steps/bootstrap.cfg";
  const read = (entries: Map<string, Entry>): string[] => {
    const { text, content = "" } = entries.get(path) ?? { text: "nothing" };
    // Its mode is compared with the other entries, if there are modes.
    entries.set(path, { text: text.replace(/\d+ [0-9a-f]{64}$/, "") });
    return content === "" ? [] : content.replace(/\n$/, "").split("\n");
  };
  const isOwn = (line: string) => /^(PAYLOAD_REQUIRED|AIR_GAPPED)=/.test(line);
  const theirs = expectedSettings(read(left), plan);
  const ours = read(right).filter((line) => !isOwn(line)).map(withoutPort);
  problems.push(...differences("of bootstrap.cfg", theirs, ours));
  return theirs.length;
}

/** Returns the expected settings of seedstrap for those of rootfs.py. */
function expectedSettings(
  lines: readonly string[],
  { options: { mode }, payload }: AnnouncedPlan,
): string[] {
  const local = "http://127.0.0.1:";
  const urls = /"(.*)"/.exec(lines.find((line) => line.startsWith("MIRRORS=")) ?? "")?.[1];
  // A local directory has another address in QEMU, and is not a mirror for other machines.
  const mirrors =
    urls?.split(" ").flatMap((url) =>
      !url.startsWith(local)
        ? [url]
        : mode === "bare-metal"
        ? []
        : [mode === "qemu" ? url.replace(local, "http://10.0.2.2:") : url]
    ) ?? [];
  return lines.map((line) => {
    if (line.startsWith("MIRRORS=")) return withoutPort(`MIRRORS="${mirrors.join(" ")}"`);
    if (line.startsWith("MIRRORS_LEN=")) return `MIRRORS_LEN=${mirrors.length}`;
    // A payload disk is only read, so the system is installed to the boot disk.
    return line === "DISK=sdb1" && payload.present ? "DISK=sda" : line;
  });
}

/** Removes the port, as rootfs.py uses any free one. */
function withoutPort(line: string): string {
  return line.startsWith("MIRRORS=")
    ? line.replaceAll(/(127\.0\.0\.1|10\.0\.2\.2):\d+/g, "$1")
    : line;
}

/** Compares both manifests without the announced lines, and removes them. */
function takeManifests(
  left: Map<string, Entry>,
  right: Map<string, Entry>,
  { overlay }: AnnouncedPlan,
  problems: string[],
): void {
  if (overlay.manifestLines.length === 0) return;
  const added = overlay.manifestLines.map(({ text }) => text);
  const take = (entries: Map<string, Entry>) => {
    const text = entries.get("steps/manifest")?.content ?? "";
    entries.delete("steps/manifest");
    return text.split("\n");
  };
  const theirs = take(left);
  const ours = take(right).filter((line) => {
    const index = added.indexOf(line);
    if (index >= 0) added.splice(index, 1);
    return index < 0;
  });
  problems.push(...added.map((line) => `steps/manifest has no line ${line}`));
  problems.push(...differences("of steps/manifest", theirs, ours));
}

/** Removes the other entries that the plan announces from both. */
function takeOverlay(
  left: Map<string, Entry>,
  right: Map<string, Entry>,
  { overlay }: AnnouncedPlan,
  problems: string[],
): void {
  const own = ["steps/bootstrap.cfg", "steps/manifest"];
  for (const path of overlay.files.filter((path) => !own.includes(path))) {
    if (left.has(path)) problems.push(`${path} is announced, but rootfs.py has it too`);
    if (!right.delete(path)) problems.push(`${path} is announced, but is not there`);
    for (let dir = parent(path); dir !== "" && !left.has(dir); dir = parent(dir)) right.delete(dir);
  }
  // Entries that are lost at the jump may or may not be in the image.
  for (const path of overlay.madeAgain.map((path) => path.replace(/\/$/, ""))) {
    if (!left.has(path)) problems.push(`${path} is made again, but rootfs.py has no such thing`);
    if (!right.has(path)) left.delete(path);
    // A directory without any other entry is left out too.
    for (let dir = parent(path); dir !== "" && !right.has(dir); dir = parent(dir)) left.delete(dir);
  }
}

function parent(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/** Returns a frame without the consequences of announced differences. */
function comparableFrame(frame: readonly string[], plan: AnnouncedPlan): string[] {
  return frame.flatMap((line) => {
    if (plan.payload.present && line.startsWith("external.img:")) return [];
    // The size is an option only for QEMU; otherwise it depends on the files.
    const size = /^init\.img: size (\d+)$/.exec(line)?.[1];
    if (plan.options.mode !== "bare-metal" || size === undefined) return [line];
    return [`init.img: size ${Number(size) % 2 ** 20 === 0 ? "whole MiB" : size}`];
  });
}

/** Compares command lines, with the same name for both targets and accelerators. */
export function compareCommands(
  theirs: Started,
  ours: Started,
  plan: AnnouncedPlan,
): Comparison {
  const [left, right] = [theirs, ours].map(({ commands, target }) =>
    commands.map((words) =>
      withoutAccel(words).map((word) => {
        const named = word.replaceAll(target, "TARGET");
        return plan.payload.present ? named.replace("external.img", "payload.img") : named;
      })
    )
  );
  const texts = [left!, right!].map((commands) => commands.map((words) => JSON.stringify(words)));
  return {
    compared: left!.length === 0 ? "nothing started" : `${left!.flat().length} words`,
    problems: differences("of the command", texts[0]!, texts[1]!),
  };
}

/** The commands that a run has started. */
export interface Started {
  readonly commands: readonly (readonly string[])[];
  /** Absolute. */
  readonly target: string;
}

function withoutAccel(words: readonly string[]): readonly string[] {
  if (words[1] === "-enable-kvm") return [words[0]!, ...words.slice(2)];
  // The control channel, too, is how QEMU is watched, and nothing of the machine.
  words = words.filter((word, index) =>
    !word.includes("seedstrap-monitor") && !words[index + 1]?.includes("seedstrap-monitor")
  );
  const isAccel = words[1] === "-accel" && /^(kvm|tcg)$/.test(words[2] ?? "");
  return isAccel ? [words[0]!, ...words.slice(3)] : words;
}

/** Returns the differences of two lists, in order. */
function differences(what: string, theirs: readonly string[], ours: readonly string[]): string[] {
  const at = theirs.findIndex((line, index) => line !== ours[index]);
  const index = at < 0 && ours.length > theirs.length ? theirs.length : at;
  if (index < 0) return [];
  return [
    `line ${index + 1} ${what}: rootfs.py has ${theirs[index] ?? "no more"}, ` +
    `seedstrap has ${ours[index] ?? "no more"}`,
  ];
}
