// SPDX-License-Identifier: MIT
/**
 * Layers of disks as QEMU writes them.
 *
 * @module
 */
import { runProcess } from "../../src/launch/process.ts";
import { MONITOR_ARGS, Qmp } from "../../src/launch/qmp.ts";

/** The QEMU that writes them. */
export const QEMU = "qemu-system-x86_64";

/** Makes QEMU write a disk into a layer, over what is below it. */
export async function copyInto(from: string, layer: string): Promise<void> {
  const file = (node: string, driver: string, filename: string) => [
    "-blockdev",
    JSON.stringify({
      "node-name": node,
      driver,
      "detect-zeroes": "on",
      file: { driver: "file", filename },
    }),
  ];
  const finished = Promise.withResolvers<void>();
  await runProcess({
    argv: [
      ...[QEMU, "-accel", "tcg", "-nodefaults", "-display", "none", "-S", ...MONITOR_ARGS],
      ...file("from", "raw", from),
      ...file("to", "qcow2", layer),
    ],
    stdin: "ignore",
    isApart: true,
    onStdout: () => {},
    onStderr: (chunk) => console.log(new TextDecoder().decode(chunk)),
    onChannel: async (stream) => {
      const qmp = await Qmp.open(stream, {
        onEvent: ({ name }) => name === "BLOCK_JOB_COMPLETED" && finished.resolve(),
      });
      await qmp.execute("blockdev-backup", {
        "job-id": "copy",
        device: "from",
        target: "to",
        sync: "full",
      });
      await finished.promise;
      await qmp.execute("quit");
    },
  });
}
