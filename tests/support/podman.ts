// SPDX-License-Identifier: MIT
/**
 * podman and crun for tests, with images and containers of their own: also where tests run in a
 * container that lets them make no cgroups, and raise no limits.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

/** What is mounted where there are cgroups of both versions, which crun takes for a fault. */
const UNIFIED = "/sys/fs/cgroup/unified";

/** Words before a command of crun. */
export const CRUN: readonly string[] = existsSync(UNIFIED)
  ? [
    "unshare",
    "--mount",
    "sh",
    "-c",
    `mount --rbind ${UNIFIED} /sys/fs/cgroup && exec "$@"`,
    "sh",
    "crun",
    "--cgroup-manager=disabled",
  ]
  : ["crun", "--cgroup-manager=disabled"];

/** A store of podman's own. */
export class Podman implements Disposable {
  readonly dir: string;
  /** For whatever runs podman. */
  readonly env: Readonly<Record<string, string>>;

  constructor() {
    // podman takes no longer names for its sockets.
    this.dir = mkdtempSync("/tmp/sp-");
    const path = (name: string) => join(this.dir, name);
    const script = CRUN.map((word) => `'${word}'`).join(" ");
    writeFileSync(path("crun"), `#!/bin/sh\nexec ${script} "$@"\n`, { mode: 0o755 });
    writeFileSync(
      path("containers.conf"),
      `[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "crun"
[engine.runtimes]
crun = ["${path("crun")}"]
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
`,
    );
    writeFileSync(
      path("storage.conf"),
      `[storage]
driver = "vfs"
graphroot = "${path("graph")}"
runroot = "${path("run")}"
`,
    );
    mkdirSync(path("tmp"));
    this.env = {
      CONTAINERS_CONF: path("containers.conf"),
      CONTAINERS_STORAGE_CONF: path("storage.conf"),
      TMPDIR: path("tmp"),
    };
  }

  /** Runs podman, and returns what it prints; throws where it fails. */
  run(...args: string[]): string {
    const { status, stdout, stderr, error } = spawnSync("podman", args, {
      env: { ...process.env, ...this.env },
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`podman ${args[0]}: ${error?.message ?? stderr.trim()}`);
    return stdout.trim();
  }

  /** Names of all containers, and digests of all images. */
  left(): { readonly containers: string[]; readonly images: string[] } {
    const lines = (text: string) => text === "" ? [] : text.split("\n");
    return {
      containers: lines(this.run("ps", "--all", "--format", "{{.Names}}")),
      images: lines(this.run("images", "--quiet", "--no-trunc")),
    };
  }

  /** Removes all containers and images. */
  clear(): void {
    this.run("rm", "--all", "--force");
    this.run("rmi", "--all", "--force");
  }

  [Symbol.dispose](): void {
    this.clear();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
