// SPDX-License-Identifier: MIT
import { describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import process from "node:process";
import { withInterrupt } from "../../src/launch/interrupt.ts";
import { roomPath, RUNTIMES, tempDir } from "./guest.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const listeners = () => SIGNALS.map((name) => process.listenerCount(name));
const failure = (promise: Promise<unknown>) => promise.catch((error: unknown) => error);

/** Waits for an abort, then rejects, as fetch() and streams do. */
const aborted = (signal: AbortSignal, makeError: () => unknown) =>
  new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(makeError())));

describe("withInterrupt()", () => {
  test("returns what the function returns, and leaves no handler", async () => {
    const before = listeners();
    expect(await withInterrupt(() => Promise.resolve(42))).toBe(42);
    expect(listeners()).toEqual(before);
  });

  test.each(SIGNALS)("aborts on %s, and leaves no handler", async (name) => {
    const before = listeners();
    const error = await failure(withInterrupt((signal) => {
      process.kill(process.pid, name);
      return aborted(signal, () => signal.reason);
    }));
    expect(error).toMatchObject({ kind: "interrupt", message: `Interrupted by ${name}` });
    expect(listeners()).toEqual(before);
  });

  test("turns an AbortError into an interrupt, and no other error", async () => {
    const interruptedWith = (makeError: () => unknown) =>
      failure(withInterrupt((signal) => {
        process.kill(process.pid, "SIGTERM");
        return aborted(signal, makeError);
      }));
    const abort = new DOMException("aborted", "AbortError");
    expect(await interruptedWith(() => abort)).toMatchObject({ kind: "interrupt" });
    const bug = new TypeError("bug");
    expect(await interruptedWith(() => bug)).toBe(bug);
  });
});

describe.each(RUNTIMES)("withInterrupt() under %s", (_, [runtime, ...runtimeArgs]) => {
  /** Runs a program that cleans up for ever after an interrupt; returns its exit code. */
  async function interruptTwice(gapMs: number): Promise<number | null> {
    using dir = tempDir();
    writeFileSync(
      dir.file("main.mjs"),
      `import process from "node:process";
      import { withInterrupt } from ${JSON.stringify(roomPath("interrupt.ts"))};
      await withInterrupt((signal) => new Promise(() => {
        setTimeout(() => process.exit(7), 1000);
        signal.addEventListener("abort", () => console.log("aborted"));
        console.log("ready");
      }));`,
    );
    const child = spawn(runtime, [...runtimeArgs, dir.file("main.mjs")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    child.stdout.on("data", (chunk: Uint8Array) => {
      const said = new TextDecoder().decode(chunk);
      if (said.includes("ready")) child.kill("SIGINT");
      if (said.includes("aborted")) setTimeout(() => child.kill("SIGINT"), gapMs);
    });
    return await new Promise((resolve) => child.on("exit", resolve));
  }

  test("exits at once on a second Ctrl-C", async () => {
    expect(await interruptTwice(400)).toBe(130);
  });

  test("treats two signals of one Ctrl-C as one", async () => {
    expect(await interruptTwice(20)).toBe(7);
  });
});
