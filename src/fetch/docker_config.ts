// SPDX-License-Identifier: MIT
/**
 * User names and passwords of registries, from where `docker login` and `oras login` keep them:
 * `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`, and the programs that it names.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { homedir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { UserError } from "../errors.ts";
import { anyText, openObject, parseJson } from "../json.ts";
import { findProgram, runProcess } from "../launch/process.ts";
import { readWholeText } from "../read.ts";
import { statIfThere } from "../runtime/stat.ts";
import { Secret } from "./secret.ts";

const MAX_CONFIG_BYTES = 1024 * 1024;
const MAX_HELPER_BYTES = 64 * 1024;

const loginFields = openObject({
  auth: v.exactOptional(anyText),
  username: v.exactOptional(anyText),
  password: v.exactOptional(anyText),
  identitytoken: v.exactOptional(anyText),
});

const config = openObject({
  auths: v.exactOptional(v.record(v.string(), loginFields, "an object")),
  credHelpers: v.exactOptional(v.record(v.string(), anyText, "an object")),
  credsStore: v.exactOptional(anyText),
});

type Config = v.InferOutput<typeof config>;

const helperAnswer = openObject({ Username: anyText, Secret: anyText });

/**
 * Returns the credentials for a registry, as HTTP's Basic scheme joins them: `name:password`.
 *
 * @param host With the port, as the user has named it.
 * @returns undefined if there are none: the registry is asked without.
 * @throws {UserError} "usage" for a file that cannot be read, and a program that fails.
 */
export async function registryLogin(
  host: string,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<Secret | undefined> {
  const path = join(
    env["DOCKER_CONFIG"] || join(env["HOME"] || homedir(), ".docker"),
    "config.json",
  );
  const found = readConfig(path);
  if (found === undefined) return undefined;
  const names = namesOf(host);
  const helper = names.map((name) => ownValue(found.credHelpers, name))
    .find((name) => name !== undefined && name !== "") ?? found.credsStore;
  if (helper !== undefined && helper !== "") {
    for (const name of names) {
      const login = await askHelper(helper, name, path, signal);
      if (login !== undefined) return login;
    }
  }
  const entry = names.map((name) => ownValue(found.auths, name)).find((one) => one !== undefined);
  return entry === undefined ? undefined : loginOf(entry, host, path);
}

function readConfig(path: string): Config | undefined {
  if (statIfThere(path, { kind: "usage" }) === undefined) return undefined;
  const text = readWholeText(path, { limitBytes: MAX_CONFIG_BYTES, kind: "usage" });
  const read = parseJson(config, text);
  if (typeof read !== "string") return read;
  // What is wrong may be a password.
  throw new UserError("usage", `Cannot read the logins of registries from ${path}`, {
    where: path,
    hint: "It is not a configuration of docker: mend it, or set DOCKER_CONFIG to another directory",
  });
}

/** The names under which a registry may be in the file; Docker's own has an old one. */
function namesOf(host: string): string[] {
  const old = host === "docker.io" ? ["https://index.docker.io/v1/", "index.docker.io"] : [];
  return [
    host,
    `https://${host}`,
    `https://${host}/`,
    `https://${host}/v1/`,
    `https://${host}/v2/`,
    ...old,
  ];
}

function ownValue<T>(record: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, name) ? record[name] : undefined;
}

function loginOf(
  { auth, username, password, identitytoken }: v.InferOutput<typeof loginFields>,
  host: string,
  path: string,
): Secret | undefined {
  if (identitytoken !== undefined && identitytoken !== "") throw tokenError(host, path);
  if (auth !== undefined && auth !== "") {
    const pair = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
    if (!pair.includes(":")) {
      throw new UserError("usage", `Cannot use the login of ${host} in ${path}`, {
        where: path,
        hint: `Its "auth" is not a name and a password: log in again`,
      });
    }
    return new Secret(pair);
  }
  if (username === undefined || password === undefined) return undefined;
  return new Secret(`${username}:${password}`);
}

function tokenError(host: string, path: string): UserError {
  return new UserError("usage", `Cannot use the login of ${host}: it is an identity token`, {
    where: path,
    hint: "Log in with a user name and a password, such as an access token",
  });
}

/** Runs a credential helper of docker; undefined if it knows no login for the name. */
async function askHelper(
  helper: string,
  name: string,
  path: string,
  signal: AbortSignal,
): Promise<Secret | undefined> {
  // It becomes the name of a program.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(helper)) {
    throw new UserError("usage", `Cannot use the credential helper that ${path} names`, {
      where: path,
      hint: "credHelpers and credsStore are names such as pass: docker-credential-pass is run",
    });
  }
  const program = `docker-credential-${helper}`;
  const found = await findProgram(program);
  if (found === undefined) {
    throw new UserError("usage", `Cannot log in with ${program}: it is not installed`, {
      where: path,
      hint: "Install it, or set DOCKER_CONFIG to another directory",
    });
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  const { code } = await runProcess({
    argv: [found, "get"],
    stdin: "pipe",
    signal,
    onSpawn: ({ write, end }) => {
      write?.(new TextEncoder().encode(`${name}\n`));
      end?.();
    },
    onStdout: (chunk) => {
      sizeBytes += chunk.length;
      if (sizeBytes <= MAX_HELPER_BYTES) chunks.push(chunk.slice());
    },
    // It may say what it has.
    onStderr: () => {},
  });
  signal.throwIfAborted();
  const text = Buffer.concat(chunks).toString("utf8");
  if (code !== 0 && /not found/i.test(text)) return undefined;
  const read = code === 0 && sizeBytes <= MAX_HELPER_BYTES
    ? parseJson(helperAnswer, text)
    : "it failed";
  if (typeof read === "string") {
    throw new UserError("usage", `Cannot log in with ${program}: it gave no login`, {
      where: path,
      hint: `Try it: echo ${name} | ${program} get`,
    });
  }
  const { Username, Secret: password } = read;
  if (Username === "<token>") throw tokenError(name, path);
  return Username + password === "" ? undefined : new Secret(`${Username}:${password}`);
}
