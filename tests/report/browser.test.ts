// SPDX-License-Identifier: MIT
/** The report in a real browser. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test as always } from "bun:test";
import { realpathSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { bootSector } from "../job/boot_sector.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { BROWSER, Browser, type Look, type Page } from "../support/browser.ts";
import { TempDirs } from "../support/files.ts";
import { seedstrap, testWith } from "../support/run.ts";
import { type MiniTree, miniTree, writeMiniTree } from "../support/tree.ts";
import { OPEN_ALL, OVERFLOWING, SKIPPED_HEADINGS, TOO_FAINT } from "./checks.ts";

setDefaultTimeout(120_000);
const temp = new TempDirs();
const hasQemu = Bun.which("qemu-system-x86_64") !== null;
const test = testWith(BROWSER);
let browser: Browser | undefined;
const urls = new Map<string, string>();

const LOOKS: readonly Look[] = [360, 1600].flatMap((width) => [
  { width, scheme: "light" as const },
  { width, scheme: "dark" as const },
]);
const [NARROW, , WIDE] = LOOKS as [Look, Look, Look, Look];

const BACKGROUND = "getComputedStyle(document.body).backgroundColor";

/** Text that would do something in a page, or in a terminal. */
const HOSTILE = `"><img src=http://127.0.0.1:9/x onerror=alert(1)> </script><script>alert(2)`;
const CONSOLE = "\r\n +> pkg=alpha-1.0\r\n +> kaem --file pass2.kaem\r\n" +
  `${HOSTILE}\r\n\x1b[31mcc: ${"x".repeat(60)}\r\nSubprocess error 1\r\nABORTING HARD\r\n`;

beforeAll(async () => {
  if (Bun.which(BROWSER) === null) return;
  const dir = realpathSync(temp.make());
  const carried = ["--external-sources"];
  await built(dir, "small", miniTree(), carried);
  await built(dir, "directory", miniTree({ files: SEED }), carried, "--chroot");
  await built(dir, "large", largeTree(), carried);
  const files = { "builder-hex0/builder-hex0-x86-stage1.hex0": bootSector(CONSOLE, "reset") };
  const failed = await built(dir, `<b title='x'>failed`, miniTree({ files }), carried);
  if (hasQemu) {
    const ran = await seedstrap(["run", failed, "--accel", "tcg"]);
    expect(ran.code).toBe(12);
  }
  await reported(dir, "failed", failed);
  // No page may ask for anything; what the browser itself asks for goes nowhere.
  browser = await Browser.start("http://127.0.0.1:9");
});
afterAll(async () => {
  await browser?.close();
  temp.release();
});

const SEED = { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "seed" };

async function built(
  dir: string,
  name: string,
  tree: MiniTree,
  options: readonly string[],
  mode = "--qemu",
): Promise<string> {
  const place = join(dir, name);
  const { tree: checkout, mirror } = writeMiniTree(place, tree);
  const target = join(place, "target");
  const rest = ["--distfiles", join(place, "store"), "--tree", checkout, "-t", target];
  const size = mode === "--qemu" ? ["-qs", "64M"] : [];
  const ran = await seedstrap([
    "build",
    mode,
    ...size,
    ...options,
    "-m",
    `file://${mirror}`,
    ...rest,
  ]);
  expect(ran).toMatchObject({ code: 0 });
  await reported(dir, name, target);
  return target;
}

async function reported(dir: string, name: string, target: string): Promise<void> {
  const page = join(dir, `${name}.html`);
  const ran = await seedstrap(["report", target, "-o", page]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  urls.set(name, pathToFileURL(page).href);
}

/** A tree of the size of live-bootstrap: 170 steps with 310 distfiles and 1,400 files. */
function largeTree(): MiniTree {
  const small = miniTree({ ramdiskKib: 64 * 1024, kexecKib: 64 * 1024 });
  const distfiles: Record<string, Uint8Array> = { ...small.distfiles };
  const files: Record<string, string | Uint8Array> = { ...small.files };
  const names: string[] = [];
  for (let step = 0; step < 170; step++) {
    const name = `package-${step}-1.${step % 7}.0`;
    names.push(name);
    const sources = [0, 1].slice(0, step < 140 ? 2 : 1).map((part) => {
      const file = `${name}-${part}.tar.xz`;
      const body = sampleBody(Math.ceil(200_000 / (1 + step * step / 20)) + part, step * 2 + part);
      distfiles[file] = body;
      return `f http://127.0.0.1:9/${file} ${sha256(body)}\n`;
    });
    files[`steps/${name}/sources`] = sources.join("");
    files[`steps/${name}/pass1.kaem`] = `exec ${name}\n`;
    for (let patch = 0; patch < 6; patch++) {
      files[`steps/${name}/patches/000${patch}-a-patch-with-a-rather-long-name.patch`] = sampleBody(
        50 * (step % 20) + patch,
        step + patch,
      );
    }
  }
  const manifest = String(small.files["steps/manifest"]);
  const more = names.map((name) => `build: ${name}\n`).join("");
  files["steps/manifest"] = manifest.replace("build: linux-4.0", `${more}build: linux-4.0`);
  return { files, distfiles };
}

async function open(name: string, look: Look, hash = ""): Promise<Page> {
  return await browser!.open(urls.get(name)! + hash, look);
}

for (const name of ["small", "directory", "large", "failed"]) {
  describe(`the report of a ${name} target`, () => {
    test("fits the window, is legible, and asks for nothing, in both widths and themes", async () => {
      for (const look of LOOKS) {
        const page = await open(name, look);
        expect(await page.evaluate(OVERFLOWING)).toEqual([]);
        await page.evaluate(OPEN_ALL);
        expect(await page.evaluate(OVERFLOWING)).toEqual([]);
        const { count, faint } = await page.evaluate<{ count: number; faint: string[] }>(TOO_FAINT);
        expect(count).toBeGreaterThan(100);
        expect(faint).toEqual([]);
        expect(page.requests).toEqual([urls.get(name)!]);
        expect(page.complaints).toEqual([]);
      }
    });

    test("has headings in order, and a name for whatever can be used", async () => {
      const page = await open(name, WIDE);
      expect(await page.evaluate(SKIPPED_HEADINGS)).toEqual([]);
      await page.evaluate(OPEN_ALL);
      const nodes = await page.accessible();
      const roles = ["link", "searchbox", "table", "region", "navigation", "DisclosureTriangle"];
      for (const role of roles.slice(0, 5)) expect(nodes.map(({ role }) => role)).toContain(role);
      const nameless = nodes.filter(({ role, name }) => roles.includes(role) && name === "");
      expect(nameless).toEqual([]);
      // On a narrow screen rows are drawn as blocks, and are rows all the same.
      const partsOfTables = (some: typeof nodes) =>
        ["row", "cell", "rowheader", "columnheader"].map((role) =>
          some.filter((node) => node.role === role).length
        );
      await page.look(NARROW);
      expect(partsOfTables(await page.accessible())).toEqual(partsOfTables(nodes));
    });

    test("is printed without what belongs to a screen, and nothing is cut", async () => {
      // Paper is white, whatever the theme of the screen is.
      const page = await open(name, { width: 700, scheme: "dark", media: "print" });
      expect(await page.evaluate(OVERFLOWING)).toEqual([]);
      expect(await page.evaluate(TOO_FAINT)).toMatchObject({ faint: [] });
      expect(await page.evaluate(BACKGROUND)).toBe("rgb(255, 255, 255)");
      const seen = (selector: string) =>
        page.evaluate(`document.querySelector(${JSON.stringify(selector)}).checkVisibility()`);
      expect(await seen("nav.top")).toBe(false);
      expect(await seen("table.origins")).toBe(true);
      const pdf = new TextDecoder("latin1").decode(await page.pdf());
      expect(pdf).toStartWith("%PDF-");
      expect(page.complaints).toEqual([]);
    });
  });
}

test("the two themes have different colours", async () => {
  const page = await open("small", WIDE);
  const light = await page.evaluate(BACKGROUND);
  await page.look({ ...WIDE, scheme: "dark" });
  expect(await page.evaluate(BACKGROUND)).not.toBe(light);
});

/** The view of the map that is open, by its path, and the area that has the focus. */
const MAP = `(() => {
  const views = [...document.querySelectorAll(".view")].filter((view) => view.checkVisibility());
  const focused = document.activeElement;
  return {
    views: views.map((view) => view.querySelector(".path strong").textContent),
    about: document.querySelector(".about").textContent,
    focused: focused.matches(".area, .frame > .name") ? focused.title : focused.tagName,
  };
})()`;

interface MapState {
  readonly views: readonly string[];
  readonly about: string;
  readonly focused: string;
}

test("the map is zoomed by keys, says what has the focus, and goes back", async () => {
  const page = await open("large", WIDE);
  const state = () => page.evaluate<MapState>(MAP);
  expect(await state()).toMatchObject({ views: ["all images"], focused: "BODY" });
  await page.evaluate(`document.querySelector(".view .frame > .name").focus()`);
  const first = await state();
  expect(first.focused).toStartWith("payload.img: ");
  expect(first.about).toBe(first.focused);
  // Into the image, to another step, into that, to another file.
  await page.press("Enter");
  const image = await state();
  expect(image.views).toEqual(["payload.img"]);
  expect(image.focused).toStartWith("package-0-1.0.0: ");
  await page.press("ArrowRight");
  const step = await state();
  expect(step.focused).toMatch(/^package-\d+-1\.\d\.0: /);
  expect(step.focused).not.toBe(image.focused);
  await page.press("Enter");
  const [name] = step.focused.split(":");
  expect((await state()).views).toEqual([name!]);
  const files = new Set<string>();
  for (const key of ["Home", "End", "ArrowLeft", "ArrowUp"]) {
    await page.press(key);
    files.add((await state()).focused);
  }
  expect(files.size).toBeGreaterThan(1);
  for (const file of files) expect(file).toContain(`${name}-`);
  // Back, to where it came from.
  await page.press("Escape");
  expect(await state()).toMatchObject({ views: ["payload.img"], focused: step.focused });
  await page.press("Escape");
  expect(await state()).toMatchObject({ views: ["all images"], focused: first.focused });
  // One area of a view can be reached by Tab.
  const reachable = await page.evaluate(
    `[...document.querySelectorAll("#map :is(.area, .name)")].filter(({ tabIndex }) => tabIndex === 0).length`,
  );
  expect(reachable).toBe(1);
  expect(page.complaints).toEqual([]);
});

test("a file on the map leads to its row in a table that was closed", async () => {
  const page = await open("large", NARROW, "#files-1-0");
  await page.evaluate(`document.querySelector(".view:target a.area").click()`);
  await Bun.sleep(100);
  const row = await page.evaluate<{ isSeen: boolean; text: string; top: number }>(`(() => {
    const row = document.querySelector("tr:target");
    return {
      isSeen: row.checkVisibility(),
      text: row.textContent,
      top: row.getBoundingClientRect().top,
    };
  })()`);
  expect(row.isSeen).toBe(true);
  expect(row.text).toMatch(/^package-0-1\.0\.0-\d\.tar\.xz[0-9a-f]{64}/);
  expect(row.top).toBeWithin(30, 900);
});

test("without a script the links zoom", async () => {
  const page = await browser!.open(urls.get("large")!, WIDE, { runsScripts: false });
  const state = () => page.evaluate<MapState>(MAP);
  const follow = (selector: string) =>
    page.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
  expect((await state()).views).toEqual(["all images"]);
  await follow(`.frame > .name[title^="payload.img"]`);
  expect((await state()).views).toEqual(["payload.img"]);
  await follow(".view:target a.area");
  expect((await state()).views).toEqual(["package-0-1.0.0"]);
  await follow(".view:target .up");
  expect((await state()).views).toEqual(["payload.img"]);
  expect(await page.evaluate(`document.querySelector(".finder").checkVisibility()`)).toBe(false);
});

test("a text leaves the rows of a table that have it, and their groups", async () => {
  const page = await open("large", WIDE);
  await page.evaluate(OPEN_ALL);
  const find = (text: string) =>
    page.evaluate<{ rows: string[]; found: string }>(`(() => {
      const input = document.getElementById("find-files-1-rows");
      input.value = ${JSON.stringify(text)};
      input.dispatchEvent(new Event("input", { bubbles: true }));
      const rows = [...document.querySelectorAll("#files-1-rows tbody tr")];
      return {
        rows: rows.filter((row) => row.checkVisibility()).map(({ cells }) => cells[0].textContent),
        found: input.closest(".finder").querySelector("output").textContent,
      };
    })()`);
  expect(await find("package-169-1.1.0-0.TAR")).toEqual({
    rows: [expect.stringMatching(/^package-169-1\.1\.0 1 file/), "package-169-1.1.0-0.tar.xz"],
    found: "1 found",
  });
  expect((await find("nowhere")).rows).toEqual([]);
  expect((await find("")).rows.length).toBeGreaterThan(400);
});

const withRun = hasQemu ? test : always.skip;
if (!hasQemu) console.log("skipped: the report of a run: qemu-system-x86_64 is not installed here");

withRun("a failed run is explained, and what its guest printed is text", async () => {
  const page = await open("failed", WIDE);
  const text = await page.evaluate<string>("document.body.innerText");
  expect(text).toContain("It failed in alpha-1.0 pass 2: Subprocess error 1.");
  expect(text).toContain(HOSTILE);
  expect(text).toContain("ABORTING HARD");
  const steps = await page.evaluate(
    `[...document.querySelectorAll(".timeline tbody tr")].map(({ innerText }) => innerText)`,
  );
  expect(steps).toEqual(
    expect.arrayContaining([expect.stringMatching(/^alpha-1\.0 pass 2 failed/)]),
  );
  expect(await page.evaluate(`document.images.length + document.scripts.length`)).toBe(1);
});
