// SPDX-License-Identifier: MIT
/**
 * sbom.cdx.json: the distfiles of a build as a CycloneDX 1.6 list of components.
 *
 * A component is a file with its SHA-256, a generic package URL, and every URL of it; the first is
 * the one that it was downloaded from, if that is known. A checkout does not name the licences of
 * distfiles, so none are asserted. The list has no time, and its serial number is derived from the
 * content (a UUID of version 8, RFC 9562, section 5.8): the same inputs give the same list.
 *
 * Sources: CycloneDX 1.6 JSON reference, ECMA-424; package URL specification, type generic.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { uuidOf } from "../bytes.ts";
import type { RecordedDistfile, TargetRecord } from "./types.ts";

/** The fields of a component that are used here. */
interface Component {
  readonly type: "file";
  readonly "bom-ref": string;
  readonly name: string;
  readonly hashes: readonly { readonly alg: "SHA-256"; readonly content: string }[];
  readonly purl: string;
  readonly externalReferences?: readonly { readonly type: "distribution"; readonly url: string }[];
  readonly properties: readonly { readonly name: string; readonly value: string }[];
}

/** Returns the text of sbom.cdx.json. */
export function sbomText({ seedstrap, distfiles }: TargetRecord): string {
  const components = distfiles.map(componentOf);
  const subject = "live-bootstrap-media";
  const head = {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
  };
  const body = {
    version: 1,
    metadata: {
      tools: { components: [{ type: "application", name: "seedstrap", version: seedstrap }] },
      component: { type: "operating-system", "bom-ref": subject, name: "live-bootstrap media" },
    },
    components,
    dependencies: [
      { ref: subject, dependsOn: components.map((component) => component["bom-ref"]) },
    ],
  };
  const digest = createHash("sha256").update(JSON.stringify(body)).digest();
  const serialNumber = `urn:uuid:${uuidOf(digest)}`;
  return `${JSON.stringify({ ...head, serialNumber, ...body }, null, 1)}\n`;
}

function componentOf({ name, sha256, urls, origin, place }: RecordedDistfile): Component {
  const first = origin?.kind === "url" ? [origin.url] : [];
  const places = [...new Set([...first, ...urls].flatMap(plainUrl))];
  return {
    type: "file",
    "bom-ref": `distfile:${encodeURIComponent(name)}`,
    name,
    hashes: [{ alg: "SHA-256", content: sha256 }],
    purl: packageUrl(name, sha256, places[0]),
    ...(places.length > 0 && {
      externalReferences: places.map((url) => ({ type: "distribution" as const, url })),
    }),
    properties: [{ name: "seedstrap:place", value: place }],
  };
}

/** Returns `pkg:generic/NAME?checksum=…&download_url=…`. A file name gives no reliable version. */
function packageUrl(name: string, sha256: string, url: string | undefined): string {
  const qualifiers = `checksum=sha256:${sha256}`;
  return `pkg:generic/${purlEncode(name)}?${qualifiers}` +
    (url === undefined ? "" : `&download_url=${purlEncode(url)}`);
}

/** Percent-encodes a text for a package URL: `!'()*` too, but not the colon. */
function purlEncode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  ).replaceAll("%3A", ":");
}

/** Returns a URL of a checkout in its canonical form, or nothing if it is not a valid one. */
function plainUrl(url: string): string[] {
  return URL.canParse(url) ? [new URL(url).href] : [];
}
