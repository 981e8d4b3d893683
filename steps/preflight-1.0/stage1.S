# SPDX-License-Identifier: MIT
#
# preflight, stage 1: the boot sector.
#
# The BIOS loads this sector to 7C00 and jumps to it with the boot drive in
# DL. Behind it on the disk, from byte 512 on, lies the hex0 TEXT of stage 2.
# Stage 1 reads that text sector by sector, assembles it to 7E00, checks the
# CRC that closes it, and jumps there. So all code that runs after this
# sector is readable text on the disk.
#
#   hex0 text   pairs of hex digits, either case, each pair is one byte;
#               white space is ignored;
#               '#' and ';' begin a comment that runs to the end of the line;
#               a NUL byte ends the text; anything else is an error, and so
#               is an odd number of digits.
#
# Handed to stage 2, in real mode, at 0000:7E00:
#   DL   the boot drive, as the BIOS gave it
#   EAX  the sector behind the one that holds the NUL: the srcfs begins there
#   DI   the address behind the last byte of stage 2
#
# If it cannot, it says so on the screen and on COM1 (115200 8n1), as
#   stage1 lba=XXXXXXXX status=XX         sector it asks for next, BIOS status
#   preflight: verdict failed boot-read   the BIOS gives no sector
#   preflight: verdict failed stage2      the text is damaged
# and stops.
#
# Memory:
#   1000 - 1FFF   the sector read last (512 bytes; 4096 where a drive has
#                 such sectors, which then fails as damaged text)
#      < 7C00     stack
#   7C00 - 7DFF   this sector
#   7E00 - EFFF   stage 2
#
# Assemble: as --32, ld -m elf_i386 -Ttext=0x7C00, objcopy -O binary

.intel_syntax noprefix
.code16
.text

.equ SECTOR, 0x1000             # where a sector is read to
.equ SECTOR_END, 0x1200
.equ STAGE2, 0x7E00
.equ STAGE2_MAX, 0xF000         # stage 2 must end below
.equ POLYNOMIAL, 0xEDB88320     # CRC-32 of IEEE 802.3, bits reflected
.equ COM1, 0x3F8
.equ TRIES, 5                   # for each sector

#------------------------------------------------------------
# Entry. Registers are unknown but for DL; some BIOSes enter at 07C0:0000.
start:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7C00
    jmp 0:main                  # now CS is zero

main:
    sti
    cld
    push dx                     # DL stays the boot drive to the end

# COM1 to 115200 8n1.
    mov dx, COM1 + 3
    mov al, 0x83                # 8n1; the divisor follows
    out dx, al
    mov dl, COM1 & 0xFF
    mov ax, 1                   # both bytes of the divisor
    out dx, ax
    mov dl, (COM1 + 3) & 0xFF
    mov al, 3                   # 8n1; the divisor is done
    out dx, al
    pop dx

#------------------------------------------------------------
# Assembles the text.
#   SI   next character, in the sector buffer
#   DI   next byte of stage 2
#   EBX  CRC-32 so far
    mov si, SECTOR_END          # nothing read yet
    mov di, STAGE2
    or ebx, -1
next_byte:
    call digit
    jc text_ends
    shl al, 4
    push ax
    call digit
    pop cx
    jc damaged                  # an odd number of digits
    or al, cl
    stosb
    cmp di, STAGE2_MAX
    jae damaged                 # cannot be ours

# CRC-32, bit by bit: xor the byte in, then divide eight times by two.
    xor bl, al
    mov cl, 8
crc_bit:
    shr ebx, 1
    jnc crc_even
    xor ebx, POLYNOMIAL
crc_even:
    dec cl
    jnz crc_bit
    jmp next_byte

text_ends:
    test ebx, ebx               # over data and its own CRC it comes to zero
    jnz damaged
    mov eax, packet_lba
    jmp STAGE2

damaged:
    mov si, offset text_stage2
    jmp fail

#------------------------------------------------------------
# Gives the next hex digit.
#   out: AL its value, carry clear; or carry set where the text ends
digit:
    call character
    cmp al, '#'
    je comment
    cmp al, 0x3B                # a semicolon
    je comment
    test al, al
    jz no_digit
    cmp al, ' '
    jbe digit                   # white space
    sub al, '0'
    cmp al, 10
    jb is_digit
    or al, 0x20                 # upper case to lower
    sub al, 0x31                # 'a' - '0'
    cmp al, 6
    jae damaged                 # a character that hex0 does not know
    add al, 10
is_digit:
    clc
    ret

comment:
    call character
    cmp al, 10
    je digit
    test al, al
    jnz comment
no_digit:
    stc
    ret

#------------------------------------------------------------
# Gives the next character of the text in AL; reads a sector if need be.
character:
    cmp si, SECTOR_END
    jb have_character
    mov cl, TRIES
try_read:
    mov si, offset packet
    mov word ptr [si+2], 1      # some BIOSes change the count
    mov ah, 0x42
    call disk
    jnc sector_read
    mov [si+16], ah             # status
    xor ah, ah                  # reset the drive, then try again
    call disk
    dec cl
    jnz try_read
    mov si, offset text_read
    jmp fail
sector_read:
    inc dword ptr [si+8]
    mov si, SECTOR
have_character:
    lodsb
    ret

# Calls the BIOS for the boot drive; all registers but AH are kept.
disk:
    pushad
    int 0x13
    mov bp, sp
    mov [bp+29], ah             # AH of the saved EAX
    popad
    ret

#------------------------------------------------------------
# Says what is wrong, and stops.
fail:
    push si
    mov si, offset text_lba
    call print
    mov ebp, packet_lba
    mov cl, 8
    call print_hex
    mov si, offset text_status
    call print
    mov ebp, dword ptr status - 3
    mov cl, 2
    call print_hex
    mov si, offset text_verdict
    call print
    pop si
    call print

# In QEMU, and only there, power off: its firmware port 510 answers 'Q' first.
    mov dx, 0x510
    xor ax, ax
    out dx, ax
    inc dx
    in al, dx
    cmp al, 'Q'
    jne stop
    in al, dx
    cmp al, 'E'
    jne stop
    mov dx, 0x604               # ACPI power control, as SeaBIOS sets it up
    mov ax, 0x2000
    out dx, ax
stop:
    cli
    hlt
    jmp stop

# Prints the CL highest hex digits of EBP.
print_hex:
    rol ebp, 4
    mov ax, bp
    and al, 15
    cmp al, 10
    sbb al, 0x69                # a well-known trick: to '0'..'9', 'A'..'F'
    das
    call put
    dec cl
    jnz print_hex
    ret

# Prints the text at SI, up to its NUL.
print_more:
    call put
print:
    lodsb
    test al, al
    jnz print_more
    ret

# Puts the character AL on the screen and on COM1.
put:
    pusha
    mov ah, 0x0E
    mov bx, 7
    int 0x10
    popa
    pusha
    mov ah, al
    mov dx, COM1 + 5
    xor cx, cx                  # 65536 looks, and no more
com1_busy:
    in al, dx
    test al, 0x20
    loopz com1_busy
    mov dl, 0xF8
    mov al, ah
    out dx, al
    popa
    ret

#------------------------------------------------------------
# What int 13h function 42h takes, and the rest of the data.
packet:
    .byte 16, 0                 # its size
    .word 1                     # sectors
    .word SECTOR, 0             # to this offset, segment
packet_lba:
    .long 1, 0                  # from this sector
status:
    .byte 0                     # the BIOS' last error; follows the packet

text_lba:
    .asciz "stage1 lba="
text_status:
    .asciz " status="
text_verdict:
    .asciz "\r\npreflight: verdict failed "
text_read:
    .asciz "boot-read\r\n"
text_stage2:
    .asciz "stage2\r\n"

#------------------------------------------------------------
# The partition table: one entry, from sector 1 on, so that BIOSes which look
# for a partition find one to boot.
    .org 446
partitions:
    .byte 0x80                  # boot flag
    .byte 0x00, 0x02, 0x00      # first sector as head, sector, cylinder
    .byte 0xB5                  # type, as builder-hex0 has it
    .byte 0xFE, 0xFF, 0xFF      # last sector: past what these fields can say
    .long 1                     # first sector
    .long 0xFFFFFFFF            # count of sectors
    .fill 48, 1, 0              # three empty entries
    .byte 0x55, 0xAA            # what makes it a boot sector
