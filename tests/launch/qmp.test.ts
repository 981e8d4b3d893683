// SPDX-License-Identifier: MIT
import { describe, expect, test } from "bun:test";
import { duplexPair } from "node:stream";
import { findProgram, type ProcessOutcome, runProcess } from "../../src/launch/process.ts";
import {
  MONITOR_ARGS,
  type MonitorEvent,
  monitorEventOf,
  Qmp,
  QmpError,
  type QmpEvent,
} from "../../src/launch/qmp.ts";
import { QEMU, roomPath, RUNTIMES } from "./guest.ts";

const hasQemu = await findProgram(QEMU) !== undefined;
if (!hasQemu) console.log(`skipped: QMP with QEMU, as there is no ${QEMU}`);

const MACHINE = [QEMU, "-accel", "tcg", "-nodefaults", "-display", "none", "-S", "-m", "16"];

/** Starts a program, and gives the promise of a connection to it. */
function connect(
  argv: readonly string[],
  options: Parameters<typeof Qmp.open>[1] = {},
): { readonly qmp: Promise<Qmp>; readonly ended: Promise<ProcessOutcome>; end(): void } {
  const stop = new AbortController();
  const { promise: qmp, resolve } = Promise.withResolvers<Qmp>();
  const ended = runProcess({
    argv,
    stdin: "ignore",
    isApart: true,
    onStdout: () => {},
    onStderr: () => {},
    onChannel: (stream) => resolve(Qmp.open(stream, options)),
    signal: stop.signal,
  });
  return { qmp, ended, end: () => stop.abort() };
}

/** The fault of a connection to a shell that answers by a script. */
async function faultOf(script: string, use?: (qmp: Qmp) => Promise<unknown>): Promise<string> {
  const shell = connect(["sh", "-c", script], { greetingMs: 1000 });
  try {
    const qmp = await shell.qmp;
    await use?.(qmp);
    return "none";
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    return error.fault;
  } finally {
    shell.end();
    await shell.ended;
  }
}

const GREETING =
  `echo '{"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":0},"package":""}}}' >&3`;
const WELCOME = `${GREETING}; read -r line <&3; echo '{"return":{},"id":0}' >&3`;

describe.if(hasQemu)("Qmp with QEMU", () => {
  test("knows the version, has replies of commands, and hears of events", async () => {
    const events: QmpEvent[] = [];
    const { qmp: opened, ended } = connect([...MACHINE, ...MONITOR_ARGS], {
      onEvent: (event) => void events.push(event),
    });
    const qmp = await opened;
    expect(qmp.version).toMatch(/^\d+\.\d+\.\d+/);
    const isObject = (value: unknown): value is object => typeof value === "object";
    expect(await qmp.ask(isObject, "query-status")).toMatchObject({ status: "prelaunch" });
    await qmp.execute("cont");
    await qmp.execute("stop");
    expect(events.map(({ name }) => name)).toEqual(["RESUME", "STOP"]);
    await qmp.execute("quit");
    expect((await ended).code).toBe(0);
    expect(qmp.isOpen).toBe(false);
  });

  test("says what QEMU refuses, and goes on", async () => {
    const { qmp: opened, ended } = connect([...MACHINE, ...MONITOR_ARGS]);
    const qmp = await opened;
    const refused = qmp.execute("blockdev-del", { "node-name": "nothing" });
    await expect(refused).rejects.toThrow(/^QEMU refuses blockdev-del: .*nothing/);
    await expect(qmp.execute("no-such-command")).rejects.toMatchObject({ fault: "refused" });
    const replies = await Promise.all([qmp.execute("query-name"), qmp.execute("query-status")]);
    expect(replies).toEqual([{}, expect.objectContaining({ running: false })]);
    await qmp.execute("quit");
    await ended;
  });

  test("a command that is waited for fails when QEMU ends", async () => {
    const { qmp: opened, ended, end } = connect([...MACHINE, ...MONITOR_ARGS]);
    const qmp = await opened;
    end();
    await ended;
    await expect(qmp.execute("query-status")).rejects.toMatchObject({ fault: "closed" });
  });

  test.each(RUNTIMES)("works under %s", async (_, argv) => {
    const program = `
      import { runProcess } from ${JSON.stringify(roomPath("process.ts"))};
      import { MONITOR_ARGS, Qmp } from ${JSON.stringify(roomPath("qmp.ts"))};
      const ended = runProcess({
        argv: [...${JSON.stringify(MACHINE)}, ...MONITOR_ARGS],
        stdin: "ignore", isApart: true, onStdout: () => {}, onStderr: () => {},
        onChannel: async (stream) => {
          const qmp = await Qmp.open(stream);
          console.log((await qmp.execute("query-status")).status);
          await qmp.execute("quit");
        },
      });
      console.log(JSON.stringify(await ended));`;
    const path = `${import.meta.dir}/.qmp-${process.pid}.ts`;
    await Bun.write(path, program);
    try {
      const child = Bun.spawn([...argv, path], { stdout: "pipe", stderr: "inherit" });
      expect(await new Response(child.stdout).text()).toBe('prelaunch\n{"code":0,"signal":null}\n');
    } finally {
      await Bun.file(path).delete();
    }
  });
});

/** What QEMU 7.2 sends when a guest resets itself after an image could not grow. */
const SENT = [
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}}}',
  '{"return": {}, "id": 0}',
  '{"event": "BLOCK_IO_ERROR", "data": {"device": "ide0-hd0", "nospace": false, "action": "report"}}',
  '{"event": "BLOCK_IO_ERROR", "data": {"device": "ide0-hd0", "nospace": true, "action": "stop"}}',
  '{"event": "STOP"}',
  '{"event": "SHUTDOWN"}',
  '{"event": "SHUTDOWN", "data": null}',
  '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}',
  '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}',
].join("\r\n") + "\r\n";

test("events tell of a reset and of a full disk, wherever their bytes are cut, and of nothing else", async () => {
  for (const chunkBytes of [1, 7, 100_000]) {
    const [ours, theirs] = duplexPair();
    const told: MonitorEvent[] = [];
    const onEvent = (event: QmpEvent) => {
      const known = monitorEventOf(event);
      if (known !== undefined) told.push(known);
    };
    const opened = Qmp.open(ours, { onEvent });
    const bytes = new TextEncoder().encode(SENT);
    const asked = new Promise<Uint8Array>((resolve) => theirs.once("data", resolve));
    const greetingBytes = SENT.indexOf("\n") + 1;
    theirs.write(bytes.subarray(0, greetingBytes));
    expect(JSON.parse(new TextDecoder().decode(await asked))).toEqual({
      execute: "qmp_capabilities",
      arguments: {},
      id: 0,
    });
    for (let at = greetingBytes; at < bytes.length; at += chunkBytes) {
      theirs.write(bytes.subarray(at, at + chunkBytes));
    }
    const end = new Promise((resolve) => ours.once("close", resolve));
    theirs.end();
    await end;
    expect((await opened).version).toBe("7.2.22");
    expect(told).toEqual(["host-disk-full", "reset"]);
  }
});

describe("Qmp with something else", () => {
  test.each([
    ["silence", "exec sleep 60", "silent"],
    ["an end", "exit 0", "closed"],
    ["no JSON", "echo hello >&3; exec sleep 60", "confused"],
    ["no object", "echo '[1]' >&3; exec sleep 60", "confused"],
    ["another greeting", `echo '{"QMP":{}}' >&3; exec sleep 60`, "confused"],
    ["a line without end", "tr '\\0' ' ' < /dev/zero >&3", "confused"],
    [
      "deep nesting",
      "yes '[' | head -n 9999 | tr -d '\\n' >&3; echo >&3; exec sleep 60",
      "confused",
    ],
    ["no end of lines", 'yes \'{"event":"X"}\' >&3', "silent"],
  ])("ends at %s", async (_, script, fault) => {
    expect(await faultOf(script)).toBe(fault);
  });

  test("a reply of another form, or to nothing, is no result", async () => {
    const reply =
      `${WELCOME}; echo '{"return":7,"id":99}' >&3; read -r line <&3; echo '{"return":7,"id":1}' >&3`;
    const use = (qmp: Qmp) => qmp.ask((value) => typeof value === "string", "query-name");
    expect(await faultOf(`${reply}; exec sleep 60`, use)).toBe("confused");
  });

  test("a command without a reply is given up", async () => {
    const use = (qmp: Qmp) => qmp.execute("query-name", {}, 200);
    expect(await faultOf(`${WELCOME}; exec sleep 60`, use)).toBe("silent");
  });
});
