// SPDX-License-Identifier: MIT
/**
 * The script that restores the rest, sourced as the generated scripts do it, with a stand-in for
 * payload-import.
 *
 * @module
 */
import { afterEach, expect } from "bun:test";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TempDirs } from "../support/files.ts";
import { run, testWith } from "../support/run.ts";

const SCRIPT = fileURLToPath(
  new URL("../../steps/improve/import_payload_rest.sh", import.meta.url).href,
);
const temp = new TempDirs();
afterEach(() => temp.release());

/** Sources the script, with a payload-import that exits with these codes one after the other. */
async function source(codes: readonly number[]) {
  const dir = temp.make();
  const calls = join(dir, "calls");
  const stub = [
    "#!/bin/sh",
    `echo "$@" >> ${calls}`,
    `n=$(wc -l < ${calls})`,
    `set -- ${codes.join(" ")}`,
    '[ "$n" -gt $# ] || shift $((n - 1))',
    "exit $1",
  ].join("\n");
  for (const [name, text] of [["payload-import", stub], ["sleep", "#!/bin/sh\n"]] as const) {
    writeFileSync(join(dir, name), text);
    chmodSync(join(dir, name), 0o755);
  }
  const distfiles = join(dir, "new/distfiles");
  const ran = await run(["bash", "-c", `set -e; . ${SCRIPT}; echo "next $import_code"`], {
    env: { PATH: `${dir}:${process.env["PATH"]}`, DISTFILES: distfiles },
  });
  return { ...ran, distfiles, calls: readFileSync(calls, "utf8").trimEnd().split("\n") };
}

testWith("bash")("restores by the list into the directory of the distfiles", async () => {
  const { code, stdout, calls, distfiles } = await source([0]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: "next \n" });
  expect(calls).toEqual([`--list /steps/payload-import-1.0/rest.list ${distfiles}`]);
  expect(existsSync(distfiles)).toBeTrue();
});

testWith("bash")("waits for a disk that Linux finds late", async () => {
  const { code, calls } = await source([1, 1, 0]);
  expect(code).toBe(0);
  expect(calls).toHaveLength(3);
});

testWith("bash")(
  "ends the run where no disk comes, and at once where it is of no use",
  async () => {
    expect(await source([1])).toMatchObject({ code: 1, stdout: "", calls: { length: 61 } });
    expect(await source([3, 0])).toMatchObject({ code: 3, stdout: "", calls: { length: 1 } });
  },
);
