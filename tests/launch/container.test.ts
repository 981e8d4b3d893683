// SPDX-License-Identifier: MIT
/** The container of a bootstrap, started by crun and by podman. */
import { afterAll, afterEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { TempDirs } from "../support/files.ts";
import { shellQuote } from "../../src/launch/process.ts";
import { CRUN, type Podman } from "../support/podman.ts";
import { MAIN, run, seedstrap, start } from "../support/run.ts";
import { ContainerScenes, IMAGE, SEED, told } from "./container_scene.ts";
import { eventually, pidsWith } from "./guest.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const scenes = new ContainerScenes(temp);

/** Unpacks the image of a target to a bundle that has no terminal. */
async function unpacked(dir: string, target: string): Promise<string> {
  mkdirSync(join(dir, "oci"));
  expect((await run(["tar", "xf", join(target, IMAGE)], { cwd: join(dir, "oci") })).code).toBe(0);
  const bundle = join(dir, "bundle");
  const words = ["umoci", "unpack", "--image", `${join(dir, "oci")}:latest`, bundle];
  expect((await run(words)).code).toBe(0);
  const path = join(bundle, "config.json");
  const config = JSON.parse(readFileSync(path, "utf8"));
  config.process.terminal = false;
  writeFileSync(path, JSON.stringify(config));
  return bundle;
}

const crunFault = scenes.obstacleOf(() => {
  for (const program of ["umoci", "crun"]) {
    if (Bun.which(program) === null) throw new Error(`${program} is not installed here`);
  }
  if (process.getuid?.() !== 0) throw new Error("only root unpacks an image with its owners");
  const dir = temp.make();
  mkdirSync(join(dir, "rootfs"));
  copyFileSync("/bin/true", join(dir, "rootfs/true"));
  const tried = spawnSync(CRUN[0]!, [...CRUN.slice(1), "spec"], { cwd: dir, encoding: "utf8" });
  if (tried.status !== 0) throw new Error(`crun spec: ${tried.stderr.trim()}`);
  const path = join(dir, "config.json");
  const config = JSON.parse(readFileSync(path, "utf8"));
  config.process.terminal = false;
  config.process.args = ["/nothing"];
  config.process.rlimits = [];
  writeFileSync(path, JSON.stringify(config));
  const words = [...CRUN.slice(1), "run", `seedstrap-trial-${process.pid}`];
  const { stderr } = spawnSync(CRUN[0]!, words, { cwd: dir, encoding: "utf8" });
  // It has come to the program, which is not there.
  if (!/nothing/.test(stderr)) throw new Error(`crun: ${stderr.trim()}`);
});
if (crunFault !== undefined) console.log(`skipped: a container of crun: ${crunFault}`);

test.skipIf(crunFault !== undefined)("crun starts the seed in what umoci unpacks", async () => {
  const { dir, target, args } = scenes.make();
  expect((await seedstrap(["build", ...args])).code).toBe(0);
  const bundle = await unpacked(dir, target);
  const name = `seedstrap-test-${process.pid}`;
  const ran = await run([...CRUN, "run", "--bundle", bundle, name]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  expect(told(ran, "argument")).toEqual([`/${SEED}`]);
  expect(told(ran, "environment")).toContain("PATH=/bin");
  expect(told(ran, "user")).toEqual(["0 0"]);
  expect(told(ran, "working-directory")).toEqual(["/"]);
  expect(readFileSync(join(bundle, "rootfs/written-inside"), "utf8")).toBe("from inside\n");
}, 60_000);

let podman: Podman | undefined;
const podmanFault = scenes.obstacleOf(() => podman = scenes.podman());
if (podmanFault !== undefined) console.log(`skipped: a container of podman: ${podmanFault}`);
afterEach(() => podman?.clear());
afterAll(() => podman?.[Symbol.dispose]());
const testPodman = test.skipIf(podmanFault !== undefined);

testPodman("podman starts the seed, and its container stays with what it has made", async () => {
  const { dir, target, args } = scenes.make();
  const { env } = podman!;
  const ran = await seedstrap(args, { cwd: dir, env });
  expect(ran.code).toBe(0);
  expect(ran.stderr).toContain(`podman loads ${IMAGE}\n`);
  expect(ran.stderr).toContain("starting in a container of podman; the log is ");
  expect(ran.stderr).toContain("\ndone: every step was built; the log is ");
  expect(told(ran, "argument")).toEqual([`/${SEED}`]);
  expect(told(ran, "environment")).toContain("PATH=/bin");
  expect(told(ran, "user")).toEqual(["0 0"]);
  expect(told(ran, "working-directory")).toEqual(["/"]);
  expect(told(ran, "network")).not.toEqual([readlinkSync("/proc/self/ns/net")]);
  const { containers, images } = podman!.left();
  expect(images).toHaveLength(1);
  const [name = ""] = containers;
  expect(ran.stderr).toContain(`podman cp ${name}:/external/repo .`);
  podman!.run("cp", `${name}:/written-inside`, dir);
  expect(readFileSync(join(dir, "written-inside"), "utf8")).toBe("from inside\n");

  // The image is there by now.
  const again = await seedstrap(["run", target, "--container"], { cwd: dir, env });
  expect([again.code, again.stderr.includes("podman loads")]).toEqual([0, false]);
  expect(podman!.left().containers).toHaveLength(2);
}, 120_000);

// podman fails with 125 itself.
for (const exitCode of [37, 125]) {
  testPodman(
    `a bootstrap that fails with ${exitCode} has that told, and its container stays`,
    async () => {
      const { dir, args } = scenes.make({ "seed/exit-code": `${exitCode}\n` });
      const ran = await seedstrap(args, { cwd: dir, env: podman!.env });
      expect(ran.code).toBe(9);
      expect(ran.stderr).toContain(`The bootstrap failed: exit code ${exitCode}: `);
      expect(podman!.left().containers).toHaveLength(1);
    },
    120_000,
  );
}

testPodman(
  "a user at the terminal gets it, and the package of the last step is the proof",
  async () => {
    const last = "seed/stage0-posix/external/repo/alpha-1.0_1.tar.bz2";
    for (
      const [files, code, said] of [[{ [last]: "packed" }, 0, "done: every step was built"], [
        {},
        9,
        "Cannot tell",
      ]] as const
    ) {
      const { dir, args } = scenes.make(files);
      const words = shellQuote([process.execPath, MAIN, ...args, "--interactive"]);
      const script = ["script", "--quiet", "--return", "--command", words, "/dev/null"];
      const ran = await run(script, { cwd: dir, env: podman!.env });
      expect([ran.code, ran.stdout]).toEqual([code, expect.stringContaining(said)]);
      expect(told({ ...ran, stdout: ran.stdout.replaceAll("\r", "") }, "user")).toEqual(["0 0"]);
    }
  },
  120_000,
);

testPodman("a container that cannot be started is told, and does not stay", async () => {
  const { dir, target, args } = scenes.make();
  const broken = join(dir, "broken.conf");
  const config = readFileSync(podman!.env["CONTAINERS_CONF"]!, "utf8");
  writeFileSync(broken, config.replace(/crun = \[.*\]/, 'crun = ["/bin/false"]'));
  const env = { ...podman!.env, CONTAINERS_CONF: broken };
  const ran = await seedstrap(args, { cwd: dir, env });
  expect([ran.code, ran.stderr]).toEqual([
    9,
    expect.stringContaining("podman could not start the container: "),
  ]);
  expect(ran.stderr).toMatch(/hint: Try podman load --input \S+ && podman run --rm /);
  expect(ran.stderr).not.toContain("podman cp");
  expect(podman!.left()).toMatchObject({ containers: [], images: [] });

  // Without a terminal too: it ends with 0 only when the container has started.
  const detached = ["run", target, "--container", "--detach"];
  const home = { HOME: dir };
  expect(await seedstrap(detached, { cwd: dir, env: { ...env, ...home } })).toMatchObject({
    code: 9,
  });
  expect(await seedstrap(detached, { cwd: dir, env: { ...podman!.env, ...home } }))
    .toMatchObject({ code: 0 });
}, 120_000);

for (const signal of ["SIGINT", "SIGKILL"] as const) {
  testPodman(`${signal} ends the container, and nothing of it is left`, async () => {
    const word = `lingers-${process.pid}-${signal.toLowerCase()}`;
    const { dir, args } = scenes.make({ "seed/linger": `${word}\n` });
    const child = start([process.execPath, MAIN, ...args], { cwd: dir, env: podman!.env });
    expect(await eventually(() => pidsWith(word).length >= 3)).toBe(true);
    child.kill(signal);
    const [stderr] = await Promise.all([new Response(child.stderr).text(), child.exited]);
    if (signal === "SIGINT") {
      expect([child.exitCode, stderr]).toEqual([130, expect.stringContaining("Interrupted")]);
      expect(podman!.left()).toEqual({ containers: [], images: [] });
    }
    expect(await eventually(() => pidsWith(word).length === 0)).toBe(true);
    expect(await eventually(() => podman!.left().containers.length === 0)).toBe(true);
  }, 120_000);
}

testPodman("an interrupt leaves an image that was there before", async () => {
  const word = `lingers-${process.pid}-again`;
  const { dir, target, args } = scenes.make({ "seed/linger": `${word}\n` });
  expect((await seedstrap(["build", ...args])).code).toBe(0);
  podman!.run("load", "--input", join(target, IMAGE));
  const words = [process.execPath, MAIN, "run", target, "--container"];
  const child = start(words, { cwd: dir, env: podman!.env });
  expect(await eventually(() => pidsWith(word).length >= 3)).toBe(true);
  child.kill("SIGINT");
  expect(await child.exited).toBe(130);
  const { containers, images } = podman!.left();
  expect([containers, images.length]).toEqual([[], 1]);
  podman!.run("rmi", "--all", "--force");
}, 120_000);

testPodman("an image that is not as seedstrap makes it is not loaded", async () => {
  const { dir, target, args } = scenes.make();
  expect((await seedstrap(["build", ...args])).code).toBe(0);
  const path = join(target, IMAGE);
  const bytes = readFileSync(path);
  // Another name, which podman would give to it.
  const at = bytes.indexOf('"io.containerd.image.name":"localhost/');
  bytes.write("registry!", at + '"io.containerd.image.name":"'.length);
  writeFileSync(path, bytes);
  const ran = await seedstrap(["run", target, "--container"], { cwd: dir, env: podman!.env });
  expect([ran.code, ran.stderr]).toEqual([5, expect.stringContaining("not as seedstrap makes it")]);
  expect(podman!.left()).toEqual({ containers: [], images: [] });
}, 60_000);
