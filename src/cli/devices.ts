// SPDX-License-Identifier: MIT
/** `seedstrap devices`: lists the devices that an image can be written to, and the others. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import { type CandidateDevice, readCandidates, type WriteTarget } from "../device/candidates.ts";
import { printJson } from "./json.ts";
import { formatBytes, formatTable, note, print, widthOf } from "./output.ts";

export function devicesSubcommand(): CommandUnknownOpts {
  return new Command("devices")
    .summary("list the drives that an image can be written to")
    .description("list the drives that an image can be written to, and why others are refused")
    .allowExcessArguments(false)
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
The list is read from /sys, /proc and the devices themselves. What a device holds is shown only to
users who may read it. A device that is not refused here may still be in use in a way that the
kernel does not show; write finds that out when it opens the device.`,
    )
    .action(({ json }) => {
      const candidates = readCandidates();
      if (json) printJson({ devices: candidates.map(forScripts) });
      else if (candidates.length === 0) note("there are no block devices here");
      else for (const line of table(candidates)) print(line);
    });
}

const HEADER = ["device", "size", "by", "model", "serial", "holds", "refused because"];

function table(candidates: readonly CandidateDevice[]): string[] {
  const rows = [HEADER, ...candidates.map(row)];
  return formatTable(rows, "lrlllll", widthOf(process.stdout));
}

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
  ];
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

/** Describes a target, for the user who is asked whether to overwrite it. */
export function describeTarget(target: WriteTarget): string[] {
  const rows = target.kind === "file"
    ? [["file", target.path], ["size", formatBytes(target.sizeBytes)], ["holds", target.content]]
    : [
      ["device", target.path],
      ["model", target.device.model || target.device.detail || "-"],
      ["serial", target.device.serial || "-"],
      ["size", `${formatBytes(target.device.sizeBytes)} (${target.device.sizeBytes} bytes)`],
      ["attached by", target.device.transport],
      ["holds", target.device.content || "cannot be read"],
    ];
  return formatTable(rows, "ll", widthOf(process.stderr));
}
