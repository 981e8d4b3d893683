// SPDX-License-Identifier: MIT
/** `seedstrap devices`: what an image could be written to, and why not. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { type CandidateDevice, readCandidates, type WriteTarget } from "../device/candidates.ts";
import { formatBytes, formatTable, note, print, printable, printJson } from "./output.ts";

export function devicesSubcommand(): CommandUnknownOpts {
  return new Command("devices")
    .description("list the drives that an image can be written to, and why others are refused")
    .allowExcessArguments(false)
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
Everything comes from /sys, /proc and the devices themselves. What a device holds is only seen by
who may read it. What is shown as free may still be held by something that the kernel does not
tell; write finds that out when it opens the device.`,
    )
    .action(({ json }) => {
      const candidates = readCandidates();
      if (json) printJson(candidates.map(forScripts));
      else if (candidates.length === 0) note("there are no block devices here");
      else for (const line of formatTable([HEADER, ...candidates.map(row)], "lrlllll")) print(line);
    });
}

const HEADER = ["device", "size", "by", "model", "serial", "holds", "refused because"];

function row(candidate: CandidateDevice): string[] {
  const { path, sizeBytes, transport, model, serial, detail, content, reasons } = candidate;
  return [
    path,
    formatBytes(sizeBytes),
    transport,
    model || detail || "-",
    serial || "-",
    content || "?",
    reasons.join("; "),
  ].map(printable);
}

function forScripts(candidate: CandidateDevice): object {
  const { name, path, sizeBytes, sectorBytes, transport, model, serial } = candidate;
  const { detail, content, reasons, isReadOnly } = candidate;
  return {
    path,
    sizeBytes,
    sectorBytes,
    transport,
    model,
    serial,
    confirmation: serial || name,
    detail,
    content,
    isReadOnly,
    isRefused: reasons.length > 0,
    reasons,
  };
}

/** What a target is, for who has to decide. */
export function describeTarget(target: WriteTarget): string[] {
  const rows = target.kind === "file"
    ? [["file", target.path], ["size", formatBytes(target.sizeBytes)], ["holds", target.content]]
    : [
      ["device", target.path],
      ["model", target.device.model || target.device.detail || "-"],
      ["serial", target.device.serial || "-"],
      ["size", `${formatBytes(target.device.sizeBytes)} (${target.device.sizeBytes} bytes)`],
      ["attached by", target.device.transport],
      ["holds", target.device.content || "what cannot be read"],
    ];
  return formatTable(rows.map((row) => row.map(printable)), "ll");
}
