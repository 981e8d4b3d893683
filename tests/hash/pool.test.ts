// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { fileSegment } from "../../src/format/segment.ts";
import { digestEach, type DigestOptions, type HashTask } from "../../src/hash/pool.ts";
import { rejection } from "../fetch/harness.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { DENO, run } from "../support/run.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

async function digestAll(
  tasks: Iterable<HashTask | undefined>,
  options: DigestOptions = {},
): Promise<(string | undefined)[]> {
  return await Array.fromAsync(digestEach(tasks, options));
}

/** Writes files of these sizes, and returns a task and the digest of each. */
function filesOf(dir: string, sizes: readonly number[]): { tasks: HashTask[]; wanted: string[] } {
  const bodies = sizes.map((size, index) => sampleBody(size, index + 1));
  const tasks = bodies.map((body, index) => {
    const path = join(dir, String(index));
    writeFileSync(path, body);
    return { segment: fileSegment({ path, sizeBytes: body.length }), kind: "tree" } as const;
  });
  return { tasks, wanted: bodies.map(sha256) };
}

const SIZES = Array.from(
  { length: 60 },
  (_, index) => [0, 1, 262_143, 262_145, 3_000_000][index % 5]!,
);

test("digestEach() gives the digests in the order of the tasks, and counts every byte once", async () => {
  const { tasks, wanted } = filesOf(temp.make(), SIZES);
  let bytes = 0;
  expect(await digestAll(tasks, { onBytes: (count) => bytes += count })).toEqual(wanted);
  expect(bytes).toBe(SIZES.reduce((sum, size) => sum + size, 0));
});

test("digestEach() copies what it hashes into a new file, with holes for zeros", async () => {
  const dir = temp.make();
  const body = Buffer.concat([sampleBody(700_000), new Uint8Array(4_000_000), sampleBody(5)]);
  writeFileSync(join(dir, "from"), body);
  const segment = fileSegment({ path: join(dir, "from"), sizeBytes: body.length });
  const to = { kind: "file", path: join(dir, "to"), mode: 0o644 } as const;
  expect(await digestAll([{ segment, kind: "tree", to }])).toEqual([sha256(body)]);
  expect(readFileSync(to.path).equals(body)).toBe(true);
  expect(statSync(to.path).blocks * 512).toBeLessThan(2_000_000);
  const error = await rejection(digestAll([{ segment, kind: "tree", to }]));
  expect(error).toMatchObject({ kind: "target", where: to.path });
});

test("a new file has the mode that it was given, under any umask", async () => {
  const dir = temp.make();
  const { tasks } = filesOf(dir, [5, 300_000]);
  const umask = process.umask(0o077);
  try {
    for (const [index, mode] of [0o755, 0o640].entries()) {
      const to = { kind: "file", path: join(dir, `to${index}`), mode, isSynced: true } as const;
      await digestAll([{ ...tasks[index]!, to }]);
      expect(statSync(to.path).mode & 0o7777).toBe(mode);
    }
  } finally {
    process.umask(umask);
  }
});

test("what the generator of tasks throws comes after the tasks that it has given", async () => {
  const dir = temp.make();
  const { tasks, wanted } = filesOf(dir, [3, 300_000]);
  const got: (string | undefined)[] = [];
  const given = async function* () {
    yield* tasks;
    await Promise.resolve();
    throw new UserError("usage", "no more");
  };
  const all = async () => {
    for await (const digest of digestEach(given())) got.push(digest);
  };
  expect(await rejection(all())).toMatchObject({ kind: "usage" });
  expect(got).toEqual(wanted);
  truncateSync(join(dir, "1"), 7);
  expect(await rejection(all())).toMatchObject({ kind: "tree", where: join(dir, "1") });
});

test("digestEach() copies to runs of files that exist, and leaves the bytes around them", async () => {
  const dir = temp.make();
  const body = sampleBody(600_000);
  writeFileSync(join(dir, "from"), body);
  const places = ["a", "b", "c"].map((name) => join(dir, name));
  for (const place of places) writeFileSync(place, Buffer.alloc(700_000, 0xff));
  const segment = fileSegment({ path: join(dir, "from"), sizeBytes: body.length });
  const [a, b, c] = places as [string, string, string];
  const runs = [
    { path: a, offsetBytes: 699_999, sizeBytes: 1 },
    { path: b, offsetBytes: 10, sizeBytes: 499_999 },
    { path: c, offsetBytes: 0, sizeBytes: 100_000 },
  ];
  const task = { segment, kind: "tree", to: { kind: "runs", runs }, isUnhashed: true } as const;
  expect(await digestAll([task])).toEqual([""]);
  const bytes = runs.map(({ path, offsetBytes, sizeBytes }) =>
    readFileSync(path).subarray(offsetBytes, offsetBytes + sizeBytes)
  );
  expect(Buffer.concat(bytes).equals(body)).toBe(true);
  for (const { path, offsetBytes, sizeBytes } of runs) {
    const all = readFileSync(path);
    expect(all.length).toBe(700_000);
    all.fill(0xff, offsetBytes, offsetBytes + sizeBytes);
    expect(all.every((byte) => byte === 0xff)).toBe(true);
  }
});

test("digestEach() reads the runs of a file that is in the parts of a bundle", async () => {
  const dir = temp.make();
  const body = sampleBody(900_000);
  writeFileSync(join(dir, "1"), body.subarray(0, 300_000));
  writeFileSync(join(dir, "2"), body.subarray(300_000));
  const runs = [
    { path: join(dir, "1"), offsetBytes: 100_000, sizeBytes: 200_000 },
    { path: join(dir, "2"), offsetBytes: 0, sizeBytes: 400_000 },
  ];
  const bundled = { name: "b", sha256: "", runs };
  const segment = fileSegment({ path: join(dir, "1"), sizeBytes: 600_000, bundled });
  expect(await digestAll([{ segment, kind: "tree" }])).toEqual([
    sha256(body.subarray(100_000, 700_000)),
  ]);
});

test("what has no digest keeps its place, and no more of it is read than of files", async () => {
  const { tasks, wanted } = filesOf(temp.make(), [3, 300_000]);
  const mixed = [undefined, tasks[0], undefined, undefined, tasks[1], undefined];
  expect(await digestAll(mixed)).toEqual([
    undefined,
    wanted[0],
    undefined,
    undefined,
    wanted[1],
    undefined,
  ]);
  let read = 0;
  const nothing = function* () {
    for (; read < 100_000; read++) yield undefined;
  };
  for await (const _ of digestEach(nothing())) break;
  expect(read).toBeLessThan(1000);
});

const isAlone = availableParallelism() === 1;
if (isAlone) console.log("skipped: files that do not wait for a long one: there is one core");
test.skipIf(isAlone)("while one thread has a long file, the others work on", async () => {
  const dir = temp.make();
  const { tasks } = filesOf(dir, Array.from({ length: 200 }, () => 5));
  const long = join(dir, "long");
  writeFileSync(long, "");
  truncateSync(long, 1024 ** 4);
  const controller = new AbortController();
  const given = function* () {
    yield { segment: fileSegment({ path: long, sizeBytes: 1024 ** 4 }), kind: "tree" } as const;
    yield* tasks;
    controller.abort();
  };
  // It is only reached if the tasks are done that come after the long one.
  expect(await rejection(digestAll(given(), { signal: controller.signal })))
    .toMatchObject({ kind: "interrupt" });
});

test("the first task that fails is the one that is told, and all files are closed", async () => {
  const dir = temp.make();
  const { tasks } = filesOf(dir, SIZES);
  truncateSync(join(dir, "44"), 2_000_000);
  truncateSync(join(dir, "9"), 1000);
  const error = await rejection(digestAll(tasks));
  expect(error).toBeInstanceOf(UserError);
  expect(error).toMatchObject({ kind: "tree", where: join(dir, "9") });
  expect(error.message).toContain("it had 3000000 bytes at the start, now it has 1000 bytes");
  if (!existsSync("/proc/self/fd")) return;
  const open = readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });
  expect(open.filter((path) => path.startsWith(dir))).toEqual([]);
});

test("it ends with the signal, or when nobody wants more, and reads no more tasks", async () => {
  const { tasks } = filesOf(temp.make(), SIZES);
  const controller = new AbortController();
  const interrupted = async () => {
    for await (const _ of digestEach(tasks, { signal: controller.signal })) controller.abort();
  };
  expect(await rejection(interrupted())).toMatchObject({ kind: "interrupt" });
  expect(await rejection(digestAll(tasks, { signal: AbortSignal.abort() })))
    .toMatchObject({ kind: "interrupt" });
  let read = 0;
  const counted = function* () {
    for (; read < 10_000; read++) yield tasks[read % 2];
  };
  for await (const _ of digestEach(counted())) break;
  expect(read).toBeLessThan(1100);
  // The pool is whole: it works on.
  expect(await digestAll(tasks.slice(1, 2))).toEqual([sha256(sampleBody(1, 2))]);
});

test("a program that has digested files ends by itself, also under Deno", async () => {
  const dir = temp.make();
  const { tasks, wanted } = filesOf(dir, [300_000, 5]);
  const program = join(dir, "program.ts");
  writeFileSync(
    program,
    `import { digestEach } from ${
      JSON.stringify(join(import.meta.dirname!, "../../src/hash/pool.ts"))
    };
console.log((await Array.fromAsync(digestEach(${JSON.stringify(tasks)}))).join(" "));
`,
  );
  for (const command of [[process.execPath], [DENO, "run", "--allow-all", "--quiet"]]) {
    const ran = await run([...command, program], { cwd: join(import.meta.dirname!, "../..") });
    expect(ran).toMatchObject({ code: 0, stdout: `${wanted.join(" ")}\n` });
  }
});

test("a thread that cannot start is an error, and the program ends, also under Deno", async () => {
  const dir = temp.make();
  const { tasks } = filesOf(dir, SIZES);
  const source = join(dir, "src");
  cpSync(join(import.meta.dirname!, "../../src"), source, { recursive: true });
  rmSync(join(source, "hash/hash_worker.ts"));
  const program = join(dir, "program.ts");
  writeFileSync(
    program,
    `import { digestEach } from ${JSON.stringify(join(source, "hash/pool.ts"))};
try {
  for await (const _ of digestEach(${JSON.stringify(tasks)}));
} catch (error) {
  console.log(String(error));
}
`,
  );
  for (const command of [[process.execPath], [DENO, "run", "--allow-all", "--quiet"]]) {
    const { code, stdout } = await run([...command, program], { cwd: dir });
    expect([code, stdout]).toEqual([
      0,
      expect.stringContaining("Error: a thread that hashes failed: "),
    ]);
  }
});
