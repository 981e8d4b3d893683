// SPDX-License-Identifier: MIT
/**
 * What QEMU tells of a guest over QMP, its monitor protocol: how the guest ended, and that the disk
 * of this host is full. Without it a reset looks like a switch-off, and a full disk like silence: QEMU
 * stops the guest, prints nothing, and waits.
 *
 * QEMU gets one end of a pair of sockets as its descriptor 3. Each message is a line of JSON; events
 * come once we have sent `qmp_capabilities`. QEMU 2.12 or later.
 *
 * @module
 */

import type { Duplex } from "node:stream";

/** Something that QEMU tells. */
export type MonitorEvent =
  /** The guest has reset itself, under `-no-reboot`; a triple fault does, too. */
  | { readonly kind: "reset" }
  /** The guest is stopped, as a disk image cannot grow. */
  | { readonly kind: "host-disk-full" };

/** Its name, which QEMU has in what it says of it. */
export const MONITOR_NAME = "seedstrap-monitor";

/** The arguments with which QEMU uses descriptor 3. */
export const MONITOR_ARGS: readonly string[] = [
  ...["-chardev", `socket,id=${MONITOR_NAME},fd=3`],
  ...["-mon", `chardev=${MONITOR_NAME},mode=control`],
];

/** No message that is looked at is as long. */
const MAX_MESSAGE_CHARS = 64 * 1024;

/** Asks for events, and passes on those that are known. Never throws. */
export function readMonitor(channel: Duplex, onEvent: (event: MonitorEvent) => void): void {
  const decoder = new TextDecoder();
  let rest = "";
  // QEMU may be gone before it has read.
  channel.on("error", () => {});
  channel.on("data", (chunk: Uint8Array) => {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!.slice(0, MAX_MESSAGE_CHARS);
    for (const line of lines) {
      const event = eventOf(line);
      if (event !== undefined) onEvent(event);
    }
  });
  channel.write('{"execute":"qmp_capabilities"}\n');
}

/** The event of a line; undefined for everything else. */
function eventOf(line: string): MonitorEvent | undefined {
  let message: { event?: unknown; data?: Record<string, unknown> | null } | null;
  try {
    message = JSON.parse(line);
  } catch {
    return undefined;
  }
  const data = message?.data;
  if (message?.event === "SHUTDOWN" && data?.["reason"] === "guest-reset") return { kind: "reset" };
  if (message?.event === "BLOCK_IO_ERROR" && data?.["action"] === "stop" && data["nospace"]) {
    return { kind: "host-disk-full" };
  }
  return undefined;
}
