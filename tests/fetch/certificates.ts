// SPDX-License-Identifier: MIT
/**
 * Certificates for tests, made by openssl: of an authority, and of servers that are right and wrong.
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must } from "../support/loop.ts";

const LOOPBACK = "DNS:localhost,IP:127.0.0.1,IP:::1";

/** Paths of a certificate and of its key. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** Makes an authority in a directory. */
export class Authority {
  readonly #dir: string;
  /** Path of its certificate. */
  readonly cert: string;

  constructor(dir: string) {
    this.#dir = dir;
    this.cert = join(dir, "ca.pem");
    this.#selfSign("ca", "basicConstraints=critical,CA:TRUE");
    writeFileSync(join(dir, "index.txt"), "");
    writeFileSync(join(dir, "serial"), "01\n");
    writeFileSync(
      join(dir, "ca.cnf"),
      `[ca]\ndefault_ca=own\n[own]\ndatabase=${dir}/index.txt\nserial=${dir}/serial\n` +
        `new_certs_dir=${dir}\ndefault_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n`,
    );
  }

  /** Signs a certificate for hosts, by default loopback. */
  issue(name: string, hosts = LOOPBACK, from = "20200101000000Z", until = "20991231000000Z"): Pair {
    const at = (suffix: string) => join(this.#dir, `${name}${suffix}`);
    writeFileSync(at(".ext"), `subjectAltName=${hosts}\n`);
    const key = ["-newkey", "rsa:2048", "-nodes", "-keyout", at(".key")];
    must("openssl", "req", ...key, "-subj", `/CN=${name}`, "-out", at(".csr"));
    const signer = ["-cert", this.cert, "-keyfile", join(this.#dir, "ca.key")];
    const times = ["-startdate", from, "-enddate", until];
    const files = ["-in", at(".csr"), "-extfile", at(".ext"), "-out", at(".pem"), "-notext"];
    const config = ["-batch", "-config", join(this.#dir, "ca.cnf")];
    must("openssl", "ca", ...config, ...signer, ...times, ...files);
    return { cert: at(".pem"), key: at(".key") };
  }

  selfSigned(name: string): Pair {
    return this.#selfSign(name, `subjectAltName=${LOOPBACK}`);
  }

  #selfSign(name: string, extension: string): Pair {
    const [cert, key] = [join(this.#dir, `${name}.pem`), join(this.#dir, `${name}.key`)];
    const made = ["-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "30"];
    must("openssl", "req", "-x509", ...made, "-subj", `/CN=${name}`, "-addext", extension);
    return { cert, key };
  }
}

/** Returns the text of a pair, as servers take it. */
export function pemsOf({ cert, key }: Pair): { cert: string; key: string } {
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
}
