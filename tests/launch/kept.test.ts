// SPDX-License-Identifier: MIT
/** What is put into a container, taken by programs that fail as an engine may. */
import { afterEach, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { copyIntoKept, isContainerName, newContainerName } from "../../src/launch/kept.ts";
import { streamImage } from "../../src/write/stream.ts";
import { rejection } from "../fetch/harness.ts";
import { TempDirs } from "../support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const NAME = "seedstrap-0123456789ab";
const SIZE_BYTES = 8 * 1024 * 1024;

/** An engine that does what a script does, and the copy of zeros into a container of it. */
function scene(script: string) {
  const dir = temp.make();
  const path = join(dir, "engine");
  writeFileSync(path, `#!/bin/sh\ncd ${dir}\n${script}\n`, { mode: 0o755 });
  const ends = new AbortController();
  const { signal } = ends;
  const copy = (onBytes = () => {}) =>
    copyIntoKept(
      { name: "podman", path },
      NAME,
      (to) => streamImage([{ kind: "zeros", sizeBytes: SIZE_BYTES }], to, { signal, onBytes }),
      signal,
    );
  return { dir, ends, copy };
}

test("an engine gets all that is put into a container, and is waited for", async () => {
  const { dir, copy } = scene('cat >got; sleep 0.2; echo "$@" >arguments');
  await copy();
  expect(readFileSync(join(dir, "got")).length).toBe(SIZE_BYTES);
  expect(readFileSync(join(dir, "arguments"), "utf8")).toBe(`cp - ${NAME}:/\n`);
});

test("an engine that fails early, late or without a word is told, and none is waited for", async () => {
  for (
    const [script, said] of [
      ["echo no container >&2; exit 125", "no container"],
      ["head -c 100000 >/dev/null; echo no space >&2; exit 1", "no space"],
      ["cat >/dev/null; exit 3", "exit code 3"],
    ] as const
  ) {
    const error = await rejection(scene(script).copy());
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toBe(`podman cannot put files into the container ${NAME}: ${said}`);
  }
});

test("an interrupt ends the input of an engine, which is waited for", async () => {
  const { dir, ends, copy } = scene("cat >got; echo over >end; exit 1");
  const error = await rejection(
    copy(() => ends.abort(new UserError("interrupt", "Interrupted by a test"))),
  );
  expect(error).toMatchObject({ kind: "interrupt" });
  expect(readFileSync(join(dir, "end"), "utf8")).toBe("over\n");
  expect(readFileSync(join(dir, "got")).length).toBeLessThan(SIZE_BYTES);
});

test("the name of a container is one that seedstrap knows for its own", () => {
  const names = Array.from({ length: 100 }, newContainerName);
  expect(new Set(names).size).toBe(100);
  expect(names.every(isContainerName)).toBe(true);
  for (
    const other of ["", "seedstrap-", `${names[0]}0`, `x${names[0]}`, `${names[0]}\n`, "--all"]
  ) {
    expect(isContainerName(other)).toBe(false);
  }
});
