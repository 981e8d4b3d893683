// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import type { RecordedDistfile, TargetRecord } from "../../src/record/types.ts";
import { sbomText } from "../../src/record/sbom.ts";
import { distfile, record } from "./records.ts";

const SHA = "a".repeat(64);
const ONE: RecordedDistfile = {
  name: "g++ (1)-1.0.tar.gz",
  sha256: SHA,
  urls: ["https://a.example/g++.tgz?x=1&y=2", "not a URL", "https://b.example/g"],
  size: 5,
  phase: "boot",
  place: "boot",
  why: "",
  steps: ["g++"],
};

function bomOf(distfiles: readonly RecordedDistfile[], seedstrap = "1.2.3") {
  return JSON.parse(sbomText({ seedstrap, distfiles } as TargetRecord));
}

test("sbomText() lists a distfile with digest, package URL and every URL of it", () => {
  const bom = bomOf([ONE]);
  expect(bom).toMatchObject({ bomFormat: "CycloneDX", specVersion: "1.6", version: 1 });
  expect(bom.components).toEqual([{
    type: "file",
    "bom-ref": "distfile:g%2B%2B%20(1)-1.0.tar.gz",
    name: "g++ (1)-1.0.tar.gz",
    hashes: [{ alg: "SHA-256", content: SHA }],
    purl: `pkg:generic/g%2B%2B%20%281%29-1.0.tar.gz?checksum=sha256:${SHA}` +
      "&download_url=https:%2F%2Fa.example%2Fg%2B%2B.tgz%3Fx%3D1%26y%3D2",
    externalReferences: [
      { type: "distribution", url: "https://a.example/g++.tgz?x=1&y=2" },
      { type: "distribution", url: "https://b.example/g" },
    ],
    properties: [{ name: "seedstrap:place", value: "boot" }],
  }]);
  expect(bom.dependencies[0].dependsOn).toEqual(["distfile:g%2B%2B%20(1)-1.0.tar.gz"]);
});

test("sbomText() lists the URL that a distfile was downloaded from before the others", () => {
  const [component] = bomOf([{ ...ONE, origin: { kind: "url", url: "https://b.example/g" } }])
    .components;
  expect(component.purl).toEndWith("&download_url=https:%2F%2Fb.example%2Fg");
  expect(component.externalReferences.map(({ url }: { url: string }) => url)).toEqual([
    "https://b.example/g",
    "https://a.example/g++.tgz?x=1&y=2",
  ]);
});

test("sbomText() asserts no licence and no URL that is not known", () => {
  const text = sbomText(
    { seedstrap: "1", distfiles: [{ ...ONE, urls: [] }] } as unknown as TargetRecord,
  );
  expect(text).not.toMatch(/licen[cs]e|download_url|externalReferences|timestamp/);
});

test("the serial number is a UUID of version 8 that is derived from the content", () => {
  const serials = [bomOf([ONE]), bomOf([ONE]), bomOf([]), bomOf([ONE], "1.2.4")]
    .map(({ serialNumber }) => serialNumber);
  for (const serial of serials) {
    expect(serial).toMatch(
      /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
  }
  expect(serials[0]).toBe(serials[1]!);
  expect(new Set(serials).size).toBe(3);
});

test("whatever the name of a distfile is, its reference is unique and its URLs are valid", () => {
  fc.assert(fc.property(record, (record) => {
    const { components, dependencies } = JSON.parse(sbomText(record));
    expect(components).toHaveLength(record.distfiles.length);
    expect(new Set(dependencies[0].dependsOn).size).toBe(record.distfiles.length);
  }));
  fc.assert(fc.property(distfile, (distfile) => {
    const [{ purl, externalReferences = [] }] = bomOf([distfile]).components;
    expect(purl).toMatch(/^pkg:generic\/[\w.~:%-]+\?[\w.~:%&=-]+$/);
    expect(decodeURIComponent(purl.slice("pkg:generic/".length).split("?")[0])).toBe(distfile.name);
    for (const { url } of externalReferences) expect(url).toMatch(/^[!-~]+$/);
  }));
});
