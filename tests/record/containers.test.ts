// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { containersOf, recordContainers } from "../../src/record/containers.ts";
import { TempDirs, writeFiles } from "../support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const FIRST = "seedstrap-0123456789ab";
const NEXT = "seedstrap-ba9876543210";
const FILE = ".seedstrap/containers";

test("the containers of a target are read as they are recorded, until there are none", () => {
  const dir = temp.make();
  expect(containersOf(dir)).toBeUndefined();
  recordContainers(dir, "podman", [FIRST]);
  recordContainers(dir, "docker", [NEXT, FIRST]);
  expect(containersOf(dir)).toMatchObject({ engine: "docker", names: [NEXT, FIRST] });
  expect(readdirSync(join(dir, ".seedstrap"))).toEqual(["containers"]);
  recordContainers(dir, "docker", []);
  expect(containersOf(dir)).toBeUndefined();
});

test("a record is not read that names what seedstrap gives no container", () => {
  const dir = temp.make();
  const sound = { format: "seedstrap-containers/1", engine: "podman", names: [FIRST] };
  for (
    const changed of [
      { format: "seedstrap-containers/2" },
      { engine: "/bin/sh" },
      { names: [] },
      { names: FIRST },
      { names: [FIRST, "another"] },
      { names: [`${FIRST}\n`] },
      { names: ["--all"] },
      { names: [`${FIRST}:/etc`] },
      { names: new Array(65).fill(FIRST) },
      { more: true },
    ]
  ) {
    writeFiles(dir, { [FILE]: JSON.stringify({ ...sound, ...changed }) });
    expect(() => containersOf(dir)).toThrow("Cannot read the containers of ");
  }
  writeFiles(dir, { [FILE]: JSON.stringify(sound) });
  expect(containersOf(dir)?.names).toEqual([FIRST]);
});

test("a record is neither read nor written through a link", () => {
  const dir = temp.make();
  const other = temp.make();
  recordContainers(other, "podman", [FIRST]);
  const text = readFileSync(join(other, FILE), "utf8");
  writeFiles(dir, { ".seedstrap/": "" });
  symlinkSync(join(other, FILE), join(dir, FILE));
  expect(() => containersOf(dir)).toThrow();
  symlinkSync(join(other, FILE), join(dir, `${FILE}.part`));
  recordContainers(dir, "podman", [NEXT]);
  expect(containersOf(dir)?.names).toEqual([NEXT]);
  expect(readFileSync(join(other, FILE), "utf8")).toBe(text);
});
