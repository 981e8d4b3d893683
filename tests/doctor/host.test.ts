// SPDX-License-Identifier: MIT
import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createServer } from "node:net";
import { appendFileSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { look, type Subject } from "../../src/doctor/check.ts";
import { commitTimeMs } from "../../src/doctor/clock.ts";
import { checkDisk } from "../../src/doctor/disk.ts";
import {
  checkClock,
  checkFileSize,
  checkMemory,
  checkOpenFiles,
  checkPorts,
  hostMemory,
  parseMemory,
  parseProcessLimits,
  processLimits,
} from "../../src/doctor/host.ts";
import { checkServers, serversOf } from "../../src/doctor/servers.ts";
import { checkInodes, checkSpaceFor, nearestDirectory, spaceAt } from "../../src/doctor/space.ts";
import { UserError } from "../../src/errors.ts";
import { parseMirror } from "../../src/fetch/mirror.ts";
import { serveDirectory } from "../../src/fetch/serve.ts";
import { GIB, MIB } from "../../src/format/segment.ts";
import { defaultOptions } from "../../src/plan/options.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const { signal } = new AbortController();

describe("look()", () => {
  const subject: Subject = { name: "n", modes: ["qemu"], needs: "something" };
  const fails = () => {
    throw new UserError("launch", "Cannot find it\n  nowhere", { hint: "Install it" });
  };

  test("makes a missing thing of an expected error, on one line", async () => {
    expect(await look(subject, fails)).toEqual({
      ...subject,
      result: "missing",
      seen: "Cannot find it; nowhere",
      remedy: "Install it",
    });
  });

  test("does not ask for what nothing needs, and says what was seen", async () => {
    expect(await look({ ...subject, unneeded: "only for --kernel" }, fails)).toEqual({
      ...subject,
      result: "not needed",
      seen: "only for --kernel (Cannot find it; nowhere)",
    });
  });

  test("passes on an interrupt, and a bug", async () => {
    const interrupted = new UserError("interrupt", "Interrupted");
    await expect(look(subject, () => Promise.reject(interrupted))).rejects.toBe(interrupted);
    const bug = new TypeError("a bug");
    await expect(look(subject, () => Promise.reject(bug))).rejects.toBe(bug);
  });
});

describe("limits of the process", () => {
  test("are read from the table of the kernel", () => {
    const text = `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             1024000              unlimited            bytes     
Max open files            64                   1048576              files     
`;
    expect(parseProcessLimits(text)).toEqual({ fileBytes: 1024000, openFiles: 64 });
    expect(parseProcessLimits("")).toEqual({ fileBytes: Infinity, openFiles: Infinity });
    if (existsSync("/proc/self/limits")) {
      expect(processLimits().openFiles).toBeGreaterThan(2);
    }
  });

  test("that are too small are found, with the command that raises them", () => {
    const limits = { fileBytes: 1024000, openFiles: 64 };
    expect(checkOpenFiles(limits)).toMatchObject({ result: "missing", remedy: "ulimit -n 1024" });
    expect(checkFileSize(temp.make(), 16 * GIB, limits)).toEqual({
      result: "missing",
      seen: "a file may have 1000.0 KiB, an image has 16.0 GiB",
      remedy: "ulimit -f unlimited",
    });
  });

  test("a large file is really made, and removed", () => {
    const dir = temp.make();
    const found = checkFileSize(dir, 16 * GIB, { fileBytes: Infinity, openFiles: Infinity });
    expect(found).toEqual({ result: "ok", seen: "a file of 16.0 GiB was made" });
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe("memory", () => {
  test("is read from the table of the kernel", () => {
    const text = "MemTotal:       24684096 kB\nMemFree:  1 kB\nMemAvailable:   100 kB\n";
    expect(parseMemory(text)).toEqual({
      totalBytes: 24684096 * 1024,
      availableBytes: 102400,
      swapBytes: 0,
    });
    expect(parseMemory("")).toBeUndefined();
    expect(hostMemory().totalBytes).toBeGreaterThan(64 * MIB);
  });

  test("has to hold what the guest gets", () => {
    const options = defaultOptions("qemu");
    const memory = (totalGib: number, availableGib: number, swapGib = 0) => ({
      totalBytes: totalGib * GIB,
      availableBytes: availableGib * GIB,
      swapBytes: swapGib * GIB,
    });
    expect(checkMemory(memory(8, 6), options).result).toBe("ok");
    expect(checkMemory(memory(8, 3), options).result).toBe("warning");
    expect(checkMemory(memory(3, 3), options).result).toBe("missing");
    expect(checkMemory(memory(3, 3, 2), options)).toMatchObject({
      result: "warning",
      seen: "3.00 GiB of 3.00 GiB available, 2.00 GiB of swap; the guest gets 4.00 GiB",
    });
  });
});

describe("the clock", () => {
  test("must not be before the commit of the checkout", () => {
    const commit = Date.UTC(2027, 5, 1);
    expect(checkClock(commit + 1000, commit).result).toBe("ok");
    expect(checkClock(commit - 1000, commit)).toMatchObject({
      result: "missing",
      seen: "it is 2027-05-31T23:59 UTC, the checkout has a commit of 2027-06-01T00:00",
    });
    expect(checkClock(0)).toMatchObject({ result: "missing" });
  });

  testWith("git")("the commit is read without the configuration of the checkout", async () => {
    const dir = temp.make();
    const git = (...args: string[]) => {
      const when = "2024-02-03T04:05:06Z";
      const env = { ...process.env, GIT_COMMITTER_DATE: when, GIT_AUTHOR_DATE: when, HOME: dir };
      const words = ["-c", "user.name=a", "-c", "user.email=a@b", ...args];
      const { status, stderr } = spawnSync("git", ["-C", dir, ...words], { env });
      if (status !== 0) throw new Error(`git ${args}: ${stderr}`);
    };
    git("init", "-q");
    git("commit", "-q", "--allow-empty", "-m", "c");
    const when = Date.UTC(2024, 1, 3, 4, 5, 6);
    expect(await commitTimeMs(dir, temp.make(), signal)).toBe(when);
    git("gc", "-q");
    const trap = join(dir, "trap");
    appendFileSync(
      join(dir, ".git/config"),
      `[core]\n\tfsmonitor = "touch ${trap}"\n\tpager = "touch ${trap}"\n` +
        `[gpg]\n\tprogram = "touch ${trap}"\n[log]\n\tshowSignature = true\n`,
    );
    expect(await commitTimeMs(dir, temp.make(), signal)).toBe(when);
    expect(existsSync(trap)).toBe(false);
    expect(await commitTimeMs(temp.make(), temp.make(), signal)).toBeUndefined();
  }, 30_000);
});

describe("space", () => {
  const need = {
    buildBytes: 10 * MIB,
    storeBytes: 0,
    unknownSizes: 0,
    runBytes: GIB,
    largestBytes: 0,
    files: 100,
  };

  test("has to hold the build, and should hold what the run adds", () => {
    const space = (freeBytes: number) => ({ freeBytes, freeInodes: Infinity });
    expect(checkSpaceFor(space(2 * GIB), need).result).toBe("ok");
    expect(checkSpaceFor(space(GIB), need).result).toBe("warning");
    expect(checkSpaceFor(space(9 * MIB), { ...need, unknownSizes: 3 })).toMatchObject({
      result: "missing",
      seen: "9.00 MiB free; the build writes at least 10.0 MiB (3 sizes unknown), " +
        "the run up to 1.00 GiB",
    });
  });

  test("has to have inodes", () => {
    const space = (freeInodes: number) => ({ freeBytes: GIB, freeInodes });
    expect(checkInodes(space(100), need).result).toBe("ok");
    expect(checkInodes(space(99), need).result).toBe("missing");
    expect(checkInodes(space(Infinity), need).result).toBe("ok");
  });

  test("is that of the nearest directory that is there", () => {
    const dir = temp.make();
    expect(nearestDirectory(join(dir, "a/b/c"))).toBe(dir);
    expect(spaceAt(dir).freeBytes).toBeGreaterThan(0);
  });
});

describe("checkDisk()", () => {
  testWith("mke2fs").each([false, true])(
    "makes a disk and reads it back, with a device: %p",
    async (withDevice) => {
      const dir = temp.make();
      expect(await checkDisk(dir, withDevice, signal)).toMatchObject({ result: "ok" });
    },
    30_000,
  );
});

test("ports that are in use are found", async () => {
  const holder = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => holder.once("listening", done));
  const mirrorPort = (holder.address() as { port: number }).port;
  const options = {
    ...defaultOptions("qemu"),
    mirrors: [parseMirror(`file://${temp.make()}`)],
    mirrorPort,
  };
  const chosen = await checkPorts(options, true);
  expect(chosen.result).toBe("missing");
  expect(chosen.remedy).toMatch(/^Use --mirror-port \d+$/);
  expect((await checkPorts(options, false)).result).toBe("ok");
  await new Promise((done) => holder.close(done));
});

test("servers are asked, and one that does not answer is named without its password", async () => {
  const server = await serveDirectory(temp.make());
  const options = {
    ...defaultOptions("qemu"),
    mirrors: [parseMirror(server.url), parseMirror("http://me:secretword@127.0.0.1:9/d")],
  };
  const urls = serversOf(options, undefined);
  expect(urls).toHaveLength(2);
  expect(await checkServers(urls.slice(0, 1), signal)).toEqual({
    result: "ok",
    seen: "1 server answered",
  });
  const found = await checkServers(urls, signal);
  await server.close();
  expect(found.result).toBe("missing");
  expect(found.seen).toContain("127.0.0.1:9/d");
  expect(found.seen).not.toContain("secretword");
});
