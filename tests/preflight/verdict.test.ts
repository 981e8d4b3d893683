// SPDX-License-Identifier: MIT
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { crc32 } from "node:zlib";
import { afterAll, describe, expect, test } from "bun:test";
import { assemble } from "../../scripts/preflight/hex0.ts";
import {
  boot,
  composeImage,
  composePayload,
  ide,
  type ImageOptions,
  MIB,
  QEMU,
  type Report,
  srcfsOffset,
  stageText,
} from "./boot.ts";

const noQemu = spawnSync(QEMU, ["--version"]).status !== 0;
if (noQemu) console.warn(`skipped: the boots of preflight need ${QEMU}`);
const noSlow = process.env["SEEDSTRAP_ACCEPTANCE"] !== "1";
if (noSlow) {
  console.warn(
    "skipped: boots that take long (3 GiB of memory, USB 1) need SEEDSTRAP_ACCEPTANCE=1",
  );
}

const dir = mkdtempSync(join(tmpdir(), "preflight-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let files = 0;
function write(bytes: Uint8Array, sizeBytes = bytes.length): string {
  const path = join(dir, `${files++}.img`);
  writeFileSync(path, bytes);
  truncateSync(path, sizeBytes);
  return path;
}

const NO_MEMORY = "payload=0 memory=0 ";
const PAYLOAD = "payload=1 memory=0 ";

/** Composes an image without the memory test, so that its boot takes half a second. */
function image(options: ImageOptions = {}): Uint8Array {
  return composeImage({ expectations: NO_MEMORY, ...options });
}

/** Returns a copy with one bit of the byte at `offset` flipped. */
function flipped(bytes: Uint8Array, offset: number): Uint8Array {
  const copy = bytes.slice();
  copy[offset] = (copy[offset] ?? 0) ^ 1;
  return copy;
}

function hexCrc(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).toUpperCase().padStart(8, "0");
}

const random = (size: number) => Uint8Array.from({ length: size }, (_, i) => (i * 40503) >>> 8);
const FILES = [["bash-5.2.15.tar.gz", random(70_000)], ["empty", random(0)], [
  "linux-6.6.tar.xz",
  random(300_001),
]] as const;
const FILES_BYTES = 370_001;
const PACKED_BYTES = 16 + FILES.reduce((sum, [name]) => sum + 16 + name.length, 0) + FILES_BYTES;
/** CRC-32 of the payload of layout 64, without the zeros after it. */
const FILES_CRC = hexCrc(composePayload(64, FILES).subarray(0, PACKED_BYTES));

/** Returns the arguments for a disk that is not an IDE one, on a given controller. */
function attached(path: string, device: string, ...controller: string[]): string[] {
  return [
    ...controller,
    ...["-drive", `file=${path},format=raw,if=none,id=stick,snapshot=on`],
    ...["-device", `${device},drive=stick,bootindex=0`],
  ];
}

/** Returns the arguments for an IDE disk that fails to read one sector, always or once. */
function failing(path: string, sector: number, once: boolean, index = 0): string[] {
  const error = {
    event: "read_aio",
    errno: 5,
    sector,
    once: once ? "on" : "off",
  };
  const injected = Object.entries(error).map(([key, value]) =>
    `file.inject-error.0.${key}=${value}`
  );
  return [
    "-drive",
    ["driver=raw,file.driver=blkdebug", `file.image.filename=${path}`, ...injected].join(",") +
    `,if=ide,index=${index}`,
  ];
}

const noBinutils = ["as", "ld", "objcopy"].some((tool) =>
  spawnSync(tool, ["--version"]).status !== 0
);
if (noBinutils) console.warn("skipped: boots under a modified BIOS need binutils");

/** Returns arguments for a first disk that changes the BIOS, see hook.S, and boots the second. */
function spoilt(symbols: Readonly<Record<string, number>>, bootDisk: string): string[] {
  const { bytes } = assemble(join(import.meta.dirname ?? ".", "hook.S"), 0x7c00, {
    RAM: 0,
    SECTOR: 0,
    NO_EDD: 0,
    A20: 0,
    ...symbols,
  });
  return [...ide(write(bytes, MIB), 0), ...ide(bootDisk, 1)];
}

const lineOf = (report: Report, topic: string) =>
  report.lines.find((line) => line.startsWith(topic));

const MATRIX: readonly {
  readonly name: string;
  /** Called when the test runs. */
  readonly args: () => string[];
  readonly verdict: string;
  /** Patterns that must occur in the report. */
  readonly says?: readonly RegExp[];
  readonly memoryMib?: number;
  readonly slow?: boolean;
}[] = [
  {
    name: "a healthy 4 GiB machine with its memory tested",
    args: () => ide(write(composeImage()), 0),
    verdict: "ok",
    says: [
      /boot drive=80 sectors=4096 entries=5 commands=0 bytes=700022 .* crc=ok state=ok/,
      /memory spans=1 places=49132 passes=4 faults=0 state=ok/,
      /ram use=files .* free=1811808256 state=short/,
    ],
    slow: true,
  },
  { name: "an IDE boot disk", args: () => ide(write(image()), 0), verdict: "ok" },
  {
    name: "an AHCI boot disk",
    args: () => attached(write(image()), "ide-hd,bus=ahci.0", "-device", "ahci,id=ahci"),
    verdict: "ok",
  },
  {
    name: "a USB stick on xHCI",
    args: () => attached(write(image()), "usb-storage", "-device", "qemu-xhci"),
    verdict: "ok",
  },
  {
    name: "a USB stick on EHCI",
    args: () => attached(write(image()), "usb-storage", "-device", "usb-ehci"),
    verdict: "ok",
  },
  {
    name: "a USB stick on UHCI",
    args: () => attached(write(image()), "usb-storage", "-device", "piix3-usb-uhci"),
    verdict: "ok",
    slow: true,
  },
  {
    name: "a virtio boot disk",
    args: () => attached(write(image()), "virtio-blk-pci"),
    verdict: "ok",
  },
  {
    name: "a machine whose BIOS sends the screen to COM1 too",
    args: () => ["-machine", "graphics=off", ...ide(write(image()), 0)],
    verdict: "ok",
  },
  {
    name: "a machine without a graphics card",
    args: () => ["-vga", "none", ...ide(write(image()), 0)],
    verdict: "ok",
  },
  {
    name: "q35 with 4 GiB, which has its RAM below 2 GiB and above 4 GiB",
    args: () => ["-M", "q35", ...ide(write(image()), 0)],
    verdict: "failed memory-map",
    says: [/ram use=files .* free=738062336 state=taken/],
  },
  {
    name: "q35, where less space for files is enough",
    args:
      () => ["-M", "q35", ...ide(write(image({ expectations: "memory=0 files=700000000 " })), 0)],
    verdict: "ok",
    says: [/ram use=files .* state=short/],
  },
  {
    name: "2 GiB of memory",
    args: () => ide(write(image()), 0),
    memoryMib: 2048,
    verdict: "failed memory-map",
    says: [/ram use=saved .* state=free/, /ram use=files .* free=738066432 state=taken/],
  },
  {
    name: "a small machine with its memory tested",
    args: () => ide(write(composeImage()), 0),
    memoryMib: 256,
    verdict: "failed memory-map",
    says: [/memory spans=1 places=\d+ passes=4 faults=0 state=ok/],
  },
  {
    name: "an empty srcfs",
    args: () => ide(write(image({ entries: [] })), 0),
    verdict: "ok",
    says: [/entries=0 commands=0 bytes=0 /],
  },
  {
    name: "a stage 2 that ends with its sector",
    args: () => {
      const text = stageText("stage2");
      const comment = "#".padEnd(1023 - text.length % 512, "-") + "\n";
      return ide(write(image({ stage2: text + comment })), 0);
    },
    verdict: "ok",
  },
  {
    name: "a boot image truncated in the srcfs",
    args: () => ide(write(image(), srcfsOffset(stageText("stage2")) + 300_032), 0),
    memoryMib: 256,
    verdict: "failed boot-truncated,memory-map",
    says: [/crc=unknown state=truncated/],
  },
  {
    name: "a boot image truncated in stage 2",
    args: () => ide(write(image(), 40_960), 0),
    verdict: "failed boot-read",
    says: [/stage1 lba=00000050 status=0[1-9A-F]/],
  },
  {
    name: "a boot image truncated in the zeros after the srcfs",
    args: () => ide(write(image(), 3 * MIB / 2), 0),
    verdict: "failed boot-tail",
    says: [/crc=ok state=tail-short/],
  },
  {
    name: "one byte flipped in the middle of the srcfs",
    args: () => ide(write(flipped(image(), srcfsOffset(stageText("stage2")) + 350_000)), 0),
    verdict: "failed crc",
    says: [/crc=bad found=[0-9A-F]{8} expected=[0-9A-F]{8} state=ok/],
  },
  {
    name: "one byte flipped in a comment of stage 2",
    args: () => ide(write(flipped(image(), 512 + stageText("stage2").indexOf("preflight"))), 0),
    verdict: "failed crc",
  },
  {
    name: "one byte flipped in the code of stage 2",
    args: () => {
      const at = stageText("stage2").search(/^31 DB/m);
      expect(at).toBeGreaterThan(0);
      return ide(write(flipped(image(), 512 + at)), 0);
    },
    verdict: "failed stage2",
  },
  {
    name: "one byte flipped in a size in the srcfs",
    args: () => {
      const bytes = image();
      const at = new TextDecoder("latin1").decode(bytes).indexOf("src 700001 ./steps/large");
      return ide(write(flipped(bytes, at + 4)), 0);
    },
    memoryMib: 256,
    verdict: "failed srcfs,memory-map",
    says: [/state=malformed/],
  },
  {
    name: "one byte flipped in the expectations",
    args: () => {
      const bytes = image();
      const at = new TextDecoder("latin1").decode(bytes).indexOf("memory=0 crc32");
      return ide(write(flipped(bytes, at + 7)), 0);
    },
    memoryMib: 256,
    verdict: "failed crc,memory-map",
  },
  {
    name: "an image without a checksum",
    args: () => ide(write(image({ trailer: false })), 0),
    memoryMib: 256,
    verdict: "failed crc-absent,memory-map",
    says: [/crc=absent state=ok/],
  },
  {
    name: "an unknown expectation",
    args: () => ide(write(image({ expectations: "memory=0 colour=red " })), 0),
    verdict: "failed srcfs",
  },
  {
    name: "a sector of the boot disk that cannot be read",
    args: () => failing(write(image()), 1000, false),
    memoryMib: 256,
    verdict: "failed boot-read,memory-map",
    says: [/crc=unknown state=unreadable lba=1000 status=[0-9A-F]{2}/],
  },
  {
    name: "a sector of stage 2 that cannot be read",
    args: () => failing(write(image()), 90, false),
    verdict: "failed boot-read",
  },
  {
    name: "a sector of the boot disk that is read at the second try",
    args: () => failing(write(image()), 1000, true),
    verdict: "ok",
    says: [/retries=1 crc=ok/],
  },
  {
    name: "a required payload that is missing",
    args: () => [...ide(write(image({ expectations: PAYLOAD })), 0), ...ide(write(random(MIB)), 1)],
    verdict: "failed payload-missing",
    says: [/payloads found=0 required=1/],
  },
  ...([32, 64] as const).flatMap((layout) =>
    [1, 2].map((index) => ({
      name: `a payload of layout ${layout} on disk ${index + 1}`,
      args: () => [
        ...ide(write(image({ expectations: PAYLOAD })), 0),
        ...(index === 2 ? ide(write(random(MIB)), 1) : []),
        ...ide(write(composePayload(layout, FILES)), index),
      ],
      verdict: "ok",
      says: [
        new RegExp(
          `payload drive=8${index} at=0 layout=${layout} files=3 of=3 bytes=${FILES_BYTES} .* state=ok`,
        ),
      ],
    }))
  ),
  {
    name: "a payload in a partition of a USB stick",
    args: () => {
      const disk = new Uint8Array(3 * MIB);
      disk.set([0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0], 446);
      disk.set([0x55, 0xaa], 510);
      disk.set(composePayload(64, FILES), MIB);
      return [
        ...ide(write(image({ expectations: PAYLOAD })), 0),
        ...["-device", "qemu-xhci", "-device", "usb-storage,drive=data"],
        ...["-drive", `file=${write(disk)},format=raw,if=none,id=data,snapshot=on`],
      ];
    },
    verdict: "ok",
    says: [/payload drive=81 at=1048576 layout=64 files=3 of=3/],
  },
  ...([32, 64] as const).map((layout) => ({
    name: `a payload of layout ${layout} whose disk ends too soon`,
    args: () => [
      ...ide(write(image({ expectations: PAYLOAD })), 0),
      ...ide(write(composePayload(layout, FILES), 200_192), 1),
    ],
    verdict: "failed payload-missing,payload-truncated",
    says: [/payload drive=81 at=0 .* files=2 of=3 bytes=70000 .* state=truncated/],
  })),
  {
    name: "a damaged payload that is not required",
    args: () => [
      ...ide(write(image()), 0),
      ...ide(write(composePayload(64, [["a/b", random(10)]])), 1),
    ],
    verdict: "failed payload-malformed",
    says: [/payload drive=81 .* files=0 of=1 .* state=malformed/],
  },
  {
    name: "a payload that is read whole",
    args: () => [
      ...ide(write(image({ expectations: `${PAYLOAD}read=1 ` })), 0),
      ...ide(write(composePayload(64, FILES)), 1),
    ],
    verdict: "ok",
    says: [new RegExp(`payload drive=81 .* state=ok crc=${FILES_CRC}$`, "m")],
  },
  {
    name: "a payload whose middle cannot be read",
    args: () => [
      ...ide(write(image({ expectations: `${PAYLOAD}read=1 ` })), 0),
      ...failing(write(composePayload(64, FILES)), 300, false, 1),
    ],
    verdict: "failed payload-missing,payload-read",
    says: [/payload drive=81 .* files=3 of=3 .* state=unreadable lba=300 status=/],
  },
  {
    name: "a payload without files",
    args: () => [
      ...ide(write(image({ expectations: PAYLOAD })), 0),
      ...ide(write(composePayload(64, [])), 1),
    ],
    verdict: "ok",
    says: [/layout=64 files=0 of=0 bytes=0 end=16 state=ok/],
  },
  {
    name: "a payload past 4 GiB",
    args: () => {
      const gib = 1024 * MIB;
      const path = write(new Uint8Array(0), 6 * gib);
      const head = new Uint8Array(33);
      const view = new DataView(head.buffer);
      head.set(new TextEncoder().encode("LBPAYLD1"));
      view.setUint32(8, 1, true);
      view.setUint32(16, 1, true);
      view.setBigUint64(24, BigInt(5 * gib), true);
      head.set(new TextEncoder().encode("x"), 32);
      writeFileSync(path, head, { flag: "r+" });
      return [...ide(write(image({ expectations: PAYLOAD })), 0), ...ide(path, 1)];
    },
    verdict: "ok",
    says: [/files=1 of=1 bytes=5368709120 end=5368709153 state=ok/],
  },
];

const SPOILT: typeof MATRIX = [
  {
    name: "a BIOS that reports the correct memory",
    args: () => spoilt({}, write(image())),
    verdict: "ok",
    says: [/boot drive=81 .* crc=ok state=ok/],
  },
  {
    name: "a BIOS that reports RAM where there is none",
    args: () => spoilt({ RAM: 1 }, write(composeImage())),
    memoryMib: 2800,
    verdict: "failed memory-map,memory",
    says: [/memory spans=2 .* faults=\d+ state=bad at=AF[0-9A-F]{6} wrote=AF[0-9A-F]{6} read=/],
    slow: true,
  },
  {
    name: "a boot disk with sectors of 4096 bytes",
    args: () => spoilt({ SECTOR: 0x81 }, write(image())),
    memoryMib: 256,
    verdict: "failed boot-drive,memory-map",
    says: [/crc=unknown state=unsupported/, /disk drive=81 .* sector-bytes=4096 state=unsupported/],
  },
  {
    name: "a payload disk with sectors of 4096 bytes",
    args: () => [
      ...spoilt({ SECTOR: 0x82 }, write(image({ expectations: PAYLOAD }))),
      ...ide(write(composePayload(64, FILES)), 2),
    ],
    verdict: "failed payload-missing",
    says: [/disk drive=82 .* sector-bytes=4096 state=unsupported/],
  },
  {
    name: "a payload disk without extensions",
    args: () => [
      ...spoilt({ NO_EDD: 0x82 }, write(image({ expectations: PAYLOAD }))),
      ...ide(write(composePayload(64, FILES)), 2),
    ],
    verdict: "failed payload-missing",
    says: [/disk drive=82 .* state=no-edd/],
  },
  {
    name: "address line 20 disabled until the BIOS enables it",
    args: () => spoilt({ A20: 1 }, write(composeImage())),
    memoryMib: 256,
    verdict: "failed memory-map",
    says: [/memory spans=1 .* state=ok/],
  },
  {
    name: "address line 20 disabled permanently",
    args: () => spoilt({ A20: 2 }, write(composeImage())),
    memoryMib: 256,
    verdict: "failed a20,memory-map",
    says: [/memory a20=off state=untested/],
  },
];

describe.skipIf(noQemu)("preflight boots", () => {
  for (const row of [...MATRIX, ...(noBinutils ? [] : SPOILT)]) {
    test.skipIf(row.slow === true && noSlow)(row.name, async () => {
      const { memoryMib = 4096 } = row;
      const report = await boot(row.args(), { memoryMib });
      if (report.verdict !== row.verdict) console.log(report.text);
      expect(report.verdict).toBe(row.verdict);
      for (const part of row.says ?? []) expect(report.text).toMatch(part);
      expect(report.status).toBe(0);
      expect(lineOf(report, "verdict")).toBe(`verdict ${row.verdict}`);
    }, 120_000);
  }

  test("the exit status of isa-debug-exit is 33 for ok and 35 for failed", async () => {
    const device = ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"];
    const good = await boot([...device, ...ide(write(image()), 0)]);
    const bad = await boot([...device, ...ide(write(image({ expectations: PAYLOAD })), 0)]);
    expect([good.status, bad.status]).toEqual([33, 35]);
  }, 120_000);
});

// A socket takes about 278 single characters that nobody reads; then COM1 is busy.
test.skipIf(noQemu)("preflight waits for a slow reader of COM1", async () => {
  const path = join(dir, "com1.socket");
  const { promise, resolve } = Promise.withResolvers<string>();
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    let text = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => text += chunk)
      .on("close", () => resolve(text));
    // It waits for a number of looks at the port, which are over in 3 s where QEMU is fast.
    setTimeout(() => socket.resume(), 1000);
  }).listen(path);
  await boot(ide(write(image()), 0), { serial: `unix:${path}` });
  server.close();
  expect(await promise).toEndWith("preflight: verdict ok\r\n");
}, 120_000);
