// SPDX-License-Identifier: MIT
/** Connections that are kept, proxies, certificates and passwords. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { fetchAll } from "../../src/fetch/fetch.ts";
import { parseNetrc } from "../../src/fetch/netrc.ts";
import { seedstrap } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { Authority, pemsOf } from "./certificates.ts";
import { bench, BODY, get, NAME } from "./harness.ts";
import { sampleBody, sha256, type TestServer } from "./servers.ts";

const FETCHER = fileURLToPath(new URL("fetcher.ts", import.meta.url).href);
const DENO = fileURLToPath(new URL("../../node_modules/.bin/deno", import.meta.url).href);
const RUNTIMES = [["Bun", [process.execPath]], ["Deno", [DENO, "run", "-A"]]] as const;

let dir = "";
let authority: Authority;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "seedstrap-tls-"));
  authority = new Authority(dir);
});
afterEach(() => bench.release());
afterAll(() => rmSync(dir, { recursive: true }));

interface Settings {
  readonly runtime?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly trust?: Readonly<Record<string, string>>;
  readonly options?: Readonly<Record<string, unknown>>;
}

/** Fetches one file in a process of its own; returns its answers, and what it printed besides. */
async function fetched(
  urls: readonly string[],
  { runtime = RUNTIMES[0][1], env = {}, trust = {}, options = {} }: Settings = {},
): Promise<{ code: number; answers: string[]; err: string }> {
  const store = await bench.dir();
  const wanted = JSON.stringify([{ name: NAME, sha256: sha256(BODY), urls }]);
  const words = [FETCHER, store, wanted, JSON.stringify(trust), JSON.stringify(options)];
  const child = Bun.spawn([...runtime, ...words], {
    env: { PATH: process.env["PATH"] ?? "", HOME: store, DENO_NO_UPDATE_CHECK: "1", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { code: await child.exited, answers: out.split("\n").filter((line) => line !== ""), err };
}

const body = (_: IncomingMessage, response: ServerResponse): void => {
  response.end(BODY);
};

/** A server that notes the value of `Authorization` of each request. */
async function guarded(
  notes: (string | undefined)[],
  answer = body,
): Promise<TestServer> {
  return await bench.http((request, response) => {
    const { authorization } = request.headers;
    notes.push(authorization && atob(authorization.replace("Basic ", "")));
    answer(request, response);
  });
}

test("a run asks one server for all files on the same few connections", async () => {
  let connections = 0;
  let most = 0;
  let now = 0;
  const seen = new Set<Socket>();
  const bodies = new Map(Array.from({ length: 40 }, (_, i) => [`/${i}`, sampleBody(5000, i + 1)]));
  const server = await bench.http((request, response) => {
    if (!seen.has(request.socket)) {
      seen.add(request.socket);
      connections++;
    }
    most = Math.max(most, ++now);
    setTimeout(() => {
      now--;
      response.end(bodies.get(request.url!));
    }, 2);
  });
  const wanted = [...bodies].map(([path, bytes]) => ({
    name: `f${path.slice(1)}`,
    sha256: sha256(bytes),
    urls: [`${server.url}${path}`],
  }));
  const store = await bench.dir();
  const report = await fetchAll(wanted, {
    store,
    mirrors: [],
    userAgent: "seedstrap/test",
    jobs: 30,
  });
  expect(report.files.size).toBe(40);
  expect(connections).toBeLessThanOrEqual(8);
  expect(most).toBeLessThanOrEqual(8);
});

test("a connection that the server has ended meanwhile costs no attempt", async () => {
  const bodies = [BODY, sampleBody(1000, 3)];
  let served = 0;
  const server = await bench.raw((socket) => {
    const bytes = bodies[served++]!;
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`);
    socket.write(bytes);
    // The next request on it finds no reader.
    socket.on("data", () => socket.destroy());
  });
  const wanted = bodies.map((bytes, i) => ({
    name: `f${i}`,
    sha256: sha256(bytes),
    urls: [server.url],
  }));
  const report = await fetchAll(wanted, {
    store: await bench.dir(),
    mirrors: [],
    userAgent: "seedstrap/test",
    jobs: 1,
  });
  expect(report.failures).toEqual([]);
});

test("what follows a whole body on a connection is not taken for the next answer", async () => {
  const bodies = [BODY, sampleBody(1000, 3)];
  const wrong = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad";
  let served = 0;
  const server = await bench.raw((socket) => {
    const bytes = bodies[served++]!;
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`);
    socket.write(bytes);
    socket.write(wrong);
  });
  const report = await fetchAll(
    bodies.map((bytes, i) => ({ name: `f${i}`, sha256: sha256(bytes), urls: [server.url] })),
    { store: await bench.dir(), mirrors: [], userAgent: "seedstrap/test", jobs: 1 },
  );
  expect(report.failures).toEqual([]);
});

test("a server at an IPv6 address is asked", async () => {
  const server = await bench.http(body, { host: "[::1]" });
  expect((await get(await bench.dir(), [`${server.url}/a`])).failures).toEqual([]);
});

test.each(RUNTIMES)("%s: a server is trusted by --ca-cert or SSL_CERT_FILE", async (_, runtime) => {
  const server = await bench.http(body, { secure: pemsOf(authority.issue(`good-${_}`)) });
  const { code, answers } = await fetched([server.url], { runtime });
  expect(code).toBe(1);
  expect(answers[0]).toStartWith(
    "the server's certificate is from an authority that is not known, or not valid: name the " +
      "authority's certificate with --ca-cert, and check the clock (",
  );
  for (const env of [{ SSL_CERT_FILE: authority.cert }, { NODE_EXTRA_CA_CERTS: authority.cert }]) {
    expect((await fetched([server.url], { runtime, env })).answers).toEqual([]);
  }
  const trusting = await fetched([server.url], { runtime, trust: { caCert: authority.cert } });
  expect(trusting).toMatchObject({ code: 0, answers: [] });
});

test.each(RUNTIMES)("%s: a bad certificate is refused, and it is said why", async (_, runtime) => {
  const pairs = {
    self: authority.selfSigned(`self-${_}`),
    host: authority.issue(`host-${_}`, "DNS:other.example"),
    old: authority.issue(`old-${_}`, undefined, "20200101000000Z", "20210101000000Z"),
  };
  const said = async (name: keyof typeof pairs) => {
    const server = await bench.http(body, { secure: pemsOf(pairs[name]) });
    const trust = { caCert: authority.cert };
    const { code, answers } = await fetched([server.url], { runtime, trust });
    expect(code).toBe(1);
    expect(server.seen).toEqual([]);
    return answers[0];
  };
  expect(await said("self")).toContain("is self-signed: if it is the right one, name it with");
  expect(await said("host")).toContain("is for another host name: check the name in the URL");
  // Deno does not tell an expired certificate from one of nobody.
  expect(await said("old")).toMatch(
    /expired, or is not valid yet: check the clock|check the clock/,
  );
});

test("a self-signed certificate is trusted once it is named with --ca-cert", async () => {
  const pair = authority.selfSigned("named");
  const server = await bench.http(body, { secure: pemsOf(pair) });
  expect((await fetched([server.url], { trust: { caCert: pair.cert } })).code).toBe(0);
});

test.each(RUNTIMES)("%s: a client certificate is shown, and not after a redirect", async (
  _,
  runtime,
) => {
  const { cert: clientCert, key: clientKey } = authority.issue(`client-${_}`, "DNS:client");
  const pair = pemsOf(authority.issue(`mutual-${_}`));
  const asking = { ...pair, requestCert: true, rejectUnauthorized: true };
  const secure = { ...asking, ca: [await Bun.file(authority.cert).text()] };
  const server = await bench.http(body, { secure });
  const trust = { caCert: authority.cert, clientCert, clientKey };
  expect((await fetched([server.url], { runtime, trust })).code).toBe(0);
  const without = await fetched([server.url], { runtime, trust: { caCert: authority.cert } });
  expect(without.answers[0]).toContain("it may ask for --client-cert and --client-key");
  const other = await bench.http(
    (_, response) => response.writeHead(302, { Location: server.url }).end(),
    { secure: pair },
  );
  expect((await fetched([other.url], { runtime, trust })).code).toBe(1);
});

test.each(RUNTIMES)("%s: https goes through the proxy by CONNECT, with its password", async (
  _,
  runtime,
) => {
  const server = await bench.http(body, { secure: pemsOf(authority.issue(`tunnel-${_}`)) });
  const asked: string[] = [];
  const proxy = await bench.raw((socket, head) => {
    const [line, ...lines] = head.split("\r\n");
    const secret = lines.find((l) => /^proxy-authorization:/i.test(l))?.replace(/.* /, "") ?? "";
    asked.push(`${line} ${atob(secret)}`);
    const [, port] = /:(\d+) /.exec(line!)!;
    const far = connect(Number(port), "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      socket.pipe(far).pipe(socket);
    });
    far.on("error", () => socket.destroy());
  });
  const address = proxy.url.replace("//", "//user:se%40cret@");
  for (const name of ["https_proxy", "HTTPS_PROXY", "all_proxy"]) {
    const env = { [name]: address };
    const { code, err } = await fetched([server.url], {
      runtime,
      env,
      trust: { caCert: authority.cert },
    });
    expect({ code, err }).toEqual({ code: 0, err: "" });
  }
  const { host } = new URL(server.url);
  expect(asked).toEqual(Array(3).fill(`CONNECT ${host} HTTP/1.1 user:se@cret`));
  const env = { https_proxy: address, no_proxy: "127.0.0.1" };
  expect((await fetched([server.url], { runtime, env, trust: { caCert: authority.cert } })).code)
    .toBe(0);
  expect(asked).toHaveLength(3);
});

test("a proxy that refuses or is none is said, without its password", async () => {
  const proxy = await bench.raw((socket) => socket.end("HTTP/1.1 407 No\r\n\r\n"));
  const env = { all_proxy: proxy.url.replace("//", "//user:secret@") };
  for (const url of ["https://nowhere.invalid/a", "http://nowhere.invalid/a"]) {
    const { code, answers, err } = await fetched([url], { env });
    expect(code).toBe(1);
    expect(answers.join()).toContain("407");
    expect(`${answers.join()}${err}`).not.toContain("secret");
  }
  const socks = await fetched(["http://nowhere.invalid/a"], {
    env: { ALL_PROXY: "socks5://user:secret@127.0.0.1:9" },
  });
  expect(socks.err).toContain("it is a SOCKS proxy");
  expect(socks.err).not.toContain("secret");
});

test("a password goes to the server that it is for, and not where that redirects to", async () => {
  const [first, other]: (string | undefined)[][] = [[], []];
  const far = await guarded(other!);
  const near = await guarded(first!, (request, response) => {
    if (request.url === "/b") response.writeHead(302, { Location: `${far.url}/c` }).end();
    else response.writeHead(302, { Location: "/b" }).end();
  });
  const url = `${near.url.replace("//", "//me:p%40ss@")}/a`;
  expect((await fetched([url])).code).toBe(0);
  expect([first, other]).toEqual([["me:p@ss", "me:p@ss"], [undefined]]);
});

test("netrc has the passwords of hosts by name, and its default is not used", async () => {
  const notes: (string | undefined)[] = [];
  const server = await guarded(notes);
  const netrc = join(dir, "netrc");
  writeFileSync(
    netrc,
    "default login any password where\nmachine 127.0.0.1\n  login me password s",
  );
  expect((await fetched([server.url], { env: { NETRC: netrc } })).code).toBe(0);
  const local = server.url.replace("127.0.0.1", "localhost");
  expect((await fetched([local], { env: { NETRC: netrc } })).code).toBe(0);
  expect(notes).toEqual(["me:s", undefined]);
  const missing = await fetched([server.url], { env: { NETRC: join(dir, "none") } });
  expect(missing.err).toContain("Cannot read passwords from");
});

test("parseNetrc() takes quotes, comments and macros", () => {
  const text = `# machine z login no password no
machine A.example login "a b" account x password "c\\"#"
macdef init
machine evil login x password y

machine a.example login later password later
machine only login name`;
  const pairs = [...parseNetrc(text)].map(([host, secret]) => [host, secret.reveal()]);
  expect(pairs).toEqual([["a.example", 'a b:c"#'], ["only", "name:"]]);
});

test("https is not left for http, not even through a mirror", async () => {
  const plain = await bench.files(BODY);
  const server = await bench.http(
    (_, response) => response.writeHead(302, { Location: `${plain.url}/a` }).end(),
    { secure: pemsOf(authority.issue("downgrade")) },
  );
  const refused = "refused: redirect from https: to http:";
  const trust = { caCert: authority.cert };
  expect((await fetched([server.url], { trust })).answers).toEqual([refused]);
  const mirrored = await fetched([], { trust, options: { mirrors: [server.url] } });
  expect(mirrored.answers).toEqual([refused]);
  expect(plain.seen).toEqual([]);
});

test("a certificate, key or netrc that cannot be used is a mistake of the command line", async () => {
  const cases = [
    [{ caCert: join(dir, "none.pem") }, "for --ca-cert"],
    [{ caCert: join(dir, "ca.key") }, "for --ca-cert"],
    [{ clientCert: authority.cert }, "for --client-key"],
    [{ clientKey: join(dir, "ca.key") }, "Cannot use --client-key without --client-cert"],
  ] as const;
  for (const [trust, text] of cases) {
    expect((await fetched(["http://127.0.0.1:9/"], { trust })).err).toContain(text);
  }
});

test("seedstrap fetch takes the certificates, and says what a bad file has to be", async () => {
  const { distfiles } = miniTree();
  const secure = {
    ...pemsOf(authority.issue("cli")),
    ca: [await Bun.file(authority.cert).text()],
    requestCert: true,
    rejectUnauthorized: true,
  };
  const server = await bench.http(
    ({ url }, response) => void response.end(distfiles[url!.slice(1)]),
    { secure },
  );
  const at = await bench.dir();
  const { tree } = writeMiniTree(at, miniTree());
  const args = ["fetch", "--tree", tree, "-m", server.url, "--store", join(at, "store")];
  const { cert, key } = authority.issue("cli-client", "DNS:client");
  const trust = ["--ca-cert", authority.cert];
  expect((await seedstrap([...args, ...trust])).stderr).toContain("it may ask for --client-cert");
  const shown = [...trust, "--client-cert", cert, "--client-key", key];
  expect(await seedstrap([...args, ...shown])).toMatchObject({ code: 0 });
  const wrong = await seedstrap([...args, "--ca-cert", key]);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain("It takes certificates in PEM");
});
