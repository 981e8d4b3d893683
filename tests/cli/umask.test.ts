// SPDX-License-Identifier: MIT
/** What is written follows the user's umask, and what is in it does not. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { sha256OfFile, TempDirs, writeFiles } from "../support/files.ts";
import { DENO, MAIN, run } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const dir = temp.make();
let tree = "";
let server: Bun.Server<undefined>;

beforeAll(() => {
  const seed = "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed";
  const mini = miniTree({ importsPayload: true, files: { [seed]: "the seed" } });
  tree = writeMiniTree(dir, mini).tree;
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: ({ url }) => new Response(mini.distfiles[url.split("/").at(-1)!]?.slice() ?? ""),
  });
});
afterAll(() => server.stop(true));

/** Mode bits, in octal, of everything below a directory, but for the lock and the work directory. */
function modesIn(at: string): Record<string, string> {
  const paths = readdirSync(at, { recursive: true, encoding: "utf8" }).sort();
  return Object.fromEntries(
    paths.filter((path) => !/\.seedstrap|\.locks/.test(path))
      .map((path) => [path, (lstatSync(join(at, path)).mode % 0o10000).toString(8)]),
  );
}

/** Builds, bundles, unpacks and extracts under a umask, in a new directory. */
async function everything(umask: string, name: string, command: readonly string[]) {
  const at = join(dir, name);
  mkdirSync(at);
  const call = async (...args: string[]) => {
    const shell = ["sh", "-c", `umask ${umask}; exec "$@"`, "sh", ...command];
    const ran = await run([...shell, ...args], { cwd: at });
    if (ran.code !== 0) throw new Error(ran.stderr);
  };
  const sources = ["--tree", tree, "-m", server.url.href, "--distfiles", "store"];
  await call("build", "-b", "--external-sources", ...sources, "-t", "images");
  await call("build", "--chroot", "--external-sources", ...sources, "-t", "root");
  await call("bundle", "create", ...sources, "-o", "bundle.tar");
  await call("bundle", "unpack", "bundle.tar", "-o", "unpacked");
  await call("image", "extract", "images/init.img", "-o", "extracted");
  await call("preflight", "--bare-metal", "-o", "preflight.img");
  await call("report", "images", "-o", "report.html");
  return at;
}

const RUNTIMES = [["Bun", [process.execPath, MAIN]], ["Deno", [
  DENO,
  "run",
  "--quiet",
  "-A",
  MAIN,
]]];

for (const [runtime, command] of RUNTIMES as [string, string[]][]) {
  test(
    `images, records, stores and bundles follow the umask, a root does not, under ${runtime}`,
    async () => {
      const open = await everything("022", `${runtime}-open`, command);
      const closed = await everything("077", `${runtime}-closed`, command);
      const [openModes, closedModes] = [modesIn(open), modesIn(closed)];
      const paths = Object.keys(openModes);
      expect(Object.keys(closedModes)).toEqual(paths);
      const isOfRoot = (path: string) =>
        /^root\/(?!seedstrap.json|sbom)|^(root|images)$/.test(path);
      for (const path of paths) {
        const mode = Number.parseInt(openModes[path]!, 8);
        const wanted = isOfRoot(path) ? mode : mode & ~0o077;
        expect(`${path} ${closedModes[path]}`).toBe(`${path} ${wanted.toString(8)}`);
      }
      for (const path of ["images/init.img", "images/payload.img", "images/seedstrap.json"]) {
        expect(openModes[path]).toBe("644");
      }
      const same = paths.filter((path) => lstatSync(join(open, path)).isFile());
      expect(same.map((path) => [path, sha256OfFile(join(closed, path))]))
        .toEqual(same.map((path) => [path, sha256OfFile(join(open, path))]));
    },
    60_000,
  );
}

test("a bootstrap in a directory starts with umask 022, whatever the user's is", async () => {
  const at = temp.make();
  writeFiles(at, { "bin/chroot": "#!/bin/sh\numask\n", "bin/sudo": '#!/bin/sh\nexec "$@"\n' });
  for (const name of ["chroot", "sudo"]) chmodSync(join(at, "bin", name), 0o755);
  const script = 'umask 077; PATH="$1:$PATH"; shift; exec "$@"';
  const shell = ["sh", "-c", script, "sh", join(at, "bin"), process.execPath, MAIN];
  const sources = ["--tree", tree, "-m", server.url.href, "--distfiles", join(at, "store")];
  const ran = await run([...shell, "--chroot", "--external-sources", ...sources], { cwd: at });
  expect(ran.stdout).toMatch(/^0022$/m);
  // No step is built.
  expect(ran.code).toBe(14);
  const [log] = readdirSync(join(at, "target/.seedstrap/runs")).filter((name) => /log$/.test(name));
  expect(lstatSync(join(at, "target/.seedstrap/runs", log!)).mode % 0o1000).toBe(0o600);
});
