# SPDX-License-Identifier: MIT
#
# For tests: a boot sector that changes what the BIOS reports, then boots
# the second disk. It stays at 0600. --defsym selects the change:
#   RAM=1      e820 reports RAM up to 3 GiB, of which there is less
#   SECTOR=D   drive D has sectors of 4096 bytes
#   NO_EDD=D   drive D has no extensions
#   A20=1      address line 20 is off; int 15h function 2401 enables it
#   A20=2      the same, but that function does nothing
# Unused symbols must be 0.

.intel_syntax noprefix
.code16
.text

.equ HERE, 0x600
.equ MOVED, HERE - 0x7C00

start:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7C00
    cld
    mov si, 0x7C00
    mov di, HERE
    mov cx, 256
    rep movsw
    jmp 0:(moved + MOVED)

moved:
    cli
    mov eax, dword ptr [0x15 * 4]
    mov dword ptr [old_15 + MOVED], eax
    mov word ptr [0x15 * 4], offset new_15 + MOVED
    mov word ptr [0x15 * 4 + 2], 0
    mov eax, dword ptr [0x13 * 4]
    mov dword ptr [old_13 + MOVED], eax
    mov word ptr [0x13 * 4], offset new_13 + MOVED
    mov word ptr [0x13 * 4 + 2], 0
    sti
    mov al, A20
    test al, al
    jz a20_left
    in al, 0x92
    and al, 0xFD
    out 0x92, al
a20_left:
    mov si, offset packet + MOVED
    mov ax, 0x4200
    mov dl, 0x81
    int 0x13
    mov dl, 0x81
    jmp 0:0x7C00

new_15:
    cmp ax, 0xE820
    je map
    cmp ax, 0x2401
    jne chain_15
    cmp byte ptr cs:[a20 + MOVED], 2
    jne chain_15
    stc
    retf 2
chain_15:
    jmp dword ptr cs:[old_15 + MOVED]
map:
    pushf
    call dword ptr cs:[old_15 + MOVED]
    pushf
    cmp byte ptr cs:[ram + MOVED], 0
    je map_done
    cmp dword ptr es:[di], 0x100000
    jne map_done
    mov dword ptr es:[di+8], 0xBFF00000
map_done:
    popf
    retf 2

new_13:
    cmp ah, 0x41
    jne maybe_size
    cmp dl, byte ptr cs:[no_edd + MOVED]
    jne chain_13
    stc
    retf 2
maybe_size:
    cmp ah, 0x48
    jne chain_13
    cmp dl, byte ptr cs:[sector + MOVED]
    jne chain_13
    pushf
    call dword ptr cs:[old_13 + MOVED]
    mov word ptr [si+24], 4096
    clc
    retf 2
chain_13:
    jmp dword ptr cs:[old_13 + MOVED]

old_15:
    .long 0
old_13:
    .long 0
ram:
    .byte RAM
sector:
    .byte SECTOR
no_edd:
    .byte NO_EDD
a20:
    .byte A20
packet:
    .byte 16, 0
    .word 1, 0x7C00, 0
    .quad 0

    .org 510
    .byte 0x55, 0xAA
