// SPDX-License-Identifier: MIT
/**
 * The program that is booted to find out whether QEMU can run builder-hex0 and the kernels after
 * it. A KVM that runs Linux may still be unable to run these: what a processor does not do by itself
 * in real mode, and in protected mode without paging, the kernel of the host has to emulate.
 *
 *   sector 0      the boot sector, which reads the next three
 *   sectors 1-3   the rest of the program
 *   sectors 8-71  what it reads, one by one; each begins with its own number (u32, little-endian)
 *
 * It prints `doctor: WORD` on COM1 for each of {@link GUEST_STAGES}, and ends QEMU through
 * isa-debug-exit: with 33, or with 35 where something is not as it must be.
 *
 * @module
 */

import { assembleHex0 } from "../format/hex0.ts";
import { MIB, SECTOR_BYTES } from "../format/segment.ts";

/** What the program prints, in this order, and what it has done by then. */
export const GUEST_STAGES: readonly (readonly [word: string, what: string])[] = [
  ["real", "real mode"],
  ["disk", "reading the disk through the BIOS"],
  ["protected", "protected mode"],
  ["switches", "going to real mode and back for each sector"],
  ["interrupt", "an interrupt in protected mode"],
  ["paging", "paging"],
  ["user", "a program in ring 3, and its system call"],
];

/** Sectors that it reads, and the first of them. */
const SECTORS = 64;
const FIRST_SECTOR = 8;

/**
 * The program: its bytes, and the assembler source of each line as a comment.
 *
 * A test assembles the comments, and compares.
 */
export const GUEST_LISTING: string = String.raw`
# .intel_syntax noprefix
# .code16
# .text

# .equ COM1, 0x3F8
# .equ DEBUG_EXIT, 0xF4            # isa-debug-exit: QEMU ends with 2 * value + 1
# .equ SECTORS, 64                 # how many are read, each in real mode
# .equ FIRST, 8                    # the first of them; each begins with its own number
# .equ BUFFER, 0x1000              # where a sector is read to
# .equ HIGH, 0x200000              # where 32-bit code copies it to, past 1 MiB
# .equ PAGE_DIRECTORY, 0x10000
# .equ PAGE_TABLE, 0x11000
# .equ TSS, 0x12000
# .equ IDT, 0x13000

#------------------------------------------------------------
# Real mode. The BIOS has read this sector only, and DL is the drive.
#:start  [7C00]
FA                             # cli                          ; or the BIOS would print in between
31 C0                          # xor ax, ax
8E D8                          # mov ds, ax
8E C0                          # mov es, ax
8E D0                          # mov ss, ax
BC 00 7B                       # mov sp, 0x7B00
EA 11 7C 00 00                 # ljmp 0, offset main
#:main  [7C11]
FC                             # cld
88 16 80 7C                    # mov [drive], dl
BE 81 7C                       # mov si, offset said_real
E8 2D 00                       # call say16
BE 60 7C                       # mov si, offset packet        ; the sectors of this program after the first
8A 16 80 7C                    # mov dl, [drive]
B4 42                          # mov ah, 0x42
FB                             # sti
CD 13                          # int 0x13
FA                             # cli
72 2A                          # jc failed16
BE 90 7C                       # mov si, offset said_disk
E8 18 00                       # call say16
B8 01 24                       # mov ax, 0x2401               ; A20 on
CD 15                          # int 0x15
FA                             # cli
0F 01 16 72 80                 # lgdt [gdt_place]
0F 20 C0                       # mov eax, cr0
0C 01                          # or al, 1
0F 22 C0                       # mov cr0, eax
EA 00 7E 08 00                 # ljmp 0x08, offset protected

#:say16  [7C49]
BA F8 03                       # mov dx, COM1
AC                             # lodsb
84 C0                          # test al, al
74 03                          # jz say16_end
EE                             # out dx, al
EB F5                          # jmp say16
#:say16_end  [7C54]
C3                             # ret

#:failed16  [7C55]
BE 9F 7C                       # mov si, offset said_failed
E8 EE FF                       # call say16
B0 11                          # mov al, 17
E6 F4                          # out DEBUG_EXIT, al
F4                             # hlt

#:packet  [7C60]
10 00                          # .byte 16, 0                  ; a request of the BIOS: its size
03 00 00 7E 00 00              # .word 3, 0x7E00, 0           ; sectors, where to
01 00 00 00 00 00 00 00        # .long 1, 0                   ; the first of them
#:sector_packet  [7C70]
10 00                          # .byte 16, 0
01 00 00 10 00 00              # .word 1, BUFFER, 0
#:sector_number  [7C78]
08 00 00 00 00 00 00 00        # .long FIRST, 0
#:drive  [7C80]
00                             # .byte 0
#:said_real  [7C81]
64 6F 63 74 6F 72 3A 20 72 65  # .ascii "doctor: real\r\n\0"
61 6C 0D 0A 00
#:said_disk  [7C90]
64 6F 63 74 6F 72 3A 20 64 69  # .ascii "doctor: disk\r\n\0"
73 6B 0D 0A 00
#:said_failed  [7C9F]
64 6F 63 74 6F 72 3A 20 66 61  # .ascii "doctor: failed\r\n\0"
69 6C 65 64 0D 0A 00

00 00 00 00 00 00 00 00 00 00  # .org 510
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00 00 00 00 00 00 00
00 00 00 00
55 AA                          # .byte 0x55, 0xAA

#------------------------------------------------------------
# Protected mode: flat segments, no paging, interrupts off.
# .code32
#:protected  [7E00]
B8 10 00 00 00                 # mov eax, 0x10
8E D8                          # mov ds, eax
8E C0                          # mov es, eax
8E D0                          # mov ss, eax
8E E0                          # mov fs, eax
8E E8                          # mov gs, eax
BC 00 70 00 00                 # mov esp, 0x7000
BE 88 80 00 00                 # mov esi, offset said_protected
E8 8A 01 00 00                 # call say

# Reads sectors one by one: to real mode and back for each, as builder-hex0 does it, and copies
# them past 1 MiB, where they must stay what they are.
B9 40 00 00 00                 # mov ecx, SECTORS
#:next_sector  [7E23]
51                             # push ecx
E8 8D 01 00 00                 # call read_sector
BE 00 10 00 00                 # mov esi, BUFFER
8B 3D 78 7C 00 00              # mov edi, [sector_number]
39 3E                          # cmp [esi], edi               ; it begins with its number
0F 85 54 01 00 00              # jne failed
C1 E7 09                       # shl edi, 9
81 C7 00 00 20 00              # add edi, HIGH
B9 80 00 00 00                 # mov ecx, 128
F3 A5                          # rep movsd
FF 05 78 7C 00 00              # inc dword ptr [sector_number]
59                             # pop ecx
49                             # dec ecx
75 CD                          # jnz next_sector
B9 40 00 00 00                 # mov ecx, SECTORS
B8 08 00 00 00                 # mov eax, FIRST
#:check_copy  [7E60]
89 C7                          # mov edi, eax
C1 E7 09                       # shl edi, 9
39 87 00 00 20 00              # cmp [edi + HIGH], eax
0F 85 1F 01 00 00              # jne failed
40                             # inc eax
49                             # dec ecx
75 EB                          # jnz check_copy
BE 9C 80 00 00                 # mov esi, offset said_switches
E8 29 01 00 00                 # call say

# An interrupt of its own, and paging with pages of 4 KiB for the first 4 MiB.
BF 00 30 01 00                 # mov edi, IDT                 ; all zeros but for vector 0x80
31 C0                          # xor eax, eax
B9 00 02 00 00                 # mov ecx, 512
F3 AB                          # rep stosd
B8 6F 7F 08 00                 # mov eax, offset system_call + 0x80000
A3 00 34 01 00                 # mov [IDT + 0x80 * 8], eax
C7 05 04 34 01 00 00 EE 00 00  # mov dword ptr [IDT + 0x80 * 8 + 4], 0xEE00
0F 01 1D 78 80 00 00           # lidt [idt_place]
BB 01 00 00 00                 # mov ebx, 1
CD 80                          # int 0x80
83 FB 02                       # cmp ebx, 2                   ; the handler has added one
0F 85 D8 00 00 00              # jne failed
BE AF 80 00 00                 # mov esi, offset said_interrupt
E8 E6 00 00 00                 # call say
BF 00 10 01 00                 # mov edi, PAGE_TABLE
B8 07 00 00 00                 # mov eax, 7                   ; present, writable, for the user
#:next_page  [7ECC]
AB                             # stosd
05 00 10 00 00                 # add eax, 0x1000
81 FF 00 20 01 00              # cmp edi, PAGE_TABLE + 0x1000
75 F2                          # jne next_page
BF 00 00 01 00                 # mov edi, PAGE_DIRECTORY
B8 07 10 01 00                 # mov eax, PAGE_TABLE + 7
AB                             # stosd
31 C0                          # xor eax, eax
B9 FF 03 00 00                 # mov ecx, 1023
F3 AB                          # rep stosd
B8 00 00 01 00                 # mov eax, PAGE_DIRECTORY
0F 22 D8                       # mov cr3, eax
0F 20 C0                       # mov eax, cr0
0D 00 00 00 80                 # or eax, 0x80000000
0F 22 C0                       # mov cr0, eax
EB 00                          # jmp paged
#:paged  [7F03]
BE C3 80 00 00                 # mov esi, offset said_paging
E8 9B 00 00 00                 # call say

# A program of the user, as under Fiwix: ring 3, and back by a system call.
BF 00 20 01 00                 # mov edi, TSS
31 C0                          # xor eax, eax
B9 1A 00 00 00                 # mov ecx, 26
F3 AB                          # rep stosd
C7 05 04 20 01 00 00 70 00 00  # mov dword ptr [TSS + 4], 0x7000
C7 05 08 20 01 00 10 00 00 00  # mov dword ptr [TSS + 8], 0x10
B8 38 00 00 00                 # mov eax, 0x38
0F 00 D8                       # ltr ax
B8 33 00 00 00                 # mov eax, 0x33
8E D8                          # mov ds, eax
8E C0                          # mov es, eax
6A 33                          # push 0x33                    ; SS
68 00 60 00 00                 # push 0x6000                  ; ESP
6A 02                          # push 2                       ; EFLAGS
6A 2B                          # push 0x2B                    ; CS
68 51 7F 00 00                 # push offset user
CF                             # iretd
#:user  [7F51]
68 34 12 00 00                 # push 0x1234
5B                             # pop ebx
CD 80                          # int 0x80
81 FB 35 12 00 00              # cmp ebx, 0x1235
75 07                          # jne user_failed
BB FF FF FF FF                 # mov ebx, -1                  ; the call that ends
CD 80                          # int 0x80
#:user_failed  [7F68]
BB FE FF FF FF                 # mov ebx, -2
CD 80                          # int 0x80

#:system_call  [7F6F]
43                             # inc ebx
74 06                          # jz ended                     ; was -1
83 FB FF                       # cmp ebx, -1
74 19                          # je failed
CF                             # iretd
#:ended  [7F78]
B8 10 00 00 00                 # mov eax, 0x10
8E D8                          # mov ds, eax
8E C0                          # mov es, eax
BE D4 80 00 00                 # mov esi, offset said_user
E8 1D 00 00 00                 # call say
B0 10                          # mov al, 16
E6 F4                          # out DEBUG_EXIT, al
F4                             # hlt

#:failed  [7F90]
B8 10 00 00 00                 # mov eax, 0x10
8E D8                          # mov ds, eax
8E C0                          # mov es, eax
BE 9F 7C 00 00                 # mov esi, offset said_failed
E8 05 00 00 00                 # call say
B0 11                          # mov al, 17
E6 F4                          # out DEBUG_EXIT, al
F4                             # hlt

#:say  [7FA8]
BA F8 03 00 00                 # mov edx, COM1
AC                             # lodsb
84 C0                          # test al, al
74 03                          # jz say_end
EE                             # out dx, al
EB F3                          # jmp say
#:say_end  [7FB5]
C3                             # ret

#------------------------------------------------------------
# Reads the sector of sector_packet. The way to real mode is through 16-bit protected mode, so that
# the limits of the segments are those of real mode; builder-hex0 goes that way for each character
# that it prints, and for each sector.
#:read_sector  [7FB6]
89 25 84 80 00 00              # mov [saved_esp], esp
FA                             # cli
EA C4 7F 00 00 18 00           # ljmp 0x18, offset narrow
# .code16
#:narrow  [7FC4]
B8 20 00                       # mov ax, 0x20
8E D0                          # mov ss, ax
8E D8                          # mov ds, ax
8E C0                          # mov es, ax
8E E0                          # mov fs, ax
8E E8                          # mov gs, ax
BC 00 7B                       # mov sp, 0x7B00
0F 20 C0                       # mov eax, cr0
66 83 E0 FE                    # and eax, 0xFFFFFFFE
0F 22 C0                       # mov cr0, eax
EA E3 7F 00 00                 # ljmp 0, offset real
#:real  [7FE3]
31 C0                          # xor ax, ax
8E D8                          # mov ds, ax
8E C0                          # mov es, ax
8E D0                          # mov ss, ax
8E E0                          # mov fs, ax
8E E8                          # mov gs, ax
BC 00 7B                       # mov sp, 0x7B00
0F 01 1E 7E 80                 # lidt [real_idt_place]
FB                             # sti
BE 70 7C                       # mov si, offset sector_packet
8A 16 80 7C                    # mov dl, [drive]
B4 42                          # mov ah, 0x42
CD 13                          # int 0x13
FA                             # cli
0F 82 4D FC                    # jc failed16
0F 01 16 72 80                 # lgdt [gdt_place]
0F 20 C0                       # mov eax, cr0
66 83 C8 01                    # or eax, 1
0F 22 C0                       # mov cr0, eax
EA 1C 80 08 00                 # ljmp 0x08, offset back
# .code32
#:back  [801C]
B8 10 00 00 00                 # mov eax, 0x10
8E D8                          # mov ds, eax
8E C0                          # mov es, eax
8E D0                          # mov ss, eax
8E E0                          # mov fs, eax
8E E8                          # mov gs, eax
8B 25 84 80 00 00              # mov esp, [saved_esp]
C3                             # ret

#:gdt  [8032]
00 00 00 00 00 00 00 00        # .long 0, 0
FF FF 00 00 00 9A CF 00        # .long 0x0000FFFF, 0x00CF9A00 ; 08: code, 32 bits
FF FF 00 00 00 92 CF 00        # .long 0x0000FFFF, 0x00CF9200 ; 10: data, 32 bits
FF FF 00 00 00 9A 00 00        # .long 0x0000FFFF, 0x00009A00 ; 18: code, 16 bits
FF FF 00 00 00 92 00 00        # .long 0x0000FFFF, 0x00009200 ; 20: data, 16 bits
FF FF 00 00 00 FA CF 00        # .long 0x0000FFFF, 0x00CFFA00 ; 28: code of the user
FF FF 00 00 00 F2 CF 00        # .long 0x0000FFFF, 0x00CFF200 ; 30: data of the user
67 00 00 20 01 89 00 00        # .long 0x20000067, 0x00008901 ; 38: the TSS
#:gdt_place  [8072]
3F 00                          # .word 0x3F
32 80 00 00                    # .long gdt
#:idt_place  [8078]
FF 07                          # .word 0x7FF
00 30 01 00                    # .long IDT
#:real_idt_place  [807E]
FF 03                          # .word 0x3FF
00 00 00 00                    # .long 0
#:saved_esp  [8084]
00 00 00 00                    # .long 0
#:said_protected  [8088]
64 6F 63 74 6F 72 3A 20 70 72  # .ascii "doctor: protected\r\n\0"
6F 74 65 63 74 65 64 0D 0A 00
#:said_switches  [809C]
64 6F 63 74 6F 72 3A 20 73 77  # .ascii "doctor: switches\r\n\0"
69 74 63 68 65 73 0D 0A 00
#:said_interrupt  [80AF]
64 6F 63 74 6F 72 3A 20 69 6E  # .ascii "doctor: interrupt\r\n\0"
74 65 72 72 75 70 74 0D 0A 00
#:said_paging  [80C3]
64 6F 63 74 6F 72 3A 20 70 61  # .ascii "doctor: paging\r\n\0"
67 69 6E 67 0D 0A 00
#:said_user  [80D4]
64 6F 63 74 6F 72 3A 20 75 73  # .ascii "doctor: user\r\n\0"
65 72 0D 0A 00
`;

/** Returns the disk that the program boots from. */
export function guestImage(): Uint8Array {
  const program = assembleHex0(new TextEncoder().encode(GUEST_LISTING), "the program of doctor");
  // The BIOS may read ahead.
  const image = new Uint8Array(MIB);
  image.set(program);
  const view = new DataView(image.buffer);
  for (let sector = FIRST_SECTOR; sector < FIRST_SECTOR + SECTORS; sector++) {
    view.setUint32(sector * SECTOR_BYTES, sector, true);
  }
  return image;
}
