// SPDX-License-Identifier: MIT
/** What a registry may say, and what it gets for that. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { registryLogin } from "../../src/fetch/docker_config.ts";
import {
  type OciMirror,
  parseMirror,
  parseRepository,
  placeOf,
  withPlainHttp,
} from "../../src/fetch/mirror.ts";
import { MAX_MANIFEST_BYTES, Registry } from "../../src/fetch/registry.ts";
import { bodyOf } from "../../src/fetch/storage.ts";
import { parseChallenges } from "../../src/fetch/registry_login.ts";
import { faultOf } from "../support/sources.ts";
import { bench, BODY, get, mirrorsAt } from "./harness.ts";
import { sha256 } from "./servers.ts";

const AUTH = btoa("me:secretword");
const NEVER = new AbortController().signal;
const before = { ...process.env };
let config = "";
beforeEach(async () => {
  config = await bench.dir();
  process.env["DOCKER_CONFIG"] = config;
});
afterEach(async () => {
  process.env = { ...before };
  await bench.release();
});

/** Lets docker know a login for a host, and whatever else. */
function login(host: string, others: object = {}): void {
  const auths = { [host]: { auth: AUTH } };
  writeFileSync(join(config, "config.json"), JSON.stringify({ auths, ...others }));
}

/** A registry that answers 401 with a challenge until a request has the right header. */
async function guarded(challenge: string, wanted: string) {
  const got: (string | undefined)[] = [];
  const server = await bench.http((request, response) => {
    got.push(request.headers.authorization);
    if (request.headers.authorization !== wanted) {
      response.writeHead(401, { "WWW-Authenticate": challenge }).end();
    } else if (request.url!.endsWith(sha256(BODY))) response.end(BODY);
    else response.writeHead(404).end();
  });
  return { host: server.url.slice("http://".length), got };
}

const fetched = async (host: string) =>
  await get(await bench.dir(), [], { mirrors: mirrorsAt(`oci://${host}/a/files`) });

test("a repository has the name that the specification gives it, and none that escapes", () => {
  expect(parseMirror("oci://H.example:5000/a/b_c")).toEqual({
    kind: "oci",
    url: "oci://h.example:5000/a/b_c",
  });
  expect(parseRepository("oci://h/a:v1.2").tag).toBe("v1.2");
  for (
    const text of [
      "oci://h",
      "oci://h/",
      "oci://h/..",
      "oci://h/a/../b",
      "oci://h/a//b",
      "oci://h/A",
      "oci://h/a?x=1",
      "oci://h/a#b",
      "oci://h/a%2f..",
      "oci://me:secretword@h/a",
      "oci://h/a:.x",
      "oci:///a",
      "oci://h /a",
      "oci://h/a:v/../../x",
      "oci://-h/a",
      "oci:h/a",
      `oci://h/${"a".repeat(256)}`,
    ]
  ) {
    const fault = faultOf(() => parseRepository(text));
    expect(fault).toStartWith("Cannot use");
    expect(fault).not.toContain("secretword");
  }
  expect(faultOf(() => parseMirror("oci://h/a:v1"))).toContain("it has a tag");
});

test("a registry is asked over http on this machine, and elsewhere only with --plain-http", () => {
  const origin = (text: string, isPlain = false) => {
    const mirror = parseMirror(text) as OciMirror;
    return placeOf(isPlain ? withPlainHttp(mirror) : mirror).origin;
  };
  for (const host of ["127.0.0.1:5000", "localhost:5000", "[::1]:5000"]) {
    expect(origin(`oci://${host}/a`)).toBe(`http://${host}`);
  }
  for (const host of ["h.example", "127.0.0.1.example", "localhost.example", "128.0.0.1"]) {
    expect(origin(`oci://${host}/a`)).toBe(`https://${host}`);
    expect(origin(`oci://${host}/a`, true)).toBe(`http://${host}`);
  }
  expect(origin("oci://docker.io/library/a")).toBe("https://registry-1.docker.io");
});

test("an upload that a registry leads elsewhere goes over https, and without the login", async () => {
  const body = bodyOf(BODY);
  let got: unknown = "nothing";
  const storage = await bench.http((request, response) => {
    got = request.headers.authorization;
    request.resume().on("end", () => response.writeHead(201).end());
  });
  const to = async (location: string) => {
    const server = await bench.http((request, response) => {
      const isKnown = request.headers.authorization === `Basic ${AUTH}`;
      response.writeHead(isKnown ? 202 : 401, {
        "WWW-Authenticate": "Basic realm=x",
        "Location": location,
      }).end();
    });
    const host = server.url.slice("http://".length);
    login(host);
    const { mirror } = parseRepository(`oci://${host}/a`);
    await new Registry(mirror, "pull,push", { userAgent: "seedstrap/test", stallMs: 2000 }).upload(
      body,
    );
  };
  expect(await to("http://evil.example/x?k=secretkey").catch(String)).toBe(
    "UrlFailure: refused: an upload to http://evil.example",
  );
  await to(`${storage.url}/x?state=a%2Fb`);
  expect(got).toBeUndefined();
  expect(storage.seen).toEqual([`PUT /x?state=a%2Fb&digest=sha256%3A${sha256(BODY)}`]);
});

test("a challenge is read as a whole, or not at all", () => {
  const shown = (header: string) =>
    parseChallenges(header)?.map(({ scheme, fields }) => [scheme, Object.fromEntries(fields)]);
  expect(shown('Bearer realm="https://a/t?x=1",service="a b", scope="repository:x:pull,push"'))
    .toEqual([
      ["bearer", { realm: "https://a/t?x=1", service: "a b", scope: "repository:x:pull,push" }],
    ]);
  expect(shown('Basic realm="a \\"b\\"", Bearer realm=c')).toEqual([
    ["basic", { realm: 'a "b"' }],
    ["bearer", { realm: "c" }],
  ]);
  expect(shown("Negotiate")).toEqual([["negotiate", {}]]);
  for (
    const bad of [
      'Bearer realm="a',
      'Bearer realm="a" b',
      "Bearer realm=a,realm=b",
      "=x",
      '"',
      `Bearer realm="${"a".repeat(5000)}"`,
    ]
  ) {
    expect(shown(bad)).toBeUndefined();
  }
});

test("a registry with Basic gets the login of docker, and one without a login none", async () => {
  const { host, got } = await guarded('Basic realm="here"', `Basic ${AUTH}`);
  expect((await fetched(host)).failures[0]!.attempts[0]!.answer).toContain("HTTP 401");
  expect(got).toEqual([undefined, undefined]);
  login(host);
  expect((await fetched(host)).failures).toEqual([]);
  expect(got.slice(2)).toEqual([undefined, `Basic ${AUTH}`]);
});

test("a token is asked for with the login, for the one repository, and once", async () => {
  const asked: (string | undefined)[] = [];
  const tokens = await bench.http((request, response) => {
    asked.push(request.url, request.headers.authorization);
    response.end(JSON.stringify({ token: "abc.def", expires_in: 300 }));
  });
  const { host, got } = await guarded(
    `Bearer realm="${tokens.url}/token",service="s",scope="repository:other:*"`,
    "Bearer abc.def",
  );
  login(host);
  expect((await fetched(host)).failures).toEqual([]);
  expect(asked).toEqual(["/token?service=s&scope=repository%3Aa%2Ffiles%3Apull", `Basic ${AUTH}`]);
  expect(got).toEqual([undefined, "Bearer abc.def"]);
});

test("a password goes to no token server of another domain, and to none over http", async () => {
  for (
    const [realm, why] of [
      ["https://evil.example/token", "which is of another domain"],
      ["http://evil.example/token", "is not asked over https"],
      ["file:///etc/passwd", "is not asked over https"],
      ["https://me:x@evil.example/", "a token server with a password"],
      ["", "no token server"],
    ]
  ) {
    const { host } = await guarded(`Bearer realm="${realm}"`, "never");
    login(host);
    const { failures } = await fetched(host);
    expect(failures[0]!.attempts[0]!.answer).toContain(why!);
    expect(JSON.stringify(failures)).not.toContain("secretword");
  }
});

test("the storage that a registry leads to gets no login", async () => {
  let got: string | undefined = "nothing asked";
  const storage = await bench.http((request, response) => {
    got = request.headers.authorization;
    response.end(BODY);
  });
  const server = await bench.http((request: IncomingMessage, response: ServerResponse) => {
    if (request.headers.authorization !== `Basic ${AUTH}`) {
      response.writeHead(401, { "WWW-Authenticate": "Basic realm=x" }).end();
    } else response.writeHead(307, { Location: `${storage.url}/blob?key=secretkey` }).end();
  });
  const host = server.url.slice("http://".length);
  login(host);
  const { failures, files } = await fetched(host);
  expect(failures).toEqual([]);
  expect(got).toBeUndefined();
  expect(JSON.stringify([...files])).not.toContain("secretkey");
});

test("a manifest beyond the limit, or of another digest, is refused", async () => {
  const long = await bench.http((_, response) =>
    response.end(Buffer.alloc(MAX_MANIFEST_BYTES + 1))
  );
  const other = await bench.http(({ method }, response) =>
    response.writeHead(200, { "Docker-Content-Digest": `sha256:${"0".repeat(64)}` }).end(
      method === "GET" ? "{}" : "",
    )
  );
  const read = (url: string) => {
    const { mirror } = parseRepository(`oci://${url.slice("http://".length)}/a`);
    return new Registry(mirror, "pull", { userAgent: "seedstrap/test", stallMs: 2000 }).manifest(
      "v1",
    );
  };
  expect(read(long.url)).rejects.toThrow("longer than the limit");
  expect(read(other.url)).rejects.toThrow("another digest");
  await Promise.allSettled([read(long.url), read(other.url)]);
});

test("a credential helper is run without a shell, and only under a name that is one", async () => {
  const bin = join(config, "bin");
  mkdirSync(bin);
  writeFileSync(
    join(bin, "docker-credential-mine"),
    `#!/bin/sh
read host
echo "$1 $host" >>${config}/asked
echo '{"ServerURL":"x","Username":"me","Secret":"secretword"}'
`,
  );
  chmodSync(join(bin, "docker-credential-mine"), 0o755);
  process.env["PATH"] = `${bin}:${before["PATH"]}`;
  const env = { DOCKER_CONFIG: config };
  login("other", { credHelpers: { "h.example": "mine" } });
  expect((await registryLogin("h.example", env, NEVER))?.reveal()).toBe("me:secretword");
  expect(readFileSync(join(config, "asked"), "utf8")).toBe("get h.example\n");
  expect((await registryLogin("other", env, NEVER))?.reveal()).toBe("me:secretword");
  expect(await registryLogin("third", env, NEVER)).toBeUndefined();
  for (const name of ["../mine", "mine;id", "a b", "-x", "/bin/sh"]) {
    login("other", { credsStore: name });
    expect(registryLogin("other", env, NEVER)).rejects.toThrow("Cannot use the credential helper");
    await registryLogin("other", env, NEVER).catch(() => {});
  }
  writeFileSync(
    join(config, "config.json"),
    '{"auths": {"h": {"auth": 5, "password": "secretword"}}}',
  );
  const fault = await registryLogin("h", env, NEVER).catch(String);
  expect(fault).toContain("Cannot read the logins");
  expect(fault).not.toContain("secretword");
});
