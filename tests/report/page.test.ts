// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { createHash } from "node:crypto";
import type { RecordedRun } from "../../src/record/run.ts";
import type { TargetRecord } from "../../src/record/types.ts";
import { type ReportInput, reportPage } from "../../src/report/page.ts";
import { record } from "../record/records.ts";

const text = fc.string({ unit: "binary" });

const run: fc.Arbitrary<RecordedRun> = fc.record({
  format: fc.constant("seedstrap-run/1" as const),
  verdict: fc.constantFrom("done" as const, "failed" as const, "running" as const),
  why: text,
  lastStep: text,
  lines: fc.array(text),
  began: fc.constant("2026-11-26T19:40:00.000Z"),
  ended: fc.constant("2026-11-26T20:41:07.000Z"),
});

const cause = fc.record({ name: text, text, tries: fc.array(text) });

const input: fc.Arbitrary<ReportInput> = fc.record({
  name: text,
  record,
  runs: fc.array(fc.tuple(run, fc.option(cause)), { maxLength: 3 }).map((runs) =>
    runs.map(([run, cause], index) => ({
      number: index + 1,
      run: { ...run, ...(cause !== null && { cause }) },
      history: {
        header: {
          format: "seedstrap-events/1" as const,
          began: run.began,
          by: "tcg" as const,
          machine: { cpu: run.why, cores: 2, memoryMib: 4096 },
        },
        events: [
          { ms: 10, kind: "step" as const, name: run.why, pass: 1 },
          { ms: 20, kind: "fault" as const, text: run.why },
        ],
      },
    }))
  ),
});

/** The content of the only element of a name. */
function only(page: string, name: string): string {
  const parts = page.split(`<${name}>`);
  expect(parts.length).toBe(2);
  return parts[1]!.split(`</${name}>`)[0]!;
}

function tags(page: string): string[] {
  return page.replaceAll(/<(style|script)>[^]*?<\/\1>/g, "").match(/<[^>]*>/g)!;
}

test("a page has only the tags and attributes of its templates, whatever the texts are", () => {
  const known =
    /^<(?:!doctype html|!-- seedstrap report --|\/?[a-z0-9]+(?: (?:open|hidden|[a-z-]+="[^"<>]*"))* ?)>$/;
  const attributes = new Set<string>();
  fc.assert(
    fc.property(input, (input) => {
      for (const tag of tags(reportPage(input))) {
        expect(tag).toMatch(known);
        for (const [, name] of tag.matchAll(/ ([a-z-]+)="/g)) attributes.add(name!);
      }
    }),
    { numRuns: 50 },
  );
  for (const bad of ["style", "src", "srcdoc", "action", "background"]) {
    expect(attributes).not.toContain(bad);
  }
  expect([...attributes].filter((name) => name.startsWith("on"))).toEqual([]);
});

test("a page lets its own style sheet and script run, by their digests, and nothing else", () => {
  const [sample] = fc.sample(input, { numRuns: 1, seed: 5 });
  const page = reportPage(sample!);
  const policy = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page)![1]!;
  const hash = (name: string) =>
    `'sha256-${createHash("sha256").update(only(page, name)).digest("base64")}'`;
  expect(policy.split("; ")).toEqual([
    "default-src 'none'",
    `style-src ${hash("style")}`,
    `script-src ${hash("script")}`,
    "base-uri 'none'",
    "form-action 'none'",
  ]);
});

test("ids are unique, and every link of a page leads into it", () => {
  fc.assert(
    fc.property(input, (input) => {
      const all = tags(reportPage(input)).join("\n");
      const ids = [...all.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id!);
      expect(new Set(ids).size).toBe(ids.length);
      const there = new Set(ids.map((id) => `#${id}`));
      for (const [, href] of all.matchAll(/ href="([^"]*)"/g)) expect(there).toContain(href!);
      for (const [, labels] of all.matchAll(/ (?:aria-labelledby|data-table)="([^"]*)"/g)) {
        for (const label of labels!.split(" ")) expect(there).toContain(`#${label}`);
      }
    }),
    { numRuns: 50 },
  );
});

test("the same target gives the same page, which has every digest", () => {
  fc.assert(
    fc.property(input, (input) => {
      const page = reportPage(input);
      expect(reportPage(structuredClone(input))).toBe(page);
      const { images, files, distfiles, checkout } = input.record;
      for (
        const sha256 of [
          checkout.digest,
          ...images.flatMap((image) => [image.piecesSha256 ?? image.blocksSha256 ?? image.sha256!]),
          ...[...images.flatMap((image) => image.files), ...files].map(({ sha256 }) => sha256),
          ...distfiles.map(({ sha256 }) => sha256),
        ]
      ) expect(page).toContain(sha256);
    }),
    { numRuns: 30 },
  );
});

test("a run that failed has its likely cause, and what to try", () => {
  const [sample] = fc.sample(input, { numRuns: 1, seed: 9 });
  const run: RecordedRun = {
    format: "seedstrap-run/1",
    verdict: "failed",
    why: "Subprocess error 1",
    lastStep: "mes-0.27.1 pass 1",
    lines: ["bad header"],
    began: "2026-11-26T19:40:00.000Z",
  };
  const cause = {
    name: "damaged",
    text: "A distfile is damaged.",
    tries: ["Build it again", "Try a <mirror>"],
  };
  const runs = [{ number: 4, run: { ...run, cause }, history: undefined }];
  const page = reportPage({ ...sample!, runs });
  expect(page).toContain("It failed in mes-0.27.1 pass 1: <strong>Subprocess error 1</strong>.");
  expect(page).toContain("<h4>The likely cause</h4><p>A distfile is damaged.</p>");
  expect(page).toContain("<li>Build it again</li><li>Try a &lt;mirror&gt;</li>");
});

test("a record with 200,000 files in as many groups gives a page of a few MiB", () => {
  const [sample] = fc.sample(input, { numRuns: 1, seed: 7 });
  const files = Array.from({ length: 200_000 }, (_, index) => ({
    path: `./d${index}/${"x".repeat(80)}`,
    origin: "tree" as const,
    size: index,
    sha256: "0".repeat(64),
  }));
  const image = {
    name: "init.img",
    role: "boot" as const,
    sizeBytes: 1e12,
    dataBytes: 1e12,
    sha256: "1".repeat(64),
    files,
  };
  const many: TargetRecord = { ...sample!.record, images: [image], files: [] };
  const page = reportPage({ ...sample!, record: many });
  expect(page.length).toBeLessThan(8 * 1024 * 1024);
  expect(page).toContain("199,500 smaller groups");
  expect(page).toContain("199,500 files are not listed");
});
