// SPDX-License-Identifier: MIT
/** What processes use, as /proc has it. */
import { expect, test } from "bun:test";
import { usageOf } from "../../src/launch/activity.ts";
import { eventually } from "./guest.ts";

test("the time of a process is that of its descendants too, and does not fall when they end", async () => {
  // Two busy loops, one of them a child of a child; then nothing.
  const script = `sh -c '(i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done)' && echo once
i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; echo twice; read -r _`;
  const child = Bun.spawn(["sh", "-c", script], { stdin: "pipe", stdout: "pipe" });
  using _ = { [Symbol.dispose]: () => child.kill() };
  const times: number[] = [];
  let said = "";
  for await (const chunk of child.stdout) {
    said += new TextDecoder().decode(chunk);
    times.push(usageOf(child.pid)!.cpuMs);
    if (said.includes("twice")) break;
  }
  const [once, twice] = [times[0]!, times.at(-1)!];
  expect(once).toBeGreaterThan(0);
  expect(twice).toBeGreaterThan(once);
  expect(usageOf(child.pid)!.cpuMs).toBeGreaterThanOrEqual(twice);
});

test("a name with spaces and parentheses does not confuse it, and disks are counted", async () => {
  const child = Bun.spawn(["python3", "-c", NAMED], { stdin: "ignore" });
  using _ = { [Symbol.dispose]: () => child.kill() };
  expect(await eventually(() => (usageOf(child.pid)?.cpuMs ?? 0) >= 100)).toBe(true);
  const disk = usageOf(child.pid)!.disk!;
  expect(disk.readBytes).toBeGreaterThanOrEqual(0);
  expect(disk.writtenBytes).toBeGreaterThanOrEqual(0);
});

/** Calls itself ") R 1 (" and is busy. */
const NAMED = `open("/proc/self/comm", "w").write(") R 1 (")
while True: pass`;

test("a process that is gone has none", async () => {
  const child = Bun.spawn(["true"]);
  await child.exited;
  expect(usageOf(child.pid)).toBeUndefined();
});
