// SPDX-License-Identifier: MIT
/**
 * A guest that counts, in memory and on its disk, to see that both go on together.
 *
 * @module
 */

/**
 * Each round it reads its count from sector 1 of the disk, prints WRONG and halts if that is not
 * the one in memory, adds 1, writes it to the disk, and prints it as 4 hex digits and a newline.
 * Whenever the lower byte has come to 0, it also prints a text. A round takes a tick of the timer,
 * some 55 ms. Assembled from:
 *
 *          xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x7c00; cld
 *          mov [0x7e00], ax; mov al, 10; call put
 *   again: mov ax, 0x0201; mov bx, 0x8000; call disk
 *          mov ax, [0x8000]; cmp ax, [0x7e00]; jne bad
 *          inc word [0x7e00]; mov ax, 0x0301; mov bx, 0x7e00; call disk
 *          mov ax, [0x7e00]; mov cx, 4
 *   digit: rol ax, 4; push ax; and al, 15; cmp al, 10; sbb al, 0x69; das; call put; pop ax
 *          loop digit
 *          mov al, 10; call put
 *          cmp byte [0x7e00], 0; jne tick; mov si, text; call say
 *   tick:  sti; hlt; jmp again
 *   bad:   mov si, wrong; call say; cli; hlt
 *   disk:  mov cx, 2; mov dx, 0x80; int 0x13; ret
 *   say:   lodsb; test al, al; jz done; call put; jmp say
 *   put:   mov dx, 0x3f8; out dx, al
 *   done:  ret
 *   wrong: "WRONG", 10, 0
 *   text:
 */
const CODE = `
31c08ed88ec08ed0bc007cfca3007eb0 0ae86700b80102bb0080e84b00a10080 3b06007e753aff06007eb80103bb007e
e83500a1007eb90400c1c00450240f3c 0a1c692fe8340058e2efb00ae82c0080 3e007e007506be877ce81500fbf4ebb4
be807ce80b00faf4b90200ba8000cd13 c3ac84c07409e80200ebf6baf803eec3 57524f4e470a00`;

/** The boot sector of such a guest, 512 bytes. */
export function counter(text: string): Uint8Array {
  const code = Uint8Array.from(
    CODE.replace(/\s/g, "").match(/../g)!.map((byte) => parseInt(byte, 16)),
  );
  const sector = new Uint8Array(512);
  sector.set(code);
  sector.set(new TextEncoder().encode(`${text}\n`), code.length);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** Counts in what such a guest has printed, without the last line, which may not be whole. */
export function countsIn(text: string): number[] {
  const lines = text.split("\n").slice(0, -1);
  return lines.flatMap((line) => /^[0-9A-F]{4}$/.test(line) ? [parseInt(line, 16)] : []);
}
