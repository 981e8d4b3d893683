// SPDX-License-Identifier: MIT
/** The passes of live-bootstrap's own CI in containers of podman. */
import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { readRecord } from "../../src/record/read.ts";
import { TempDirs } from "../support/files.ts";
import type { Podman } from "../support/podman.ts";
import { MAIN, seedstrap, start } from "../support/run.ts";
import { ContainerScenes, SEED, told } from "./container_scene.ts";
import { eventually, pidsWith } from "./guest.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const scenes = new ContainerScenes(temp);

let podman: Podman | undefined;
const podmanFault = scenes.obstacleOf(() => podman = scenes.podman());
if (podmanFault !== undefined) console.log(`skipped: passes in containers: ${podmanFault}`);
afterEach(() => podman?.clear());
afterAll(() => podman?.[Symbol.dispose]());
const testPodman = test.skipIf(podmanFault !== undefined);

/** A checkout of which a first pass has run, and the container of that. */
async function afterPass1() {
  const made = scenes.make({ "seed/stage0-posix/passes/here": "" });
  const { dir, args, target } = made;
  const env = podman!.env;
  const words = (pass: string) => [...args, "--internal-ci", pass];
  const pass = (name: string) => seedstrap(words(name), { cwd: dir, env });
  const first = await pass("pass1");
  expect(first).toMatchObject({ code: 0 });
  const [name = ""] = podman!.left().containers;
  const record = join(target, ".seedstrap/containers");
  /** Puts a file into the root of a container, for the pass that goes on there. */
  const put = (name: string, text: string, container = podman!.left().containers[0]!) => {
    writeFileSync(join(dir, name), text);
    podman!.run("cp", join(dir, name), `${container}:/${name}`);
  };
  const names = () => JSON.parse(readFileSync(record, "utf8")).names as string[];
  return { ...made, env, words, pass, first, name, record, names, put };
}

testPodman("each pass goes on in what the one before has left, with all distfiles", async () => {
  const { pass, first, name, names, target, distfiles } = await afterPass1();
  const whole = Object.entries(distfiles).map(([name, { length }]) => `${name} file ${length}`);
  expect(told(first, "argument")).toEqual([`/${SEED}`]);
  expect(told(first, "distfile").sort()).toEqual(whole.toSorted());
  expect(names()).toEqual([name]);
  const [image] = podman!.left().images;

  const second = await pass("pass2");
  expect(second).toMatchObject({ code: 0 });
  expect(told(second, "argument")).toEqual(["/init"]);
  expect(told(second, "environment")).toContain("PATH=/usr/bin");
  // What the pass before has cut, replaced by a link and removed is there again.
  const again = [...whole, "made-there file 12"].sort();
  expect(told(second, "distfile").sort()).toEqual(again);
  expect(told(second, "link")).toEqual(["untouched"]);
  expect(told(second, "config")).toEqual(["INTERNAL_CI=pass1", `LEFT=/${SEED}`]);
  const [next = ""] = podman!.left().containers;
  expect([podman!.left().containers, names()]).toEqual([[next], [next]]);
  expect(next).not.toBe(name);
  expect(second.stderr).toContain(`podman rm ${next} && podman image rm localhost/${next} removes`);
  expect(readRecord(target).options.internalCi).toBe("pass2");

  const third = await pass("pass3");
  expect(third).toMatchObject({ code: 0 });
  expect(told(third, "distfile").sort()).toEqual(again);
  expect(told(third, "config")).toEqual(["INTERNAL_CI=pass1", `LEFT=/${SEED}`, "LEFT=/init"]);
  const { containers: [last = ""] } = podman!.left();
  expect([podman!.left().containers, names()]).toEqual([[last], [last]]);
  podman!.run("rm", last);
  podman!.run("image", "rm", `localhost/${last}`);
  expect(podman!.left()).toEqual({ containers: [], images: [image!] });

  const gone = await pass("pass3");
  expect([gone.code, gone.stderr]).toEqual([
    7,
    expect.stringContaining(`podman does not have its container ${last} any more`),
  ]);
}, 120_000);

testPodman("a pass is built, and then run as often as is wanted", async () => {
  const { dir, tree, env, words, name, names, target } = await afterPass1();
  const built = await seedstrap(["build", ...words("pass2")], { cwd: dir, env });
  expect(built.code).toBe(0);
  expect(built.stdout).toStartWith(
    `${target}\n  6 distfiles, again in what the pass before has left\nstart it with: `,
  );
  expect([podman!.left().containers, names()]).toEqual([[name], [name]]);
  const run = () => seedstrap(["run", target, "--container"], { cwd: dir, env });
  expect(told(await run(), "argument")).toEqual(["/init"]);
  const second = await run();
  expect(second).toMatchObject({ code: 0 });
  expect(told(second, "config")).toHaveLength(3);
  expect(podman!.left().containers).toEqual(names());
  const again = await seedstrap(["reproduce", target, "--tree", tree]);
  expect([again.code, again.stderr]).toEqual([2, expect.stringContaining("reproduce pass1")]);
}, 120_000);

testPodman("a pass that fails leaves the one before, in which it is done again", async () => {
  const { pass, put, name, names } = await afterPass1();
  put("exit-code", "37\n");
  const failed = await pass("pass2");
  expect([failed.code, failed.stderr]).toEqual([9, expect.stringContaining("exit code 37")]);
  const other = podman!.left().containers.find((one) => one !== name);
  expect(failed.stderr).toContain(`the container ${other} is there with what was built in it`);
  expect(names()).toEqual([name]);

  put("exit-code", "0\n", name);
  put("silent", "", name);
  const untold = await pass("pass2");
  expect([untold.code, untold.stderr]).toEqual([14, expect.stringContaining("it ended before")]);
  expect(names()).toEqual([name]);
  expect(podman!.left().containers).toHaveLength(3);
  expect(podman!.left().containers).toContain(name);
}, 120_000);

testPodman(
  "a pass whose container was recorded, and removed by a kill, is done again",
  async () => {
    const { pass, name, names, record } = await afterPass1();
    const killed = "seedstrap-000000000000";
    writeFileSync(record, readFileSync(record, "utf8").replace('["', `["${killed}","`));
    expect(names()).toEqual([killed, name]);
    const ran = await pass("pass2");
    expect([ran.code, told(ran, "argument")]).toEqual([0, ["/init"]]);
    expect(podman!.left().containers).toEqual(names());
    expect(names()).not.toContain(name);
  },
  120_000,
);

testPodman("a distfile with a wrong SHA-256 ends a pass before it is started", async () => {
  const { mirror, pass, name, names } = await afterPass1();
  const path = join(mirror, "beta-2.0.tar.gz");
  const right = readFileSync(path);
  writeFileSync(path, right.map((byte, at) => at === 0 ? byte ^ 1 : byte));
  const ran = await pass("pass2");
  expect([ran.code, ran.stdout]).toEqual([4, ""]);
  expect(ran.stderr).toContain(`wrong SHA-256 in ${mirror}`);
  expect([podman!.left().containers, names()]).toEqual([[name], [name]]);
  writeFileSync(path, right);
  expect(await pass("pass2")).toMatchObject({ code: 0 });
}, 120_000);

testPodman("SIGKILL and SIGINT end a pass, and leave what it has gone on with", async () => {
  const { dir, env, words, put, name, names } = await afterPass1();
  const word = `lingers-${process.pid}`;
  put("linger", `${word}\n`);
  const before = podman!.left();
  for (const signal of ["SIGKILL", "SIGINT"] as const) {
    const child = start([process.execPath, MAIN, ...words("pass2")], { cwd: dir, env });
    expect(await eventually(() => pidsWith(word).length >= 3)).toBe(true);
    expect(podman!.left().containers).toHaveLength(2);
    child.kill(signal);
    const [stderr] = await Promise.all([new Response(child.stderr).text(), child.exited]);
    if (signal === "SIGINT") {
      expect([child.exitCode, stderr]).toEqual([130, expect.stringContaining("Interrupted")]);
      expect(podman!.left()).toEqual(before);
    }
    expect(await eventually(() => pidsWith(word).length === 0)).toBe(true);
    expect(await eventually(() => Bun.deepEquals(podman!.left(), before))).toBe(true);
    expect(names()).toEqual([name]);
  }
}, 120_000);

testPodman("a pass is refused where none has run, and where its container is another", async () => {
  const none = scenes.make();
  expect((await seedstrap(["build", ...none.args, "--internal-ci", "pass1"])).code).toBe(0);
  const words = [...none.args, "--internal-ci", "pass2"];
  const refused = await seedstrap(words, { cwd: none.dir, env: podman!.env });
  expect([refused.code, refused.stderr]).toEqual([
    7,
    expect.stringContaining("no pass1 has come to its end there"),
  ]);

  const { dir, pass, name, record, env } = await afterPass1();
  const format = "seedstrap-containers/1";
  const ours = readFileSync(record, "utf8");
  // Of another image.
  const other = scenes.make({ "seed/other": "" });
  expect(await seedstrap(other.args, { cwd: dir, env })).toMatchObject({ code: 0 });
  const stranger = podman!.left().containers.find((one) => one !== name)!;
  const before = podman!.left();
  for (
    const [text, code, why] of [
      [
        JSON.stringify({ format, engine: "podman", names: [stranger] }),
        7,
        "not that of the target",
      ],
      [JSON.stringify({ format, engine: "podman", names: ["--all"] }), 7, "name of a container"],
      [
        JSON.stringify({ format, engine: "/bin/sh", names: [name] }),
        7,
        "Cannot read the containers",
      ],
      [JSON.stringify({ format, engine: "podman", names: [] }), 7, "at least one name"],
      ["{", 7, "Cannot read the containers"],
    ] as const
  ) {
    writeFileSync(record, text);
    const ran = await pass("pass2");
    expect([ran.code, ran.stdout, ran.stderr]).toEqual([code, "", expect.stringContaining(why)]);
    expect(podman!.left()).toEqual(before);
  }
  rmSync(record);
  symlinkSync(join(dir, "elsewhere"), record);
  writeFileSync(join(dir, "elsewhere"), ours);
  expect((await pass("pass2")).code).toBe(7);
  rmSync(record);
  // The others of a record are removed when a pass is done: not one of another image.
  writeFileSync(record, JSON.stringify({ format, engine: "podman", names: [name, stranger] }));
  const done = await pass("pass2");
  expect([done.code, done.stderr]).toEqual([0, expect.stringContaining(`${stranger} stays: `)]);
  expect(podman!.left().containers).toContain(stranger);
  expect(podman!.left().containers).not.toContain(name);
}, 120_000);

testPodman("a pass is refused where its container is one of another engine, or runs", async () => {
  const { dir, words, name, record, env, put } = await afterPass1();
  const ours = readFileSync(record, "utf8");
  writeFileSync(record, ours.replace("podman", "docker"));
  const bin = join(dir, "bin");
  mkdirSync(bin);
  for (const program of ["podman", "sh"]) symlinkSync(Bun.which(program)!, join(bin, program));
  const ran = await seedstrap(words("pass2"), { cwd: dir, env: { ...env, PATH: bin } });
  expect([ran.code, ran.stderr]).toEqual([
    9,
    expect.stringContaining("Cannot find docker in PATH"),
  ]);
  writeFileSync(record, ours);
  put("linger", `runs-${process.pid}\n`);
  podman!.run("start", name);
  const runs = await seedstrap(words("pass2"), { cwd: dir, env });
  expect([runs.code, runs.stderr]).toEqual([7, expect.stringContaining(`${name}: it runs`)]);
}, 120_000);
