// SPDX-License-Identifier: MIT
/**
 * A guest that counts, in memory and on its disk, to see that both go on together.
 *
 * @module
 */

/**
 * Each round it reads its count from sector 1 of the disk, prints WRONG and halts if that is not
 * the one in memory, adds 1, writes it to the disk, and prints it as 4 hex digits and a newline.
 * Every 32 rounds it also prints a text, and when it has come to a limit another one, and resets.
 * A round takes a tick of the timer, some 55 ms. Assembled from:
 *
 *          xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x7c00; cld
 *          mov [0x7e00], ax; mov al, 10; call put; jmp first
 *   again: mov ax, 0x0201; mov bx, 0x8000; call disk
 *          mov ax, [0x8000]; cmp ax, [0x7e00]; jne bad
 *   first: inc word [0x7e00]; mov ax, 0x0301; mov bx, 0x7e00; call disk
 *          mov ax, [0x7e00]; mov cx, 4
 *   digit: rol ax, 4; push ax; and al, 15; cmp al, 10; sbb al, 0x69; das; call put; pop ax
 *          loop digit
 *          mov al, 10; call put
 *          mov si, texts; test byte [0x7e00], 31; jnz tick; call say
 *   tick:  sti; hlt; cmp word [0x7e00], LIMIT; jne again
 *          mov si, texts
 *   skip:  lodsb; test al, al; jnz skip
 *          call say; mov al, 0xfe; out 0x64, al; jmp stop
 *   bad:   mov si, wrong; call say
 *   stop:  cli; hlt
 *   disk:  mov cx, 2; mov dx, 0x80; int 0x13; ret
 *   say:   lodsb; test al, al; jz done; call put; jmp say
 *   put:   mov dx, 0x3f8; out dx, al
 *   done:  ret
 *   wrong: "WRONG", 10, 0
 *   texts: both, each ended by 0
 */
const CODE = `
31c08ed88ec08ed0bc007cfca3007eb0 0ae88000eb12b80102bb0080e86200a1 00803b06007e7551ff06007eb80103bb
007ee84c00a1007eb90400c1c0045024 0f3c0a1c692fe84b0058e2efb00ae843 00bea07cf606007e1f7503e82c00fbf4
813e007eff7f75aebea07cac84c075fb e81700b0fee664eb06be997ce80b00fa f4b90200ba8000cd13c3ac84c07409e8
0200ebf6baf803eec357524f4e470a00`;
const LIMIT_AT = 0x64;

/** What such a guest prints. */
export interface Counting {
  /** Every 32 rounds. */
  readonly text?: string;
  /** When it has come to the limit. */
  readonly last?: string;
  /** 1 to 0x7fff. */
  readonly limit?: number;
}

/** The boot sector of such a guest, 512 bytes. */
export function counter({ text = "", last = "", limit = 0x7fff }: Counting = {}): Uint8Array {
  const code = Uint8Array.from(
    CODE.replace(/\s/g, "").match(/../g)!.map((byte) => parseInt(byte, 16)),
  );
  const sector = new Uint8Array(512);
  sector.set(code);
  sector.set([limit % 256, Math.floor(limit / 256)], LIMIT_AT);
  const texts = new TextEncoder().encode(`${text}\0${last}\0`);
  if (code.length + texts.length > 510) throw new Error("the texts are too long");
  sector.set(texts, code.length);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** Counts in what such a guest has printed, without the last line, which may not be whole. */
export function countsIn(text: string): number[] {
  const lines = text.replaceAll("\r", "").split("\n").slice(0, -1);
  return lines.flatMap((line) => /^[0-9A-F]{4}$/.test(line) ? [parseInt(line, 16)] : []);
}
