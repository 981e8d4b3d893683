// SPDX-License-Identifier: MIT
/**
 * The login to S3-compatible stores: signatures of version 4, with the keys of the environment or of
 * `~/.aws/credentials`.
 *
 * @module
 */
import { AwsV4Signer } from "aws4fetch";
import { homedir } from "node:os";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { readWholeText } from "../read.ts";
import { statIfThere } from "../runtime/stat.ts";
import type { Method } from "./http.ts";
import { Secret } from "./secret.ts";

const MAX_CREDENTIALS_BYTES = 1024 * 1024;

type Environment = Readonly<Record<string, string | undefined>>;

/** Keys of an account. */
export interface BucketKeys {
  readonly id: string;
  readonly secret: Secret;
  readonly session: Secret | undefined;
  /** undefined where the host is to tell it. */
  readonly region: string | undefined;
}

/**
 * Finds the keys of the user.
 *
 * @returns undefined if there are none: buckets are asked without a signature.
 * @throws {UserError} "usage" for a file or a profile that is named and cannot be used.
 */
export function findBucketKeys(env: Environment): BucketKeys | undefined {
  const region = env["AWS_REGION"] || env["AWS_DEFAULT_REGION"] || undefined;
  const [id, secret] = [env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]];
  if (id && secret) {
    const session = env["AWS_SESSION_TOKEN"];
    return {
      id,
      secret: new Secret(secret),
      session: session ? new Secret(session) : undefined,
      region,
    };
  }
  const named = env["AWS_SHARED_CREDENTIALS_FILE"] || undefined;
  const path = named ?? join(env["HOME"] || homedir(), ".aws", "credentials");
  const profile = env["AWS_PROFILE"] || undefined;
  const isThere = statIfThere(path, { kind: "usage" }) !== undefined;
  const text = isThere || named !== undefined
    ? readWholeText(path, { limitBytes: MAX_CREDENTIALS_BYTES, kind: "usage" })
    : "";
  const fields = parseProfiles(text).get(profile ?? "default");
  const keyId = fields?.get("aws_access_key_id");
  const key = fields?.get("aws_secret_access_key");
  if (keyId && key) {
    const session = fields?.get("aws_session_token");
    return {
      id: keyId,
      secret: new Secret(key),
      session: session ? new Secret(session) : undefined,
      region: region ?? (fields?.get("region") || undefined),
    };
  }
  if (profile === undefined) return undefined;
  throw new UserError("usage", `Cannot find the keys of profile ${JSON.stringify(profile)}`, {
    where: path,
    hint: "Check AWS_PROFILE: the file has no aws_access_key_id and aws_secret_access_key in it",
  });
}

/** Parses the text of a credentials file: fields by profile. What is not known is passed over. */
export function parseProfiles(text: string): Map<string, Map<string, string>> {
  const found = new Map<string, Map<string, string>>();
  let fields: Map<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    const section = /^\s*\[\s*(?:profile\s+)?([^\]]*?)\s*\]/.exec(line);
    if (section !== null) {
      fields = found.get(section[1]!) ?? new Map();
      found.set(section[1]!, fields);
      continue;
    }
    const pair = /^([A-Za-z]\w*)\s*=\s*(.*?)\s*$/.exec(line);
    if (pair !== null) fields?.set(pair[1]!.toLowerCase(), pair[2]!);
  }
  return found;
}

/** A request to sign. */
export interface Signed {
  readonly url: string;
  readonly method: Method;
  /** Of the body, in lower-case hex; that of no bytes if absent. */
  readonly sha256?: string | undefined;
  /** More headers, which are signed too. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** SHA-256 of no bytes. */
const NO_BYTES = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/**
 * Returns the headers of a request: those that are given, and with keys those of its signature.
 *
 * @param datetime `YYYYMMDDTHHMMSSZ`; now if absent.
 */
export async function signedHeaders(
  { url, method, sha256 = NO_BYTES, headers = {} }: Signed,
  keys: BucketKeys | undefined,
  datetime?: string,
): Promise<Record<string, string>> {
  if (keys === undefined) return { ...headers };
  const signer = new AwsV4Signer({
    url,
    method,
    headers: { ...headers, "X-Amz-Content-Sha256": sha256 },
    accessKeyId: keys.id,
    secretAccessKey: keys.secret.reveal(),
    service: "s3",
    ...(keys.session && { sessionToken: keys.session.reveal() }),
    ...(keys.region !== undefined && { region: keys.region }),
    ...(datetime !== undefined && { datetime }),
  });
  const signed = await signer.sign();
  return Object.fromEntries(signed.headers);
}
