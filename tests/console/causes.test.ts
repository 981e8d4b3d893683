// SPDX-License-Identifier: MIT
/** Every entry of the table of causes: a run that shows it, and one that nearly does. */
import { describe, expect, test } from "bun:test";
import { CAUSES, withTarget } from "../../src/console/causes.ts";
import type { RunFailure } from "../../src/console/failure.ts";
import { type End, type Facts, type Outcome, RunWatch } from "../../src/console/outcome.ts";

/** What is seen of a run that has failed. */
interface Run {
  /** What it printed. */
  readonly text?: string;
  /** How its process ended; with 0 if absent. */
  readonly end?: readonly [RunFailure, why: string];
  readonly facts?: Facts;
  readonly isDirectory?: boolean;
  readonly isReset?: boolean;
}

function judged({ text = "", end, facts, isDirectory = false, isReset = false }: Run): Outcome {
  const watch = new RunWatch();
  watch.push(new TextEncoder().encode(text.replaceAll("\n", "\r\n")));
  if (isReset) watch.sawReset();
  const expected = { lastStep: { name: "omega-9", pass: 1 }, switchesOff: !isDirectory, ...facts };
  const ended: End = end === undefined
    ? { kind: "ended" }
    : { kind: "failed", failure: end[0], why: end[1] };
  return watch.judge(expected, ended);
}

/** A step in kaem that fails after some lines. */
const inKaem = (lines: string) =>
  ` +> pkg=alpha-1.0\n +> kaem --file pass1.kaem\n${lines}\nSubprocess error 1\nABORTING HARD\n`;
/** A step in bash under Linux that fails after some lines: the first process is that bash. */
const inBash = (lines: string) =>
  `beta-2.0: beginning build using script pass1.sh\nbeta-2.0: getting sources.\n${lines}\n` +
  "[   99.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n";
const failedDownload = (curl: string) => inBash(`${curl}\nbeta-2.0.tar.gz does not exist!`);
/** The same errors of a download that another mirror then had. */
const otherMirror = (curl: string) => inBash(`${curl}\nmake: *** [Makefile:3: all] Error 1`);

const EXAMPLES: Readonly<Record<string, { shows: Run; misses: Run }>> = {
  "kvm-rights": {
    shows: {
      end: [
        "kvm",
        "KVM cannot run this guest (Could not access KVM kernel module: Permission denied): qemu",
      ],
    },
    misses: {
      end: ["not-started", "QEMU failed with exit code 1 (a.img: Permission denied): qemu"],
    },
  },
  "kvm-absent": {
    shows: {
      end: [
        "kvm",
        "KVM cannot run this guest (Could not access KVM kernel module: No such file or directory): qemu",
      ],
    },
    misses: {
      end: ["not-started", "QEMU failed with exit code 1 (a.img: No such file or directory): qemu"],
    },
  },
  "kvm-cannot": {
    shows: { end: ["kvm", "KVM cannot run this guest (KVM internal error. Suberror: 1): qemu"] },
    // A guest can print anything.
    misses: { text: inKaem("KVM internal error. Suberror: 1") },
  },
  "host-memory": {
    shows: {
      end: [
        "not-started",
        "QEMU failed with exit code 1 (qemu: cannot set up guest memory 'pc.ram': Cannot allocate memory): qemu",
      ],
    },
    misses: { text: inBash("./configure: fork: Cannot allocate memory") },
  },
  "killed": {
    shows: { text: " +> cp a b\n", end: ["died", "QEMU was killed by SIGKILL: qemu"] },
    misses: { text: " +> cp a b\n", end: ["died", "QEMU was killed by SIGSEGV: qemu"] },
  },
  "host-full": {
    shows: {
      text: " +> cp a b\ncp: No space left on device\n",
      end: ["step", "exit code 1"],
      isDirectory: true,
    },
    misses: {
      text: " +> cp a b\ncp: No such file or directory\n",
      end: ["step", "exit code 1"],
      isDirectory: true,
    },
  },
  "disk-in-use": {
    shows: {
      end: [
        "not-started",
        "QEMU failed with exit code 1 (Is another process using the image [init.img]?): qemu",
      ],
    },
    misses: { text: inBash("apt: Failed to get the lock of a directory") },
  },
  "no-display": {
    shows: {
      end: ["not-started", "QEMU failed with exit code 1 (gtk initialization failed): qemu"],
    },
    misses: { text: inBash("checking for gtk... initialization of it failed") },
  },
  "mirror-port": {
    shows: {
      end: [
        "not-started",
        "Cannot listen on 127.0.0.1:24816: Failed to start server. Is port 24816 in use?",
      ],
    },
    misses: { text: inBash("Cannot listen to this") },
  },
  "no-namespaces": {
    shows: {
      end: ["step", "exit code 1"],
      text: "bwrap: setting up uid map: Permission denied\n",
      isDirectory: true,
    },
    misses: {
      end: ["step", "exit code 1"],
      text: "bwrap: Can't find source path /x: No such file or directory\n",
      isDirectory: true,
    },
  },
  "wrong-architecture": {
    shows: {
      end: ["step", "exit code 126"],
      text: "chroot: failed to run command '/x86/kaem': Exec format error\n",
      isDirectory: true,
    },
    misses: {
      end: ["step", "exit code 127"],
      text: "chroot: failed to run command '/x86/kaem': No such file or directory\n",
      isDirectory: true,
    },
  },
  "noexec": {
    shows: {
      end: ["step", "exit code 126"],
      text: "chroot: failed to run command '/x86/kaem': Permission denied\n",
      isDirectory: true,
    },
    misses: { text: inBash("env: ./configure: Permission denied") },
  },
  "no-tls": {
    shows: { text: failedDownload('curl: (1) Protocol "https" not supported') },
    misses: { text: otherMirror('curl: (1) Protocol "https" not supported') },
  },
  "clock": {
    shows: {
      text: failedDownload("curl: (60) SSL certificate problem: certificate is not yet valid"),
    },
    misses: {
      text: failedDownload(
        "curl: (60) SSL certificate problem: unable to get local issuer certificate",
      ),
    },
  },
  "no-name-server": {
    shows: { text: failedDownload("curl: (6) Could not resolve host: mirror.example") },
    misses: { text: otherMirror("curl: (6) Could not resolve host: mirror.example") },
  },
  "mirror-not-served": {
    shows: {
      text: failedDownload(
        "curl: (7) Failed to connect to 10.0.2.2 port 24816 after 1 ms: Could not connect to server",
      ),
    },
    misses: {
      text: failedDownload(
        "curl: (7) Failed to connect to 192.0.2.7 port 80 after 1 ms: Could not connect to server",
      ),
    },
  },
  "no-connection": {
    shows: { text: failedDownload("curl: (28) Connection timed out after 300000 milliseconds") },
    misses: { text: otherMirror("curl: (28) Connection timed out after 300000 milliseconds") },
  },
  "not-on-mirror": {
    shows: { text: failedDownload("curl: (22) The requested URL returned error: 404") },
    misses: { text: otherMirror("curl: (22) The requested URL returned error: 404") },
  },
  "no-network": {
    shows: { text: inBash("Timeout reached for internet to become accessible") },
    misses: { text: inBash("test-timeout: Timeout reached for a lock to become accessible") },
  },
  "no-payload": {
    shows: { text: inKaem("payload-import: /proc/partitions: no device in it has a payload") },
    misses: { text: inKaem("payload-import: /dev/hdb: payload, layout 64, 3 files") },
  },
  "damaged-payload": {
    shows: {
      text: inKaem(
        "payload-import: /dev/hdb: a.tar.gz: at byte 4096: the file does not have its SHA-256",
      ),
    },
    misses: { text: inKaem("payload-import: /dev/hdc: passed over: cannot open it") },
  },
  "two-payloads": {
    shows: {
      text: inKaem("payload-import: /dev/hdb and /dev/hdc hold different payloads: detach one"),
    },
    misses: { text: inKaem("payload-import: /dev/hdb: payload, layout 64, 3 files") },
  },
  "missing-distfile": {
    shows: { text: inBash("beta-2.0.tar.gz does not exist!") },
    misses: { text: inBash("configure: error: the file beta does not exist!") },
  },
  "missing-distfile-early": {
    shows: {
      text: inKaem("unable to open file: /external/distfiles/alpha-1.0.tar.gz\nfor reading"),
    },
    misses: { text: inKaem("http://mirror.example/distfiles/alpha-1.0.tar.gz") },
  },
  "known-unreproducible": {
    shows: { text: inBash("gettext-0.26_0.tar.bz2: FAILED") },
    misses: { text: inBash("gettext-0.25_0.tar.bz2: FAILED") },
  },
  "different-package": {
    shows: { text: inBash("beta-2.0_1.tar.bz2: FAILED") },
    misses: { text: inBash("beta-2.0.tar.bz2: FAILED") },
  },
  "wrong-distfile": {
    shows: { text: inBash("beta-2.0.tar.gz: FAILED") },
    misses: { text: inBash("/usr/bin/beta: FAILED") },
  },
  "different-program": {
    shows: { text: inKaem("/usr/bin/alpha: FAILED") },
    misses: { text: inKaem("/usr/bin/alpha: OK") },
  },
  "no-checksum": {
    shows: { text: inBash("beta-2.0: no checksum stored!") },
    misses: { text: inBash("beta-2.0: checksumming created package.") },
  },
  "refused-disk": {
    shows: {
      text: inBash(
        "guard_disk: REFUSED: the system is not installed to /dev/sda: it is the payload disk",
      ),
    },
    misses: { text: inBash("guard_disk: /dev/sda: boot disk: the system is installed to it") },
  },
  "refused-one-disk": {
    shows: {
      text: inBash(
        "one_disk: REFUSED: the system is not installed to /dev/sda: it has 2048 KiB, and no room",
      ),
    },
    misses: { text: inBash("one_disk: the system is installed to /dev/sda1") },
  },
  "no-disk": {
    shows: { text: inBash("Timeout reached for disk to become accessible") },
    misses: { text: inBash("dd: /dev/sda: No such device") },
  },
  "no-root": {
    shows: {
      text:
        "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(8,1)\n",
    },
    misses: { text: "[    2.1] Kernel panic - not syncing: Fatal exception in interrupt\n" },
  },
  "disk-error": {
    shows: { text: inBash("[  7.0] print_req_error: I/O error, dev sda, sector 2048") },
    misses: { text: inBash("checking for I/O error handling... dev sda") },
  },
  "disk-full": {
    shows: {
      text: inBash("cc1: fatal error: error writing to /tmp/cc.s: No space left on device"),
    },
    misses: { text: inBash("checking for space left on device... no") },
  },
  "ramdisk-full": {
    shows: { text: inKaem("copy_file: /usr/bin/tcc\next4_fwrite error: 28") },
    misses: { text: inKaem("ext4_device_register: rc = 17") },
  },
  "little-memory": {
    shows: { text: " +> cp a b\n", isReset: true, facts: { memoryMib: 2048 } },
    misses: { text: " +> cp a b\n", isReset: true, facts: { memoryMib: 4096 } },
  },
  "broken-limits": {
    shows: {
      text: " +> cp a b\n",
      isReset: true,
      facts: { brokenLimits: ["files in the boot image"] },
    },
    misses: { text: " +> cp a b\n", isReset: true, facts: { brokenLimits: [] } },
  },
  "machine-memory": {
    shows: {
      text: inBash("[  7.0] Out of memory: Kill process 99 (cc1) score 900 or sacrifice child"),
    },
    misses: { text: inBash("checking for memory... out of the box") },
  },
  "no-fork": {
    shows: { text: inBash("./configure: fork: retry: Resource temporarily unavailable") },
    misses: { text: inBash("checking for working fork... yes") },
  },
  "fiwix-jump": {
    shows: { text: " +> cp a b\nkexec-fiwix: jumping to trampoline...\n", isReset: true },
    misses: {
      text: "kexec-fiwix: jumping to trampoline...\nFiwix kernel v1\n +> a\n +> b\n +> c\n",
      isReset: true,
    },
  },
  "illegal-instruction": {
    shows: { text: inBash("pass1.sh: line 3:   77 Illegal instruction     ./cc1") },
    misses: { text: inBash("as: an instruction that is illegal here") },
  },
  "missing-file": {
    shows: { text: inKaem("The file: ./M2libc/sys/types.h is not a valid input file name") },
    misses: { text: inKaem("The file: ./x is not a valid output file name") },
  },
  "configurator": {
    shows: {
      text: "(1) [MENU] Disk\nThe configuration option Arch is unset\n",
      end: ["stall", "the console has been silent for 1 s (--stall)"],
    },
    misses: {
      text: "Set this option in your configuration\n",
      end: ["stall", "the console has been silent for 1 s (--stall)"],
    },
  },
  "damaged-archive": {
    shows: { text: inKaem("bad header") },
    misses: { text: inKaem("a.h:3: bad header file") },
  },
  "patch-fails": {
    shows: { text: inBash("1 out of 3 hunks FAILED -- saving rejects to file a.c.rej") },
    misses: { text: inBash("Hunk #1 succeeded at 4 (offset 2 lines).") },
  },
  "missing-step": {
    shows: { text: inBash("Cannot cd into beta-2.0!") },
    misses: { text: inBash("cd: cannot change to beta-2.0") },
  },
};

test("every cause has a run that shows it and one that nearly does, and a name of its own", () => {
  const names = CAUSES.map(({ name }) => name);
  expect(Object.keys(EXAMPLES)).toEqual(names);
  expect(new Set(names).size).toBe(names.length);
});

describe("a cause is named where its sign is seen, and not where it is nearly seen:", () => {
  test.each(Object.entries(EXAMPLES))("%s", (name, { shows, misses }) => {
    const { verdict, cause } = judged(shows);
    expect([verdict, cause?.name]).toEqual(["failed", name]);
    for (const text of [cause!.text, ...cause!.tries]) expect(text).not.toMatch(/[{}]/);
    const other = judged(misses);
    expect(other.verdict).toBe("failed");
    expect(other.cause?.name).not.toBe(name);
  });
});

test("what to try is of use where a directory is run, too", () => {
  for (const { shows } of Object.values(EXAMPLES)) {
    const { tries } = judged({ ...shows, facts: { ...shows.facts, isDirectory: true } }).cause!;
    for (const text of tries) expect(text).not.toMatch(/seedstrap (?:image|preflight)/);
  }
  const { cause } = judged({ text: inKaem("bad header"), facts: { isDirectory: true } });
  expect(cause!.tries).toEqual(["Build again: every distfile is checked while it is written"]);
});

test("what a line says is in the text of its cause", () => {
  const text = failedDownload("curl: (6) Could not resolve host: mirror.example");
  expect(judged({ text }).cause!.text).toContain("could not resolve mirror.example:");
  const memory = judged({ text: " +> a\n", isReset: true, facts: { memoryMib: 512 } }).cause!;
  expect(memory.text).toStartWith("The machine has 512 MiB of memory;");
});

test("what a guest prints is no command in what to try", () => {
  const hostile = "x;touch${IFS}ran|$(touch${IFS}ran)`ran`&>'ran'";
  const text = failedDownload(`curl: (6) Could not resolve host: ${hostile}`);
  const { name, tries } = judged({ text }).cause!;
  expect([name, tries.at(-1)]).toEqual([
    "no-name-server",
    "Look whether this host resolves x: getent hosts x",
  ]);
  // Only these have something of a line in what to try.
  const taken = CAUSES.filter(({ tries }) => tries.some((text) => text.includes("{")))
    .map(({ name, line }) => [name, /(?<!\\)\((?!\?).*?\)/.exec(line!.source)![0]]);
  expect(taken).toEqual([["mirror-port", "(\\d+)"], ["no-name-server", "(\\w[\\w.-]*)"]]);
});

test("a sign counts only near the failure: what an earlier step has printed explains nothing", () => {
  const between = Array.from({ length: 60 }, (_, index) => `line ${index}\n`).join("");
  const text = `alpha-1.0.tar.gz does not exist!\n${between}${inBash("make: *** Error 1")}`;
  expect(judged({ text }).cause).toBeUndefined();
});

test("a run that is done or interrupted, or of which nothing is known, has no cause", () => {
  const watch = new RunWatch();
  watch.push(new TextEncoder().encode(inKaem("bad header")));
  const expected = { lastStep: undefined, switchesOff: true };
  const outcome = watch.judge(expected, { kind: "interrupted", why: "Interrupted" });
  expect(outcome).toMatchObject({ verdict: "interrupted" });
  expect(outcome.cause).toBeUndefined();
});

test("what to try names the target, whatever it is called", () => {
  const cause = { name: "a", text: "TARGET", tries: ["seedstrap run TARGET", "TARGETS"] };
  expect(withTarget(cause, "'a $& b'")).toEqual({
    name: "a",
    text: "TARGET",
    tries: ["seedstrap run 'a $& b'", "TARGETS"],
  });
});
