// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import {
  copyFileSync,
  cpSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beginRun } from "../../src/record/run.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { seedstrap } from "../support/run.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const dir = temp.make();
const target = join(dir, "target");
const args = setUp(dir);
const built = buildIn(dir, args);

test("report writes one page, replaces it, and leaves nothing else", async () => {
  expect((await built).code).toBe(0);
  const cwd = temp.make();
  const ran = await seedstrap(["report", target], { cwd });
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  const path = join(cwd, "report.html");
  expect(ran.stdout.split("\n")[0]).toEndWith("/report.html");
  const page = readFileSync(path, "utf8");
  expect(page).toContain("never run");
  expect((await seedstrap(["report", target], { cwd })).code).toBe(0);
  expect(readFileSync(path, "utf8")).toBe(page);
  expect(readdirSync(cwd)).toEqual(["report.html"]);
  // A run is another thing to report.
  beginRun(target).finish({ verdict: "failed", why: "a <b>fault</b>", lines: ["the \x1b[1mend"] });
  writeFiles(target, { ".seedstrap/runs/2.json": "{", ".seedstrap/runs/1.events": "no events" });
  const json = await seedstrap(["report", target, "--json"], { cwd });
  const after = readFileSync(path, "utf8");
  expect(JSON.parse(json.stdout)).toMatchObject({ sizeBytes: Buffer.byteLength(after) });
  expect(after).toContain("It failed: <strong>a &lt;b&gt;fault&lt;/b&gt;</strong>");
  expect(after).toContain("the \\x1b[1mend");
});

test("report tells nothing of a run whose files are fifos", async () => {
  await built;
  const copy = join(temp.make(), "copy");
  cpSync(target, copy, { recursive: true });
  for (const name of ["3.json", "4.events"]) {
    Bun.spawnSync(["mkfifo", join(copy, ".seedstrap/runs", name)]);
  }
  writeFiles(copy, { ".seedstrap/runs/4.json": JSON.stringify(ENDED) });
  const path = join(copy, "../report.html");
  expect((await seedstrap(["report", copy, "-o", path])).code).toBe(0);
  const page = readFileSync(path, "utf8");
  expect(page).toContain("Run 4");
  expect(page).not.toContain("Run 3");
  expect(page).toContain("When its steps began is not recorded.");
});

const ENDED = {
  format: "seedstrap-run/1",
  verdict: "done",
  why: "every step was built",
  lines: [],
  began: "2026-11-26T19:40:00.000Z",
  ended: "2026-11-27T08:41:07.000Z",
};

test("report takes a bundle with images, in parts, and a record alone", async () => {
  await built;
  const cwd = temp.make();
  const of = async (place: string) => {
    const ran = await seedstrap(["report", place, "-o", join(cwd, "of.html")]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    return readFileSync(join(cwd, "of.html"), "utf8");
  };
  const bundle = ["bundle", "create", ...args, "-o", join(cwd, "lb.tar")];
  const images = ["--images", target, "--split", "2M"];
  expect((await seedstrap([...bundle, ...images])).code).toBe(0);
  copyFileSync(join(target, "seedstrap.json"), join(cwd, "lb.tar.json"));
  const [record, parts] = [await of(join(cwd, "lb.tar.json")), await of(join(cwd, "lb.tar.001"))];
  expect(record).toContain("<title>lb.tar.json: seedstrap report</title>");
  expect(parts).toBe(record.replaceAll("lb.tar.json", "lb.tar"));
  for (const name of ["lb.tar.001", "lb.tar.002"]) rmSync(join(cwd, name));
  expect((await seedstrap(["report", join(cwd, "lb.tar.003"), "-o", join(cwd, "x")])).code).toBe(7);
});

test("report says of a bundle without images that it has none", async () => {
  await built;
  const path = join(temp.make(), "lb.tar");
  expect((await seedstrap(["bundle", "create", ...args, "-o", path])).code).toBe(0);
  const ran = await seedstrap(["report", path, "-o", `${path}.html`]);
  expect(ran).toMatchObject({ code: 7, stdout: "" });
  expect(ran.stderr).toContain("lb.tar: it is a bundle without images");
});

test("report replaces no file that is not a report, and follows no link", async () => {
  await built;
  const cwd = temp.make();
  const path = join(cwd, "page.html");
  writeFileSync(path, "<!doctype html>\nmine\n");
  const ran = await seedstrap(["report", target, "-o", path]);
  expect(ran).toMatchObject({ code: 7, stdout: "" });
  expect(ran.stderr).toContain("page.html: it exists, and is not a report");
  expect(readFileSync(path, "utf8")).toBe("<!doctype html>\nmine\n");
  const link = join(cwd, "link.html");
  expect((await seedstrap(["report", target, "-o", join(cwd, "real.html")])).code).toBe(0);
  symlinkSync("real.html", link);
  expect((await seedstrap(["report", target, "-o", link])).code).toBe(7);
  expect(readlinkSync(link)).toBe("real.html");
  expect(readdirSync(cwd).sort()).toEqual(["link.html", "page.html", "real.html"]);
});

test("report refuses what was not built, and a place that is not there", async () => {
  await built;
  const cwd = temp.make();
  const none = await seedstrap(["report", cwd], { cwd });
  expect(none).toMatchObject({ code: 7, stdout: "" });
  expect(none.stderr).toContain("Cannot find a built target");
  const nowhere = await seedstrap(["report", target, "-o", join(cwd, "no/where.html")]);
  expect(nowhere).toMatchObject({ code: 7, stdout: "" });
  expect(readdirSync(cwd)).toEqual([]);
});
