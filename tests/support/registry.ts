// SPDX-License-Identifier: MIT
/**
 * A registry of images on loopback: the one of the package docker-registry.
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const REGISTRY = "docker-registry";

/** A registry that keeps its blobs in a directory, also when it is killed and started again. */
export class TestRegistry {
  readonly host: string;
  readonly #config: string;
  #child: Bun.Subprocess | undefined;

  private constructor(host: string, config: string) {
    this.host = host;
    this.#config = config;
  }

  /** @param login A user name and a password that every request needs. */
  static async start(dir: string, login?: readonly [string, string]): Promise<TestRegistry> {
    const host = `127.0.0.1:${await freePort()}`;
    const config = join(dir, "config.yml");
    const lines = [
      "version: 0.1",
      "log: {level: info}",
      `storage: {filesystem: {rootdirectory: ${join(dir, "data")}}}`,
      `http: {addr: "${host}"}`,
    ];
    if (login !== undefined) {
      const [name, password] = login;
      const hash = await Bun.password.hash(password, { algorithm: "bcrypt", cost: 4 });
      writeFileSync(join(dir, "htpasswd"), `${name}:${hash}\n`);
      lines.push(`auth: {htpasswd: {realm: here, path: ${join(dir, "htpasswd")}}}`);
    }
    writeFileSync(config, `${lines.join("\n")}\n`);
    const registry = new TestRegistry(host, config);
    registry.#log = join(dir, "log");
    await registry.begin();
    return registry;
  }

  #log = "";

  /** What it has printed since it was started last. */
  log(): string {
    return readFileSync(this.#log, "utf8");
  }

  async begin(): Promise<void> {
    // Until it is gone it has the port.
    await this.kill();
    this.#child = Bun.spawn([REGISTRY, "serve", this.#config], {
      stdin: "ignore",
      stdout: Bun.file(this.#log),
      stderr: Bun.file(this.#log),
    });
    for (let tries = 0; tries < 200; tries++) {
      if (await fetch(`http://${this.host}/v2/`).then(() => true, () => false)) return;
      await sleep(50);
    }
    throw new Error(`the registry does not answer: ${this.log().slice(-500)}`);
  }

  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.exited;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
