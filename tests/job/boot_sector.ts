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
 * A boot sector that prints a text on COM1, at 0x7C1A, and ends in one of the ways. Interrupts are
 * off, or the BIOS would print the rest of its own text in between.
 */
export function bootSector(text: string, end: keyof typeof ENDS): string {
  const hex = (bytes: Uint8Array) =>
    [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(" ");
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > 450) throw new Error("the text is too long for a boot sector");
  const zeros = new Uint8Array(510 - 26 - bytes.length);
  return `FA 31 C0 8E D8 BE 1A 7C BA F8 03 ; from here on each byte of the text
AC 84 C0 74 03 EE EB F8
${ENDS[end]}
${hex(bytes)} ${hex(zeros)} 55 AA
`;
}
