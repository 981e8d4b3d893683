// SPDX-License-Identifier: MIT
import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { parsePushPlace, type PushFile, pushFiles } from "../../src/job/push.ts";
import { Bench, sampleBody, sha256 } from "../fetch/servers.ts";
import { get, mirrorsAt } from "../fetch/harness.ts";
import { TempDirs } from "../support/files.ts";
import { REGISTRY, TestRegistry } from "../support/registry.ts";
import { run, seedstrap, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const bench = new Bench();
const running: TestRegistry[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.kill()));
  await bench.release();
});
afterAll(() => temp.release());

const NEVER = new AbortController().signal;
const TYPE = "application/vnd.test";

async function registry(login?: readonly [string, string]): Promise<TestRegistry> {
  const started = await TestRegistry.start(temp.make(), login);
  running.push(started);
  return started;
}

/** Writes files that differ. */
function someFiles(count: number, sizeBytes: number): PushFile[] {
  const dir = temp.make();
  return Array.from({ length: count }, (_, at) => {
    const body = sampleBody(sizeBytes + at, at + 1);
    const name = `${at}.tar.gz`;
    const path = join(dir, name);
    writeFileSync(path, body);
    return { name, path, sizeBytes: body.length, sha256: sha256(body) };
  });
}

testWith(REGISTRY)(
  "a push of 300 files can be read by curl and skopeo, and is the same again",
  async () => {
    const { host } = await registry();
    const files = someFiles(300, 2000);
    const place = parsePushPlace(`oci://${host}/some/files:v1`);
    const first = await pushFiles(place, files, TYPE, { jobs: 8 }, NEVER);
    expect(first).toMatchObject({ files: 300, pushed: 300, url: `oci://${host}/some/files:v1` });
    const again = await pushFiles(place, files, TYPE, { jobs: 8 }, NEVER);
    expect(again).toEqual({ ...first, pushed: 0, pushedBytes: 0 });

    const raw = (await run([
      "curl",
      "-fsS",
      "-H",
      "Accept: application/vnd.oci.image.manifest.v1+json",
      `http://${host}/v2/some/files/manifests/v1`,
    ])).stdout;
    expect(sha256(Buffer.from(raw))).toBe(first.manifestSha256!);
    const manifest = JSON.parse(raw);
    expect(manifest).toMatchObject({ artifactType: TYPE, config: { size: 2, data: "e30=" } });
    expect(
      manifest.layers.map((
        layer: Record<string, unknown>,
      ) => [layer["annotations"], layer["digest"], layer["size"]]),
    )
      .toEqual(files.map(({ name, sha256, sizeBytes }) => [
        { "org.opencontainers.image.title": name },
        `sha256:${sha256}`,
        sizeBytes,
      ]));
    const blob = join(temp.make(), "blob");
    await run([
      "curl",
      "-fsS",
      "-o",
      blob,
      `http://${host}/v2/some/files/blobs/${manifest.layers[7].digest}`,
    ]);
    expect(readFileSync(blob)).toEqual(readFileSync(files[7]!.path));
    if (Bun.which("skopeo") === null) {
      return console.log(
        "skipped: skopeo inspect: there is no skopeo",
      );
    }
    const seen = await run([
      "skopeo",
      "inspect",
      "--raw",
      "--tls-verify=false",
      `docker://${host}/some/files:v1`,
    ]);
    expect(seen.stdout).toBe(raw);
  },
  60_000,
);

testWith(REGISTRY)("a long file is pushed without a warning of the runtime", async () => {
  const { host } = await registry();
  const warnings: string[] = [];
  const note = (warning: Error) => warnings.push(warning.message);
  process.on("warning", note);
  const place = parsePushPlace(`oci://${host}/long`);
  const { pushedBytes } = await pushFiles(place, someFiles(1, 8_000_000), TYPE, { jobs: 1 }, NEVER);
  await new Promise((resolve) => setTimeout(resolve, 10));
  process.off("warning", note);
  expect(pushedBytes).toBe(8_000_000);
  expect(warnings).toEqual([]);
}, 60_000);

testWith(REGISTRY)("a push to a registry that was killed goes on where it was", async () => {
  const server = await registry();
  const files = someFiles(60, 100_000);
  const place = parsePushPlace(`oci://${server.host}/files`);
  let sentBytes = 0;
  let killed: Promise<void> | undefined;
  const progress = {
    begin() {},
    add(bytes: number) {
      sentBytes += bytes;
      if (sentBytes > 3_000_000) killed ??= server.kill();
    },
  };
  const failed = pushFiles(place, files, TYPE, { jobs: 4, progress }, NEVER);
  expect(failed).rejects.toBeInstanceOf(UserError);
  await failed.catch(() => {});
  await killed;
  await server.begin();
  const { pushed } = await pushFiles(place, files, TYPE, { jobs: 4 }, NEVER);
  expect(pushed).toBeGreaterThan(0);
  expect(pushed).toBeLessThan(45);
  expect((await pushFiles(place, files, TYPE, { jobs: 4 }, NEVER)).pushed).toBe(0);
}, 60_000);

testWith(REGISTRY)(
  "mirror --push fills a registry, and a build from it alone has the same images",
  async () => {
    const { host } = await registry(["me", "secretword"]);
    const dir = temp.make();
    const mini = miniTree({ importsPayload: true });
    const { tree } = writeMiniTree(dir, mini);
    const web = await bench.http(({ url }, response) => {
      const body = mini.distfiles[url!.slice(1)];
      response.statusCode = body === undefined ? 404 : 200;
      response.end(body);
    });
    const env = { DOCKER_CONFIG: join(dir, "docker") };
    mkdirSync(env.DOCKER_CONFIG);
    const auth = Buffer.from("me:secretword").toString("base64");
    writeFileSync(
      join(env.DOCKER_CONFIG, "config.json"),
      JSON.stringify({ auths: { [host]: { auth } } }),
    );

    const push = [
      "mirror",
      join(dir, "mirror"),
      "--tree",
      tree,
      "-m",
      web.url,
      "--store",
      join(dir, "s0"),
      "--push",
      `oci://${host}/lb`,
      "--json",
    ];
    const refused = await seedstrap(push);
    expect(refused).toMatchObject({ code: 4 });
    expect(refused.stderr).toContain(`Cannot push to oci://${host}/lb:latest: HTTP 401`);
    const pushed = await seedstrap(push, { env });
    expect(pushed).toMatchObject({ code: 0 });
    expect(JSON.parse(pushed.stdout).push).toMatchObject({
      url: `oci://${host}/lb:latest`,
      pushed: Object.keys(mini.distfiles).length + 1,
    });

    const build = (target: string, mirror: string) =>
      seedstrap([
        "build",
        "--bare-metal",
        "--external-sources",
        "--tree",
        tree,
        "--store",
        join(dir, `store-${target}`),
        "-t",
        join(dir, target),
        "-m",
        mirror,
        "--json",
      ], { env });
    const direct = await build("a", web.url);
    expect(direct).toMatchObject({ code: 0 });
    await bench.release();
    rmSync(join(dir, "mirror"), { recursive: true });
    const made = await build("b", `oci://${host}/lb`);
    expect(made).toMatchObject({ code: 0 });
    const images = readdirSync(join(dir, "a")).filter((name) => name.endsWith(".img"));
    expect(images.length).toBeGreaterThan(1);
    for (const image of images) {
      expect(await run(["cmp", join(dir, "a", image), join(dir, "b", image)])).toMatchObject({
        code: 0,
      });
    }
    const record = readFileSync(join(dir, "b/seedstrap.json"), "utf8");
    expect(record).toContain(`"oci://${host}/lb"`);
    expect(record).toContain(`http://${host}/v2/lb/blobs/sha256:`);
    for (
      const text of [record, refused.stderr, pushed.stdout, pushed.stderr, made.stdout, made.stderr]
    ) {
      expect(text).not.toContain("secretword");
      expect(text).not.toContain(auth);
    }
    // A record is a thing to build again.
    const same = await seedstrap([
      "reproduce",
      join(dir, "b/seedstrap.json"),
      "--tree",
      tree,
      "--store",
      join(dir, "store-c"),
    ], { env });
    expect(same).toMatchObject({ code: 0 });
  },
  90_000,
);

testWith(REGISTRY)("a bundle that was pushed is a checkout for who pulls it", async () => {
  const { host } = await registry();
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(dir, miniTree({ importsPayload: true }));
  const store = ["--store", join(dir, "store")];
  const output = join(dir, "lb.tar");
  const pushed = await seedstrap(
    [
      "bundle",
      "create",
      "--tree",
      tree,
      "-m",
      mirror,
      ...store,
      "-o",
      output,
      "--push",
      `oci://${host}/lb:v1`,
    ],
  );
  expect(pushed).toMatchObject({ code: 0 });
  expect(pushed.stdout).toContain(`oci://${host}/lb:v1: 1 file; 1 file,`);
  const build = (target: string, from: string) =>
    seedstrap([
      "build",
      "--bare-metal",
      "--external-sources",
      "--tree",
      from,
      "--store",
      join(dir, "new"),
      "-t",
      join(dir, target),
      "--json",
    ]);
  expect(await build("a", output)).toMatchObject({ code: 0 });
  rmSync(output);
  expect(await build("b", `oci://${host}/lb:v1`)).toMatchObject({ code: 0 });
  for (const image of readdirSync(join(dir, "a")).filter((name) => name.endsWith(".img"))) {
    expect(await run(["cmp", join(dir, "a", image), join(dir, "b", image)])).toMatchObject({
      code: 0,
    });
  }
  const none = await build("c", `oci://${host}/lb:v2`);
  expect(none).toMatchObject({ code: 4 });
  expect(none.stdout + none.stderr).toContain(`Cannot pull oci://${host}/lb:v2: HTTP 404`);
  const files = someFiles(1, 10);
  await pushFiles(parsePushPlace(`oci://${host}/lb:v3`), files, TYPE, { jobs: 1 }, NEVER);
  const other = await build("d", `oci://${host}/lb:v3`);
  expect(other).toMatchObject({ code: 6 });
  expect(other.stdout + other.stderr).toContain("it is no bundle");
}, 90_000);

test("a registry that sends other bytes is not believed", async () => {
  const server = await bench.http((_, response) => response.end("other bytes"));
  const store = await bench.dir();
  const report = await get(store, [], {
    mirrors: mirrorsAt(server.url.replace("http:", "oci:") + "/files"),
  });
  expect(report.failures).toHaveLength(1);
  expect(report.failures[0]!.attempts[0]).toMatchObject({ fault: "digest" });
});
