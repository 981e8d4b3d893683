// SPDX-License-Identifier: MIT
/** Signatures of version 4: as AWS publishes them, and as a server checks them by itself. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BucketKeys, findBucketKeys, signedHeaders } from "../../src/fetch/bucket_login.ts";
import { parseMirror } from "../../src/fetch/mirror.ts";
import { Secret } from "../../src/fetch/secret.ts";
import { parsePushPlace, pushFiles } from "../../src/job/push.ts";
import { faultOf } from "../support/sources.ts";
import { bench, get, mirrorsAt } from "./harness.ts";
import { sampleBody, sha256 } from "./servers.ts";

const before = { ...process.env };
beforeEach(async () => {
  process.env["HOME"] = await bench.dir();
  for (const name of Object.keys(process.env)) {
    if (name.startsWith("AWS_")) delete process.env[name];
  }
});
afterEach(async () => {
  process.env = { ...before };
  await bench.release();
});

/** The keys of the examples in AWS's reference of S3, "Signature Calculations". */
const EXAMPLE: BucketKeys = {
  id: "AKIAIOSFODNN7EXAMPLE",
  secret: new Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
  session: undefined,
  region: "us-east-1",
};
const SCOPE = "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";

test("signatures are those of the examples that AWS publishes", async () => {
  const base = "https://examplebucket.s3.amazonaws.com";
  const at = "20130524T000000Z";
  const body = sha256(Buffer.from("Welcome to Amazon S3."));
  const headers = {
    "Date": "Fri, 24 May 2013 00:00:00 GMT",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
  };
  const put = { url: `${base}/test$file.text`, method: "PUT", sha256: body, headers } as const;
  expect((await signedHeaders(put, EXAMPLE, at))["authorization"]).toBe(
    `AWS4-HMAC-SHA256 ${SCOPE}, SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, ` +
      "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
  );
  const signed = "SignedHeaders=host;x-amz-content-sha256;x-amz-date";
  for (
    const [query, signature] of [
      ["?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"],
      ["?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"],
    ]
  ) {
    const got = await signedHeaders({ url: `${base}/${query}`, method: "GET" }, EXAMPLE, at);
    expect(got["authorization"]).toBe(
      `AWS4-HMAC-SHA256 ${SCOPE}, ${signed}, Signature=${signature}`,
    );
  }
});

/** Computes a signature from a request, by the specification alone. */
function signatureOf(request: IncomingMessage, secret: string): string {
  const authorization = request.headers.authorization ?? "";
  const [, date, region, names] =
    /Credential=[^/]+\/(\d{8})\/([\w-]+)\/s3\/aws4_request, SignedHeaders=([\w;-]+),/.exec(
      authorization,
    )!;
  const strict = (text: string) =>
    encodeURIComponent(text).replaceAll(
      /[!'()*]/g,
      (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`,
    );
  const path = request.url!.split("/").map((part) => strict(decodeURIComponent(part))).join("/");
  const lines = names!.split(";").map((name) =>
    `${name}:${String(request.headers[name]).trim()}\n`
  );
  const canonical = [
    request.method,
    path,
    "",
    lines.join(""),
    names,
    request.headers["x-amz-content-sha256"],
  ].join("\n");
  const scope = `${date}/${region}/s3/aws4_request`;
  const text = [
    "AWS4-HMAC-SHA256",
    request.headers["x-amz-date"],
    scope,
    sha256(Buffer.from(canonical)),
  ].join("\n");
  const hmac = (key: string | Uint8Array, of: string) =>
    createHmac("sha256", key).update(of).digest();
  const key = [date!, region!, "s3", "aws4_request"].reduce<Uint8Array>(
    hmac,
    Buffer.from(`AWS4${secret}`),
  );
  return createHmac("sha256", key).update(text).digest("hex");
}

/** A store of objects that checks signatures and bodies. */
async function storeOfObjects(id: string, secret: string) {
  const objects = new Map<string, { body: Buffer; digest: string }>();
  const server = await bench.http((request, response) => {
    const refuse = (status: number, code: string) =>
      response.writeHead(status).end(`<Error><Code>${code}</Code></Error>`);
    const authorization = request.headers.authorization ?? "";
    const chunks: Buffer[] = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      if (!authorization.includes(`Credential=${id}/`)) return refuse(403, "AccessDenied");
      if (!authorization.endsWith(`Signature=${signatureOf(request, secret)}`)) {
        return refuse(403, "SignatureDoesNotMatch");
      }
      const body = Buffer.concat(chunks);
      if (request.headers["x-amz-content-sha256"] !== sha256(body)) {
        return refuse(400, "XAmzContentSHA256Mismatch");
      }
      const name = decodeURIComponent(request.url!);
      if (request.method === "PUT") {
        objects.set(name, { body, digest: String(request.headers["x-amz-meta-sha256"]) });
        return response.end();
      }
      const found = objects.get(name);
      if (found === undefined) return refuse(404, "NoSuchKey");
      response.writeHead(200, {
        "Content-Length": found.body.length,
        "x-amz-meta-sha256": found.digest,
      });
      response.end(request.method === "HEAD" ? undefined : found.body);
    });
  });
  return { url: `s3+${server.url}/bucket/pre`, objects, seen: server.seen };
}

test("a bucket is filled with what it lacks, and read, with signatures that its server checks", async () => {
  const { url, objects, seen } = await storeOfObjects("KEYID", "secret/word");
  const dir = await bench.dir();
  const names = ["hello-1.0.tar.gz", "a+b (c)~d!*'.tar", "ü.patch", "e%20f", "0"];
  const files = names.map((name, at) => {
    const body = name === "0" ? Buffer.alloc(0) : sampleBody(70_000, at + 1);
    writeFileSync(join(dir, String(at)), body);
    return {
      name,
      path: join(dir, String(at)),
      sizeBytes: body.length,
      sha256: sha256(body),
      body,
    };
  });
  const signal = new AbortController().signal;
  const push = () => pushFiles(parsePushPlace(url), files, "x", { jobs: 3 }, signal);
  const refused = await push().catch(String);
  expect(refused).toContain("HTTP 403");
  writeFileSync(
    join(dir, "credentials"),
    "[default]\naws_access_key_id = WRONG\naws_secret_access_key = x\n\n" +
      "[mine]\naws_access_key_id=KEYID\naws_secret_access_key = secret/word\naws_session_token = tok\nregion = eu-x-1\n",
  );
  process.env["AWS_SHARED_CREDENTIALS_FILE"] = join(dir, "credentials");
  process.env["AWS_PROFILE"] = "mine";
  expect(await push()).toEqual({ url, files: 5, pushed: 5, pushedBytes: 280_000 });
  expect(await push()).toEqual({ url, files: 5, pushed: 0, pushedBytes: 0 });
  expect([...objects.keys()].toSorted()).toEqual(
    names.map((name) => `/bucket/pre/${name}`).toSorted(),
  );
  objects.get("/bucket/pre/e%20f")!.digest = "another";
  expect(await push()).toMatchObject({ pushed: 1 });

  seen.length = 0;
  const report = await get(await bench.dir(), [], { mirrors: mirrorsAt(url) }, files[0]!.body);
  expect(report.failures).toEqual([]);
  expect(seen).toEqual(["GET /bucket/pre/hello-1.0.tar.gz"]);
  process.env["AWS_PROFILE"] = "none";
  expect(await push().catch(String)).toContain('Cannot find the keys of profile "none"');
});

test("keys come from the environment first, and none are needed", () => {
  expect(findBucketKeys({ HOME: "/nonexistent" })).toBeUndefined();
  const keys = findBucketKeys({
    HOME: "/nonexistent",
    AWS_ACCESS_KEY_ID: "a",
    AWS_SECRET_ACCESS_KEY: "secretword",
    AWS_SESSION_TOKEN: "t",
    AWS_REGION: "r",
  })!;
  expect([keys.id, keys.secret.reveal(), keys.session?.reveal(), keys.region]).toEqual([
    "a",
    "secretword",
    "t",
    "r",
  ]);
  expect(JSON.stringify(keys)).not.toContain("secretword");
});

test("a bucket has a URL without secrets, and plain http is for this machine", () => {
  expect(parseMirror("s3+https://h.example/b/p/")).toEqual({
    kind: "s3",
    url: "s3+https://h.example/b/p",
  });
  expect(parseMirror("s3+http://127.0.0.1:9000/b")).toEqual({
    kind: "s3",
    url: "s3+http://127.0.0.1:9000/b",
  });
  for (
    const text of [
      "s3://b/p",
      "s3+ftp://h/b",
      "s3+https://me:secretword@h/b",
      "s3+https://h/b?x=secretword",
      "s3+https://h/a/../b",
      "s3+http://h.example/b",
      "s3+https://",
    ]
  ) {
    const fault = faultOf(() => parseMirror(text));
    expect(fault).toStartWith("Cannot use");
    expect(fault).not.toContain("secretword");
  }
});
