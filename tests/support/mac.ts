// SPDX-License-Identifier: MIT
/**
 * The command line in a process that takes this system for macOS.
 *
 * @module
 */
import process from "node:process";

Object.defineProperty(process, "platform", { value: "darwin" });
Object.defineProperty(process, "arch", { value: process.env["MAC_ARCH"] ?? process.arch });
await import("../../src/cli/main.ts");
