// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { duplexPair } from "node:stream";
import { type MonitorEvent, readMonitor } from "../../src/launch/qmp.ts";

/** What QEMU 7.2 sends when a guest resets itself after an image could not grow. */
const SENT = [
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}',
  '{"return": {}}',
  '{"event": "BLOCK_IO_ERROR", "data": {"device": "ide0-hd0", "nospace": false, "action": "report"}}',
  '{"event": "BLOCK_IO_ERROR", "data": {"device": "ide0-hd0", "nospace": true, "action": "stop"}}',
  '{"event": "STOP"}',
  '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}',
  '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}',
].join("\r\n") + "\r\n";
const JUNK =
  'x\n"SHUTDOWN"\nnull\n[]\n{"event": "SHUTDOWN", "data": null}\n{"event": "SHUTDOWN"}\n';

test("QMP tells of a reset and of a full disk, wherever its bytes are cut, and of nothing else", async () => {
  for (const chunkBytes of [1, 7, 100_000]) {
    const [ours, theirs] = duplexPair();
    const events: MonitorEvent[] = [];
    readMonitor(ours, (event) => void events.push(event));
    const asked = await new Promise<Uint8Array>((resolve) => theirs.once("data", resolve));
    expect(new TextDecoder().decode(asked)).toBe('{"execute":"qmp_capabilities"}\n');
    const bytes = new TextEncoder().encode(JUNK + "y".repeat(100_000) + "\n" + SENT);
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      theirs.write(bytes.subarray(at, at + chunkBytes));
    }
    const end = new Promise((resolve) => ours.once("end", resolve));
    theirs.end();
    await end;
    expect(events).toEqual([{ kind: "host-disk-full" }, { kind: "reset" }]);
  }
});
