// SPDX-License-Identifier: MIT
/**
 * Boot sectors that print a text, and then end in some way: all of a guest that a test needs.
 *
 * @module
 */

/** What a boot sector does when it has printed its text. */
export const ENDS = {
  /** Resets by the keyboard controller. */
  reset: "B0 FE E6 64 F4 EB FD",
  /** Loads an empty interrupt table and takes an interrupt: a triple fault. */
  fault: "0F 01 1E F0 7D CC F4",
  hang: "FA F4 EB FD 90 90 90",
} as const;

/**
 * A boot sector that writes to its disk, from 1 MiB on, 127 sectors at a time, until it is ended:
 * INT 13h, AH=43h, with the packet at 0x7C17.
 */
export function writingSector(): string {
  const zeros = Array(510 - 23 - 16).fill("00").join(" ");
  return `FB 31 C0 8E D8 ; and the loop
BE 17 7C B8 00 43 B2 80 CD 13 66 83 06 1F 7C 7F EB EE
10 00 7F 00 00 00 00 10 00 08 00 00 00 00 00 00
${zeros} 55 AA
`;
}

/**
 * A boot sector that prints a text on COM1, at 0x7C25, and ends in one of the ways. Interrupts are
 * off, or the BIOS would print the rest of its own text in between. It waits until a byte is sent:
 * QEMU loses the next one where its reader is slow.
 */
export function bootSector(text: string, end: keyof typeof ENDS): string {
  const hex = (bytes: Uint8Array) =>
    [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(" ");
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > 450) throw new Error("the text is too long for a boot sector");
  const zeros = new Uint8Array(510 - 37 - bytes.length);
  return `FA 31 C0 8E D8 BE 25 7C ; from here on each byte of the text
AC 84 C0 74 11 88 C4 BA FD 03 EC A8 20 74 FB B2 F8 88 E0 EE EB EA
${ENDS[end]}
${hex(bytes)} ${hex(zeros)} 55 AA
`;
}
