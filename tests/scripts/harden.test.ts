// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { TempDirs } from "../support/files.ts";
import { run } from "../support/run.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const SCRIPT = fileURLToPath(new URL("../../scripts/harden.ts", import.meta.url).href);

test("harden.ts leaves no name of a variable in Bun's runtime, and its size", async () => {
  const copy = join(temp.make(), "runtime");
  const ran = await run([process.execPath, SCRIPT, process.execPath, copy]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  expect(statSync(copy).size).toBe(statSync(process.execPath).size);
  expect(statSync(copy).mode & 0o777).toBe(0o755);
  const text = readFileSync(copy, "latin1");
  expect(text.match(/\0BUN_[A-Z][A-Za-z0-9_]+\0/g)).toBeNull();
  expect(text.match(/\0JSC_[a-z][A-Za-z0-9]+\0/g)).toBeNull();
  const left = (names: readonly string[]) => names.filter((name) => text.includes(name));
  const closed = ["BUN_OPTIONS", "BUN_BE_BUN", "process.env.NODE_TLS_REJECT_UNAUTHORIZED"];
  expect(left(closed)).toEqual([]);
  const open = ["HTTPS_PROXY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"];
  expect(left(open)).toEqual(open);
});

test("harden.ts makes no copy of a runtime in which a name is missing", async () => {
  const dir = temp.make();
  const runtime = readFileSync(process.execPath);
  for (const name of ["BUN_BE_BUN", "JSC_functionOverrides"]) {
    const other = Buffer.from(runtime);
    for (let at = other.indexOf(name); at >= 0; at = other.indexOf(name, at)) other[at] = 0x78;
    writeFileSync(join(dir, "other"), other);
    const ran = await run([process.execPath, SCRIPT, join(dir, "other"), join(dir, "copy")]);
    expect(ran.stderr).toContain(`there is no ${name} in this runtime`);
    expect(ran.code).toBe(1);
    expect(existsSync(join(dir, "copy"))).toBe(false);
  }
});
