# SPDX-License-Identifier: MIT
#
# preflight, stage 2: looks whether this machine, its memory, its boot disk
# and its payload disks could carry a bootstrap, and says so.
#
# Stage 1 has assembled this text to 7E00 and hands over, in real mode:
#   DL   the boot drive
#   EAX  the sector where the srcfs begins
#
#------------------------------------------------------------
# The boot disk
#
#   sector 0            stage 1
#   sector 1 ...        this text, at least one NUL, NULs to a whole sector
#   sector EAX ...      srcfs, closed by the record below
#   behind              at least 1 MiB of zeros
#
# srcfs is a run of records:
#   "src " SIZE " " PATH LF, then SIZE bytes     SIZE in decimal
#   any other line, not empty, LF                a command for a shell
# A line holds no control characters and at most 1,200 bytes. A NUL where a
# record would begin ends it.
#
# The last record is the image's own checksum and says what is expected:
#
#   "preflight " { KEY "=" VALUE " " } "crc32=" 8 hex digits LF
#
#   payload=0|1    whether a payload disk must be there (default 0)
#   memory=0|1     whether to test the memory (default 1)
#   read=0|1       whether to read payloads whole and say their CRC-32
#                  (default 0)
#   files=N        bytes that the file store at 54000000 must have room for
#                  (default 1,810,890,752: all of it but the last MiB)
#   crc32          CRC-32 of all bytes of the disk from byte 0 of sector 0 up
#                  to and not including the 8 digits: stage 1, this text, the
#                  srcfs, and the expectations. IEEE 802.3, polynomial
#                  04C11DB7 (reflected EDB88320), begun with FFFFFFFF, taken
#                  with FFFFFFFF at the end: what zlib and gzip call crc32.
#
# Why this one: it finds every burst of up to 32 bits, and any other damage
# but for one in 2^32; every language has it; it is 30 bytes of code. It is no
# guard against intent: that is what the image's SHA-256 is for.
#
#------------------------------------------------------------
# The report
#
# It goes to the screen and to COM1 (115200 8n1). Lines end CR LF. A line for
# a program begins "preflight: ":
#
#   "preflight: " TOPIC { " " KEY "=" VALUE }
#   "preflight: verdict ok"
#   "preflight: verdict failed " REASON { "," REASON }
#
# There is one verdict, and it is the last such line. Values hold no spaces.
# README.md lists topics, keys and reasons.
#
#------------------------------------------------------------
# Memory
#   1000 -  1FFF   e820 map, 24 bytes an entry
#   2000 -  23FF   CRC table
#   2400 -  2BFF   a line of the srcfs
#   2C00 -  2CFF   what int 13h says of a drive
#   2D00 -  2EFF   runs of memory to test, begin and end
#      < 7C00      stack
#   7E00 -  EFFF   this program
#  10000 - 17FFF   sectors read
#
# It runs in 32-bit protected mode, flat, without paging, interrupts off, and
# drops to real mode for each BIOS call.
#
# Assemble: as --32, ld -m elf_i386 -Ttext=0x7E00, objcopy -O binary

.intel_syntax noprefix
.text

.equ STACK, 0x7C00
.equ MAP, 0x1000
.equ MAP_ENTRY, 24
.equ MAP_MAX, 128
.equ CRC_TABLE, 0x2000
.equ LINE, 0x2400
.equ LINE_MAX, 1200
.equ DRIVE_INFO, 0x2C00
.equ SPANS, 0x2D00
.equ SPANS_MAX, 64
.equ BUFFER, 0x10000
.equ CHUNK, 64                  # sectors read at once: 32 KiB
.equ TRIES, 3
.equ COM1, 0x3F8
.equ POLYNOMIAL, 0xEDB88320
.equ TAIL, 0x100000             # zeros that must follow the srcfs

# Reasons why the verdict is not ok: bits of [reasons], named at reason_names.
.equ BOOT_DRIVE, 1
.equ BOOT_READ, 2
.equ BOOT_TRUNCATED, 4
.equ SRCFS, 8
.equ CRC_ABSENT, 0x10
.equ CRC_BAD, 0x20
.equ BOOT_TAIL, 0x40
.equ A20, 0x80
.equ MEMORY_MAP, 0x100
.equ MEMORY, 0x200
.equ PAYLOAD_MISSING, 0x400
.equ PAYLOAD_TRUNCATED, 0x800
.equ PAYLOAD_MALFORMED, 0x1000
.equ PAYLOAD_READ, 0x2000

# What builder-hex0 uses of the memory.
.equ FILES, 0x54000000
.equ FILES_END, 0xC0000000
.equ FILES_DEFAULT, FILES_END - FILES - 0x100000

#------------------------------------------------------------
# Entry, in real mode.
.code16
entry:
    xor bx, bx
    mov ds, bx
    mov es, bx
    mov ss, bx
    mov sp, STACK
    cld
    mov byte ptr [boot_drive], dl
    mov dword ptr [srcfs_lba], eax
    cli
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 0x08:entry_32

.code32
entry_32:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    mov esp, STACK

# The parts of the check, one after the other.
    call com1_begin
    call crc_begin
    call say
    .asciz "\npreflight: start version=1.0 drive="
    mov al, byte ptr [boot_drive]
    call say_hex8
    call say
    .asciz " srcfs-lba="
    mov eax, dword ptr [srcfs_lba]
    call say_dec32
    call newline
    call read_map
    call check_boot
    call check_ranges
    call test_memory
    call check_drives
    jmp verdict

#------------------------------------------------------------
# Calls the BIOS.
#   in:  AL the interrupt, r_eax ... r_edi the registers it gets (ES is 0)
#   out: r_eax ... r_edi, r_flags; all registers kept
# Some BIOSes send to COM1 what they show on the screen. Then each character
# would come twice, and long lines cut. So COM1 is looped back on itself while
# the BIOS has the machine, and what it sent is thrown away.
bios:
    pushad
    mov byte ptr [bios_interrupt], al
    cmp byte ptr [com1], 0
    je bios_enter
    mov ah, 0x40                # all sent
    call com1_wait
    mov edx, COM1 + 4
    mov al, 0x13                # DTR, RTS, loop
    out dx, al
bios_enter:
    jmp 0x18:bios_16            # to 16-bit code, still protected

.code16
bios_16:
    mov ax, 0x20                # segments of 64 KiB, as real mode wants them
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov eax, cr0
    and al, 0xFE
    mov cr0, eax
    jmp 0:bios_real

bios_real:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    lidt [real_idt]
    mov eax, dword ptr [r_eax]
    mov ebx, dword ptr [r_ebx]
    mov ecx, dword ptr [r_ecx]
    mov edx, dword ptr [r_edx]
    mov esi, dword ptr [r_esi]
    mov edi, dword ptr [r_edi]
    sti
    .byte 0xCD                  # int
bios_interrupt:
    .byte 0
    cli
    pushf
    push 0
    pop ds
    cld
    mov dword ptr [r_eax], eax
    mov dword ptr [r_ebx], ebx
    mov dword ptr [r_ecx], ecx
    mov dword ptr [r_edx], edx
    mov dword ptr [r_esi], esi
    mov dword ptr [r_edi], edi
    pop ax
    mov word ptr [r_flags], ax
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 0x08:bios_32

.code32
bios_32:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    cmp byte ptr [com1], 0
    je bios_left
    mov edx, COM1 + 2
    mov al, 3                   # throw away what was received
    out dx, al
    mov edx, COM1 + 4
    out dx, al                  # DTR, RTS
bios_left:
    popad
    ret

#------------------------------------------------------------
# Prepares COM1: 115200 8n1, no interrupts, FIFO on. A port without a UART
# does not keep what is written to its scratch register.
com1_begin:
    mov edx, COM1 + 7
    mov al, 0x5A
    out dx, al
    in al, dx
    cmp al, 0x5A
    jne com1_none
    mov esi, offset com1_setup
    mov ecx, 7
com1_next:
    lodsw
    mov dl, al                  # the low byte of the port
    mov al, ah
    out dx, al
    loop com1_next
    mov byte ptr [com1], 1
com1_none:
    ret

com1_setup:
    .byte 0xF9, 0x00            # no interrupts
    .byte 0xFB, 0x80            # the divisor follows
    .byte 0xF8, 0x01            # 115200
    .byte 0xF9, 0x00
    .byte 0xFB, 0x03            # 8 bits, no parity, 1 stop bit
    .byte 0xFA, 0x07            # FIFO on, cleared
    .byte 0xFC, 0x03            # DTR and RTS

# Waits until COM1's line status shows one of the bits AH, but not for ever;
# a port that does not for some 16 seconds is given up. A virtual one may well
# take a second, where whoever listens is busy.
com1_wait:
    mov ecx, 0x1000000
    mov edx, COM1 + 5
com1_look:
    in al, dx
    test al, ah
    jnz com1_ready
    pause
    dec ecx
    jnz com1_look
    mov byte ptr [com1], 0
com1_ready:
    ret

# Says the character AL, LF as CR LF, on the screen and on COM1.
say_char:
    cmp al, 10
    jne say_one
    mov al, 13
    call say_one
    mov al, 10
say_one:
    pushad
    mov ah, 0x0E
    mov dword ptr [r_eax], eax
    mov dword ptr [r_ebx], 7
    mov al, 0x10
    call bios
    cmp byte ptr [com1], 0
    je said_one
    mov ah, 0x20                # room for a character
    call com1_wait
    mov al, byte ptr [esp+28]   # AL as it came
    mov edx, COM1
    out dx, al
said_one:
    popad
    ret

# Says the text that follows the call, up to its NUL, and returns behind it.
say:
    xchg esi, [esp]
    push eax
say_next:
    lodsb
    test al, al
    jz said
    call say_char
    jmp say_next
said:
    pop eax
    xchg esi, [esp]
    ret

# Says the text at ESI up to its NUL.
say_text:
    lodsb
    test al, al
    jz said_text
    call say_char
    jmp say_text
said_text:
    ret

newline:
    push eax
    mov al, 10
    call say_char
    pop eax
    ret

# Says EAX, or AL, in hex.
say_hex32:
    push ecx
    mov ecx, 8
    call say_hex
    pop ecx
    ret
say_hex8:
    push ecx
    mov ecx, 2
    shl eax, 24
    call say_hex
    pop ecx
    ret
say_hex:                        # the ECX highest digits
    rol eax, 4
    push eax
    and al, 15
    cmp al, 10
    jb say_digit
    add al, 7                   # from behind '9' to 'A'
say_digit:
    add al, '0'
    call say_char
    pop eax
    dec ecx
    jnz say_hex
    ret

# Says EAX, or EDX:EAX, in decimal.
say_dec32:
    xor edx, edx
say_dec64:
    pushad
    xor ecx, ecx                # digits on the stack
    mov ebx, 10
next_digit:
    mov esi, eax                # divides EDX:EAX by ten, high half first
    mov eax, edx
    xor edx, edx
    div ebx
    mov edi, eax
    mov eax, esi
    div ebx
    push edx
    inc ecx
    mov edx, edi
    mov esi, eax
    or esi, edx
    jnz next_digit
say_decimal:
    pop eax
    add al, '0'
    call say_char
    dec ecx
    jnz say_decimal
    popad
    ret

#------------------------------------------------------------
# CRC-32 with a table of 256 entries, made here.
crc_begin:
    mov edi, CRC_TABLE
    xor ebx, ebx
crc_entry:
    mov eax, ebx
    mov ecx, 8
crc_bit:
    shr eax, 1
    jnc crc_even
    xor eax, POLYNOMIAL
crc_even:
    loop crc_bit
    stosd
    inc bl
    jnz crc_entry
    ret

# Takes ECX bytes at ESI into [crc]; ESI ends behind them.
crc_run:
    test ecx, ecx
    jz crc_done
    mov eax, dword ptr [crc]
crc_byte:
    movzx edx, byte ptr [esi]
    inc esi
    xor dl, al
    shr eax, 8
    xor eax, dword ptr [CRC_TABLE + edx*4]
    dec ecx
    jnz crc_byte
    mov dword ptr [crc], eax
crc_done:
    ret

#------------------------------------------------------------
# Asks the BIOS about drive [drive].
#   out: carry set where there is none; else
#        [edd] whether it reads by sector number, [sector_bytes],
#        [sectors] their number (zero: it does not say),
#        [disk_bytes] what that makes (very many where it does not say)
ask_drive:
    xor eax, eax
    mov byte ptr [edd], al
    mov dword ptr [sectors], eax
    mov dword ptr [sectors+4], eax
    mov dword ptr [sector_bytes], 512
    mov dword ptr [r_eax], 0x4100       # does it have extensions?
    mov dword ptr [r_ebx], 0x55AA
    call int13
    jc no_edd
    cmp word ptr [r_ebx], 0xAA55
    jne no_edd
    test byte ptr [r_ecx], 1
    jz no_edd
    mov byte ptr [edd], 1
    mov edi, DRIVE_INFO
    mov ecx, 64
    xor eax, eax
    rep stosd
    mov word ptr [DRIVE_INFO], 30       # what it may write there
    mov dword ptr [r_esi], DRIVE_INFO
    mov dword ptr [r_eax], 0x4800
    call int13
    jc size_done
    mov eax, dword ptr [DRIVE_INFO + 16]
    mov edx, dword ptr [DRIVE_INFO + 20]
    mov ecx, eax
    and ecx, edx
    inc ecx
    jz size_known               # all ones: it does not say
    mov dword ptr [sectors], eax
    mov dword ptr [sectors+4], edx
size_known:
    movzx eax, word ptr [DRIVE_INFO + 24]
    test eax, eax
    jz size_done
    mov dword ptr [sector_bytes], eax
size_done:
    mov eax, dword ptr [sectors]
    mov edx, dword ptr [sectors+4]
    shld edx, eax, 9
    shl eax, 9
    mov ecx, eax
    or ecx, edx
    jnz bytes_known
    mov edx, 0x7FFFFFFF
bytes_known:
    mov dword ptr [disk_bytes], eax
    mov dword ptr [disk_bytes+4], edx
    clc
    ret

no_edd:
    mov dword ptr [r_eax], 0x1500       # is it there at all?
    call int13
    jc no_drive
    cmp byte ptr [r_eax+1], 3           # a hard disk
    jne no_drive
    clc
    ret
no_drive:
    stc
    ret

# Calls int 13h for [drive] with what is in r_eax ...; carry as the BIOS left
# it; all registers kept.
int13:
    push eax
    movzx eax, byte ptr [drive]
    mov dword ptr [r_edx], eax
    mov al, 0x13
    call bios
    bt word ptr [r_flags], 0
    pop eax
    ret

#------------------------------------------------------------
# Reads [count] sectors (1 to 64) of [drive] from [lba] on to BUFFER.
#   out: EAX the number read; where that is zero, [bad_lba] and [bad_status]
# A read that fails is tried again after a reset; several sectors that cannot
# be read together are read one by one, up to the first that cannot be read.
read_sectors:
    pushad
    xor ebx, ebx                # from this one of them on
    mov ecx, dword ptr [count]
    call try_read
    mov eax, ecx
    jnc read_done
    cmp ecx, 1
    je read_none
    mov ecx, 1
read_single:
    call try_read
    jc read_some
    inc ebx
    cmp ebx, dword ptr [count]
    jb read_single
read_some:
    mov eax, ebx
    jmp read_done
read_none:
    xor eax, eax
read_done:
    mov dword ptr [esp+28], eax
    popad
    ret

# Reads ECX sectors, from the EBX-th of the run on; carry set if it cannot.
try_read:
    pushad
    mov edi, TRIES
try_again:
    mov word ptr [packet_count], cx
    mov eax, ebx
    shl eax, 5                  # 32 paragraphs a sector
    add eax, BUFFER / 16
    mov word ptr [packet_segment], ax
    mov eax, dword ptr [lba]
    mov edx, dword ptr [lba+4]
    add eax, ebx
    adc edx, 0
    mov dword ptr [packet_lba], eax
    mov dword ptr [packet_lba+4], edx
    mov dword ptr [r_esi], offset packet
    mov dword ptr [r_eax], 0x4200
    call int13
    jc try_failed
    cmp word ptr [packet_count], cx     # what it read
    jne try_failed
    popad
    clc
    ret
try_failed:
    mov al, byte ptr [r_eax+1]
    mov byte ptr [bad_status], al
    mov eax, dword ptr [packet_lba]
    mov dword ptr [bad_lba], eax
    mov eax, dword ptr [packet_lba+4]
    mov dword ptr [bad_lba+4], eax
    inc dword ptr [retries]
    mov dword ptr [r_eax], 0            # reset
    call int13
    dec edi
    jnz try_again
    popad
    stc
    ret

# Says which sector could not be read.
say_bad_sector:
    call say
    .asciz " lba="
    mov eax, dword ptr [bad_lba]
    mov edx, dword ptr [bad_lba+4]
    call say_dec64
    call say
    .asciz " status="
    mov al, byte ptr [bad_status]
    jmp say_hex8

#------------------------------------------------------------
# Reads the boot disk from sector 0 to the end of its srcfs.
#
# Whatever goes wrong jumps to boot_failed from any depth, with ESI the state
# to say and EAX the reason.
check_boot:
    mov dword ptr [boot_stack], esp
    mov al, byte ptr [boot_drive]
    mov byte ptr [drive], al
    call ask_drive
    mov eax, BOOT_DRIVE
    mov esi, offset text_no_edd
    jc boot_failed
    cmp byte ptr [edd], 0
    je boot_failed
    mov esi, offset text_unsupported
    cmp dword ptr [sector_bytes], 512
    jne boot_failed

# Stage 1 and this text: only their CRC counts.
    mov ecx, dword ptr [srcfs_lba]
    shl ecx, 9
    call skip_bytes

next_record:
    call next_byte
    test al, al
    jz srcfs_ends
    mov edi, LINE
line_byte:
    cmp al, 10
    je line_ends
    cmp al, 32
    jb srcfs_malformed
    cmp edi, LINE + LINE_MAX
    jae srcfs_malformed
    stosb
    call next_byte
    jmp line_byte
line_ends:
    stosb                       # the LF
    mov byte ptr [edi], 0
    mov esi, LINE
    call match
    .asciz "preflight "
    je trailer
    sub edi, LINE
    mov ecx, edi                # its length
    cmp ecx, 1
    je srcfs_malformed          # an empty line
    push esi
    call crc_run
    pop esi
    call match
    .asciz "src "
    jne command
    call decimal
    jc srcfs_malformed
    cmp byte ptr [esi], ' '
    jne srcfs_malformed
    cmp byte ptr [esi+1], 10    # no path
    je srcfs_malformed
    inc dword ptr [entries]
    add dword ptr [data_bytes], eax
    adc dword ptr [data_bytes+4], 0
    mov ecx, eax
    call skip_bytes
    jmp next_record
command:
    inc dword ptr [commands]
    jmp next_record

# The closing record: expectations, then the checksum.
trailer:
    call match
    .asciz "crc32="
    je trailer_crc
    call match
    .asciz "payload="
    je trailer_payload
    call match
    .asciz "memory="
    je trailer_memory
    call match
    .asciz "read="
    je trailer_read
    call match
    .asciz "files="
    jne srcfs_malformed
    call decimal
    jc srcfs_malformed
    mov dword ptr [need_files], eax
    jmp trailer_next
trailer_payload:
    mov edi, offset need_payload
    jmp trailer_flag
trailer_memory:
    mov edi, offset need_memory
    jmp trailer_flag
trailer_read:
    mov edi, offset need_read
trailer_flag:
    call decimal
    jc srcfs_malformed
    cmp eax, 1
    ja srcfs_malformed
    stosb
trailer_next:
    lodsb
    cmp al, ' '
    je trailer
    jmp srcfs_malformed

trailer_crc:
    push esi
    mov ecx, esi
    mov esi, LINE
    sub ecx, esi
    call crc_run                # up to the digits
    pop esi
    mov ecx, 8
crc_digit:
    lodsb
    sub al, '0'
    cmp al, 10
    jb crc_add
    or al, 0x20
    sub al, 0x31                # 'a' - '0'
    cmp al, 6
    jae srcfs_malformed
    add al, 10
crc_add:
    shl ebx, 4
    or bl, al
    loop crc_digit
    cmp byte ptr [esi], 10
    jne srcfs_malformed
    not dword ptr [crc]
    mov dword ptr [crc_said], ebx
    call next_byte
    test al, al
    jnz srcfs_malformed         # something follows
    dec dword ptr [position]
    call say_boot
    call say
    .asciz " crc="
    mov eax, dword ptr [crc]
    cmp eax, dword ptr [crc_said]
    je crc_good
    or dword ptr [reasons], CRC_BAD
    call say
    .asciz "bad found="
    call say_hex32
    call say
    .asciz " expected="
    mov eax, dword ptr [crc_said]
    call say_hex32
    jmp crc_reported
crc_good:
    call say
    .asciz "ok"
crc_reported:

# The zeros behind it: builder-hex0 reads on past the end, so they must be
# there and readable.
    mov eax, dword ptr [position]
    xor edx, edx
    add eax, TAIL
    adc edx, edx
    cmp edx, dword ptr [disk_bytes+4]
    jne tail_compared
    cmp eax, dword ptr [disk_bytes]
tail_compared:
    mov esi, offset text_tail_short
    ja tail_failed
    sub eax, 1
    sbb edx, 0
    shrd eax, edx, 9
    mov dword ptr [lba], eax
    mov dword ptr [lba+4], 0
    mov dword ptr [count], 1
    call read_sectors
    test eax, eax
    mov esi, offset text_tail_unreadable
    jz tail_failed
    call say
    .asciz " state=ok\n"
    ret
tail_failed:
    or dword ptr [reasons], BOOT_TAIL
    call say
    .asciz " state="
    call say_text
    jmp newline

srcfs_ends:                     # and no checksum came
    mov esi, offset text_ok
    mov eax, CRC_ABSENT
    dec dword ptr [position]
    jmp boot_failed
srcfs_malformed:
    mov esi, offset text_malformed
    mov eax, SRCFS
boot_failed:
    mov esp, dword ptr [boot_stack]
    or dword ptr [reasons], eax
    push eax
    call say_boot
    call say
    .asciz " crc="
    push esi
    pop ebx
    mov esi, offset text_absent
    test byte ptr [esp], CRC_ABSENT
    jnz boot_say_crc
    mov esi, offset text_unknown
boot_say_crc:
    call say_text
    call say
    .asciz " state="
    mov esi, ebx
    call say_text
    pop eax
    test al, BOOT_READ
    jz newline
    call say_bad_sector
    jmp newline

# Says how far the boot disk was read.
say_boot:
    push eax
    push edx
    call end_dots
    call say
    .asciz "preflight: boot drive="
    mov al, byte ptr [boot_drive]
    call say_hex8
    call say
    .asciz " sectors="
    mov eax, dword ptr [sectors]
    mov edx, dword ptr [sectors+4]
    call say_dec64
    call say
    .asciz " entries="
    mov eax, dword ptr [entries]
    call say_dec32
    call say
    .asciz " commands="
    mov eax, dword ptr [commands]
    call say_dec32
    call say
    .asciz " bytes="
    mov eax, dword ptr [data_bytes]
    mov edx, dword ptr [data_bytes+4]
    call say_dec64
    call say
    .asciz " end="
    mov eax, dword ptr [position]
    call say_dec32
    call say
    .asciz " retries="
    mov eax, dword ptr [retries]
    call say_dec32
    pop edx
    pop eax
    ret

# Gives the boot disk's next byte in AL. Does not count it into the CRC.
next_byte:
    mov ebx, dword ptr [stream_next]
    cmp ebx, dword ptr [stream_end]
    jb have_byte
    call refill
    mov ebx, BUFFER
have_byte:
    mov al, byte ptr [ebx]
    inc ebx
    mov dword ptr [stream_next], ebx
    inc dword ptr [position]
    ret

# Takes the boot disk's next ECX bytes into the CRC and goes past them.
skip_bytes:
    test ecx, ecx
    jz skipped
    mov esi, dword ptr [stream_next]
    mov ebx, dword ptr [stream_end]
    sub ebx, esi                # what there is
    jnz skip_run
    call refill
    jmp skip_bytes
skip_run:
    cmp ebx, ecx
    jbe skip_all
    mov ebx, ecx
skip_all:
    add dword ptr [position], ebx
    jc srcfs_malformed          # 4 GiB are no srcfs
    sub ecx, ebx
    push ecx
    mov ecx, ebx
    call crc_run
    pop ecx
    mov dword ptr [stream_next], esi
    jmp skip_bytes
skipped:
    ret

# Fills the buffer from the boot disk. Keeps ECX, EDI.
refill:
    mov eax, dword ptr [stream_lba]
    mov edx, dword ptr [sectors]
    or edx, dword ptr [sectors+4]
    mov edx, CHUNK
    jz refill_read              # the disk's size is not known
    cmp dword ptr [sectors+4], 0
    jne refill_read
    mov edx, dword ptr [sectors]
    sub edx, eax
    jbe refill_end
    cmp edx, CHUNK
    jbe refill_read
    mov edx, CHUNK
refill_read:
    call progress
    mov dword ptr [count], edx
    mov dword ptr [lba], eax
    mov dword ptr [lba+4], 0
    call read_sectors
    test eax, eax
    jz refill_failed
    add dword ptr [stream_lba], eax
    shl eax, 9
    add eax, BUFFER
    mov dword ptr [stream_end], eax
    mov dword ptr [stream_next], BUFFER
    ret
refill_end:
    mov esi, offset text_truncated
    mov eax, BOOT_TRUNCATED
    jmp boot_failed
refill_failed:
    mov esi, offset text_unreadable
    mov eax, BOOT_READ
    jmp boot_failed

# Says a dot for each 256th chunk (8 MiB), so that a slow disk is seen to work.
progress:
    inc byte ptr [chunks]
    jnz progress_done
    push eax
    mov al, '.'
    call say_char
    mov byte ptr [dots], 1
    pop eax
progress_done:
    ret

# Ends the line of dots, if there is one.
end_dots:
    cmp byte ptr [dots], 0
    je dots_ended
    mov byte ptr [dots], 0
    call newline
dots_ended:
    ret

# Compares the text at ESI with the one that follows the call.
#   out: equal and ESI behind it; or not equal and ESI as it was
# Returns behind the text. Changes EAX, EBX.
match:
    pop ebx
    push esi
match_next:
    mov al, byte ptr [ebx]
    inc ebx
    test al, al
    jz match_yes
    cmp al, byte ptr [esi]
    jne match_no
    inc esi
    jmp match_next
match_yes:
    pop eax                     # the old ESI is not needed
    cmp al, al
    jmp ebx
match_no:
    mov al, byte ptr [ebx]      # to the end of the text
    inc ebx
    test al, al
    jnz match_no
    pop esi
    cmp al, 1
    jmp ebx

# Reads a decimal number at ESI to EAX; carry set where there is none or it
# does not fit. Changes EBX, EDX.
decimal:
    xor eax, eax
    movzx ebx, byte ptr [esi]
    sub ebx, '0'
    cmp ebx, 10
    jae decimal_bad
decimal_next:
    mov edx, 10
    mul edx
    jc decimal_bad
    add eax, ebx
    jc decimal_bad
    inc esi
    movzx ebx, byte ptr [esi]
    sub ebx, '0'
    cmp ebx, 10
    jb decimal_next
    clc
    ret
decimal_bad:
    stc
    ret

#------------------------------------------------------------
# Asks for the e820 map and says it. Entries that the BIOS says are to be
# ignored, and empty ones, are left out.
read_map:
    mov edi, MAP
    xor ebp, ebp                # from the beginning
next_map_entry:
    mov dword ptr [r_ebx], ebp
    mov dword ptr [edi+20], 1           # attributes, where it gives none
    mov dword ptr [r_eax], 0xE820
    mov dword ptr [r_edx], 0x534D4150   # "SMAP"
    mov dword ptr [r_ecx], MAP_ENTRY
    mov dword ptr [r_edi], edi
    mov al, 0x15
    call bios
    test byte ptr [r_flags], 1
    jnz map_ends
    cmp dword ptr [r_eax], 0x534D4150
    jne map_ends
    mov ebp, dword ptr [r_ebx]  # where to go on
    test byte ptr [edi+20], 1
    jz map_entry_done
    mov eax, dword ptr [edi+8]
    or eax, dword ptr [edi+12]
    jz map_entry_done
    call say
    .asciz "preflight: e820 base="
    mov eax, dword ptr [edi+4]
    call say_hex32
    mov eax, dword ptr [edi]
    call say_hex32
    call say
    .asciz " end="
    mov ebx, dword ptr [edi]
    mov eax, dword ptr [edi+4]
    add ebx, dword ptr [edi+8]
    adc eax, dword ptr [edi+12]
    call say_hex32
    mov eax, ebx
    call say_hex32
    call say
    .asciz " type="
    mov eax, dword ptr [edi+16]
    call say_dec32
    call newline
    add edi, MAP_ENTRY
map_entry_done:
    cmp edi, MAP + MAP_MAX * MAP_ENTRY
    jae map_ends
    test ebp, ebp
    jnz next_map_entry
map_ends:
    mov dword ptr [map_end], edi
    cmp edi, MAP
    jne map_done
    or dword ptr [reasons], MEMORY_MAP
    call say
    .asciz "preflight: e820 state=absent\n"
map_done:
    ret

# How far from address EAX on, up to EDX, all is free RAM by the e820 map.
# Where entries overlap, one that is not RAM wins.
#   out: EAX the first address that is not, or EDX; the rest kept
free_until:
    pushad
    mov ebp, edx
free_more:
    cmp eax, ebp
    jae free_found
    mov ebx, eax                # end of the RAM here
    mov ecx, ebp                # begin of the next that is not RAM
    mov esi, MAP
free_entry:
    cmp esi, dword ptr [map_end]
    jae free_looked
    cmp dword ptr [esi+4], 0
    jne free_next               # above 4 GiB
    mov edx, dword ptr [esi]
    mov edi, edx                # EDX begin, EDI end of the entry
    add edi, dword ptr [esi+8]
    jc free_clip
    cmp dword ptr [esi+12], 0
    je free_clipped
free_clip:
    or edi, -1                  # it goes on above 4 GiB
free_clipped:
    cmp edi, eax
    jbe free_next               # ends before
    cmp dword ptr [esi+16], 1
    je free_ram
    cmp edx, eax
    jbe free_found              # not RAM here
    cmp edx, ecx
    jae free_next
    mov ecx, edx
    jmp free_next
free_ram:
    cmp edx, eax
    ja free_next                # begins behind
    cmp edi, ebx
    jbe free_next
    mov ebx, edi
free_next:
    add esi, MAP_ENTRY
    jmp free_entry
free_looked:
    cmp ebx, eax
    je free_found               # nothing says that there is RAM
    cmp ebx, ecx
    jbe free_step
    mov ebx, ecx
free_step:
    mov eax, ebx
    jmp free_more
free_found:
    cmp eax, ebp
    jbe free_within
    mov eax, ebp
free_within:
    mov dword ptr [esp+28], eax
    popad
    ret

#------------------------------------------------------------
# Says of each range that builder-hex0 uses whether it is free RAM. All must
# be, but that the end of the file store may be missing where what is left is
# enough: the store fills from its beginning.
check_ranges:
    mov esi, offset ranges
next_range:
    mov ebx, dword ptr [esi]
    mov ecx, dword ptr [esi+4]
    mov edi, dword ptr [esi+8]  # the least that it needs; zero: all
    add esi, 12
    call say
    .asciz "preflight: ram use="
    call say_text
    call say
    .asciz " base="
    mov eax, ebx
    call say_hex32
    call say
    .asciz " end="
    mov eax, ecx
    call say_hex32
    call say
    .asciz " free="
    mov eax, ebx
    mov edx, ecx
    call free_until
    sub eax, ebx
    sub ecx, ebx
    call say_dec32
    call say
    .asciz " state="
    test edi, edi
    jz range_all
    cmp eax, dword ptr [need_files]
    jb range_taken
    cmp eax, ecx
    jae range_free
    call say
    .asciz "short\n"
    jmp range_done
range_all:
    cmp eax, ecx
    jae range_free
range_taken:
    or dword ptr [reasons], MEMORY_MAP
    call say
    .asciz "taken\n"
    jmp range_done
range_free:
    call say
    .asciz "free\n"
range_done:
    cmp esi, offset ranges_end
    jb next_range
    ret

# Begin, end, whether a part is enough, name.
ranges:
    .long 0x00000500, 0x00080000, 0     # its code, tables and buffers
    .asciz "low"
    .long 0x00200000, 0x08000000, 0     # names and places of files, stack
    .asciz "tables"
    .long 0x08000000, 0x30000000, 0     # the running process
    .asciz "process"
    .long 0x30000000, FILES, 0          # processes that wait
    .asciz "saved"
    .long FILES, FILES_END, 1
    .asciz "files"
ranges_end:

#------------------------------------------------------------
# Tests the RAM from 1 MiB to 3 GiB, in places 64 KiB and 4 bytes apart. All
# places are written, the caches are emptied, all places are read back:
#   pass 0   each holds its own address: finds address lines that are stuck or
#            tied together
#   pass 1   the same inverted: now each bit of each place was 0 and 1
#   pass 2   a single bit, the next one in each next place: finds data lines
#            that are tied together
#   pass 3   the same inverted
.equ STRIDE, 0x10004
.equ PASSES, 4

test_memory:
    cmp byte ptr [need_memory], 0
    jne test_wanted
    call say
    .asciz "preflight: memory state=skipped\n"
    ret

test_wanted:
    call open_a20
    jnc a20_on
    or dword ptr [reasons], A20
    call say
    .asciz "preflight: memory a20=off state=untested\n"
    ret

a20_on:
    mov edi, SPANS
    mov eax, 0x100000
    mov edx, FILES_END
find_span:
    cmp eax, edx
    jae spans_found
    mov ebx, eax
    call free_until
    cmp eax, ebx
    jne add_span
    add eax, 0x10000            # look again at the next 64 KiB
    xor ax, ax
    jmp find_span
add_span:
    mov ecx, ebx
    add ecx, 3
    and ecx, -4
    mov dword ptr [edi], ecx
    mov ecx, eax
    and ecx, -4
    mov dword ptr [edi+4], ecx
    add edi, 8
    cmp edi, SPANS + SPANS_MAX * 8
    jb find_span
spans_found:
    mov dword ptr [spans_end], edi

    xor ecx, ecx                # the pass
next_pass:
    mov ebp, offset write_place
    call all_places
    wbinvd
    mov dword ptr [places], 0
    mov ebp, offset read_place
    call all_places
    inc ecx
    cmp ecx, PASSES
    jb next_pass

    call say
    .asciz "preflight: memory spans="
    mov eax, dword ptr [spans_end]
    sub eax, SPANS
    shr eax, 3
    call say_dec32
    call say
    .asciz " places="
    mov eax, dword ptr [places]
    call say_dec32
    call say
    .asciz " passes="
    mov eax, PASSES
    call say_dec32
    call say
    .asciz " faults="
    mov eax, dword ptr [faults]
    call say_dec32
    call say
    .asciz " state="
    test eax, eax
    jnz memory_bad
    cmp dword ptr [places], 0
    je memory_none
    call say
    .asciz "ok\n"
    ret
memory_none:
    call say
    .asciz "untested\n"
    ret
memory_bad:
    or dword ptr [reasons], MEMORY
    call say
    .asciz "bad at="
    mov eax, dword ptr [fault_at]
    call say_hex32
    call say
    .asciz " wrote="
    mov eax, dword ptr [fault_wrote]
    call say_hex32
    call say
    .asciz " read="
    mov eax, dword ptr [fault_read]
    call say_hex32
    jmp newline

# Calls EBP for each place, with EDI its address and EAX the pattern of pass
# ECX there.
all_places:
    mov esi, SPANS
next_span:
    cmp esi, dword ptr [spans_end]
    jae places_done
    mov edi, dword ptr [esi]
    mov edx, dword ptr [esi+4]
next_place:
    lea eax, [edi+4]
    cmp eax, edx
    ja span_done
    mov eax, edi
    cmp ecx, 2
    jb maybe_inverted
    push ecx
    mov ecx, edi
    shr ecx, 16                 # the place's number, nearly
    mov eax, 1
    rol eax, cl
    pop ecx
maybe_inverted:
    test cl, 1
    jz have_pattern
    not eax
have_pattern:
    call ebp
    add edi, STRIDE
    jmp next_place
span_done:
    add esi, 8
    jmp next_span
places_done:
    ret

write_place:
    mov dword ptr [edi], eax
    ret

read_place:
    inc dword ptr [places]
    mov ebx, dword ptr [edi]
    cmp ebx, eax
    je place_good
    inc dword ptr [faults]
    cmp dword ptr [faults], 1
    jne place_good              # only the first is told
    mov dword ptr [fault_at], edi
    mov dword ptr [fault_wrote], eax
    mov dword ptr [fault_read], ebx
place_good:
    ret

# Sees to it that address line 20 is open, with int 15h function 2401 as
# builder-hex0 does; carry set where it stays shut.
open_a20:
    call a20_shut
    jne a20_open
    mov dword ptr [r_eax], 0x2401
    mov al, 0x15
    call bios
    call a20_shut
    jne a20_open
    stc
    ret
a20_open:
    clc
    ret

# Equal where what is written 1 MiB higher shows up here.
a20_shut:
    mov dword ptr [SPANS], 0
    mov dword ptr [SPANS + 0x100000], 0x5AA5C33C
    cmp dword ptr [SPANS], 0x5AA5C33C
    ret

#------------------------------------------------------------
# Looks at each drive that the BIOS has for payload containers, on the disk
# itself and in its four primary partitions.
#
# A payload is, all numbers little-endian:
#   "LBPAYLD1", count of files,
#   for each: length of its name, size, name, data
# Numbers are 64 bits wide, or all 32 bits. With 64, bytes 12 to 15 are the
# high half of the count: zero. With 32, they are the first name's length:
# never zero.
check_drives:
    mov byte ptr [drive], 0x80
next_drive:
    call ask_drive
    jc drive_done
    call check_drive
drive_done:
    inc byte ptr [drive]
    cmp byte ptr [drive], 0x90
    jb next_drive
    cmp byte ptr [need_payload], 0
    je payload_enough
    cmp dword ptr [payloads], 0
    jne payload_enough
    or dword ptr [reasons], PAYLOAD_MISSING
payload_enough:
    call say
    .asciz "preflight: payloads found="
    mov eax, dword ptr [payloads]
    call say_dec32
    call say
    .asciz " required="
    movzx eax, byte ptr [need_payload]
    call say_dec32
    jmp newline

check_drive:
    call say
    .asciz "preflight: disk drive="
    mov al, byte ptr [drive]
    call say_hex8
    call say
    .asciz " sectors="
    mov eax, dword ptr [sectors]
    mov edx, dword ptr [sectors+4]
    call say_dec64
    call say
    .asciz " sector-bytes="
    mov eax, dword ptr [sector_bytes]
    call say_dec32
    call say
    .asciz " state="
    mov esi, offset text_no_edd
    cmp byte ptr [edd], 0
    je drive_useless
    mov esi, offset text_unsupported
    cmp dword ptr [sector_bytes], 512
    jne drive_useless
    xor eax, eax
    xor edx, edx
    mov dword ptr [base], eax
    mov dword ptr [base+4], eax
    mov ecx, 512
    call set_limit_disk
    call peek
    jc drive_unreadable
    cmp ecx, 512
    jb drive_unreadable         # no sector at all
    mov esi, offset text_ok
    call say_text
    call newline

# Keep the partition table, then look.
    mov esi, BUFFER + 446
    mov edi, offset partitions
    mov ecx, 66
    rep movsb
    call check_payload
    cmp word ptr [partitions + 64], 0xAA55
    jne partitions_done
    mov ebp, offset partitions
next_partition:
    cmp byte ptr [ebp+4], 0     # its type
    je partition_done
    mov eax, dword ptr [ebp+8]  # its first sector
    test eax, eax
    jz partition_done
    xor edx, edx
    shld edx, eax, 9
    shl eax, 9
    mov dword ptr [base], eax
    mov dword ptr [base+4], edx
    mov eax, dword ptr [ebp+12] # its count of sectors
    xor edx, edx
    shld edx, eax, 9
    shl eax, 9
    add eax, dword ptr [base]
    adc edx, dword ptr [base+4]
    call set_limit
    call check_payload
partition_done:
    add ebp, 16
    cmp ebp, offset partitions + 64
    jb next_partition
partitions_done:
    ret

drive_unreadable:
    mov esi, offset text_unreadable
    call say_text
    call say_bad_sector
    jmp newline
drive_useless:
    call say_text
    jmp newline

# Where the bytes end that may belong to a payload: at EDX:EAX, but not behind
# the disk's end.
set_limit:
    cmp edx, dword ptr [disk_bytes+4]
    jne limit_compared
    cmp eax, dword ptr [disk_bytes]
limit_compared:
    jb limit_set
set_limit_disk:
    mov eax, dword ptr [disk_bytes]
    mov edx, dword ptr [disk_bytes+4]
limit_set:
    mov dword ptr [limit], eax
    mov dword ptr [limit+4], edx
    ret

# Gives the bytes of [drive] from [base] on, ECX of them, at most 2,048.
#   out: ESI where they are, ECX how many there are before [limit];
#        carry set where they cannot be read
peek:
    mov eax, dword ptr [limit]
    mov edx, dword ptr [limit+4]
    sub eax, dword ptr [base]
    sbb edx, dword ptr [base+4]
    jc peek_behind
    jnz peek_inside
    cmp eax, ecx
    jae peek_inside
    mov ecx, eax
peek_inside:
    jecxz peek_nothing
    mov eax, dword ptr [base]
    mov edx, dword ptr [base+4]
    mov esi, eax
    and esi, 511
    shrd eax, edx, 9
    shr edx, 9
    mov dword ptr [lba], eax
    mov dword ptr [lba+4], edx
    lea eax, [esi + ecx + 511]
    shr eax, 9
    mov dword ptr [count], eax
    add esi, BUFFER
    call read_sectors
    cmp eax, dword ptr [count]
    ret                         # carry: fewer
peek_behind:
    xor ecx, ecx
peek_nothing:
    clc
    ret

# Walks a payload at [base], if there is one.
check_payload:
    pushad
    mov dword ptr [payload_files], 0
    xor eax, eax
    mov dword ptr [payload_bytes], eax
    mov dword ptr [payload_bytes+4], eax
    mov eax, dword ptr [base]
    mov dword ptr [payload_at], eax
    mov eax, dword ptr [base+4]
    mov dword ptr [payload_at+4], eax
    mov ecx, 16
    call peek
    jc payload_none
    cmp ecx, 16
    jb payload_none
    call match
    .asciz "LBPAYLD1"
    jne payload_none
    mov eax, dword ptr [esi]
    mov dword ptr [payload_count], eax
    mov ebx, 8                  # bytes of two numbers
    mov ecx, 12                 # bytes before the first file
    cmp dword ptr [esi+4], 0
    jne have_layout
    mov ebx, 16
    mov ecx, 16
have_layout:
    mov dword ptr [payload_head], ebx
    mov eax, ecx
    xor edx, edx
    call advance

next_file:
    mov eax, dword ptr [payload_files]
    cmp eax, dword ptr [payload_count]
    jae payload_ends
    mov ecx, dword ptr [payload_head]
    mov ebp, ecx
    call peek
    jc payload_unreadable
    cmp ecx, ebp
    jb payload_truncated
    cmp ecx, 8
    je narrow
    mov ebx, dword ptr [esi]    # length of the name
    mov eax, dword ptr [esi+8]  # size
    mov edx, dword ptr [esi+12]
    cmp dword ptr [esi+4], 0
    jne payload_malformed
    jmp have_head
narrow:
    mov ebx, dword ptr [esi]
    mov eax, dword ptr [esi+4]
    xor edx, edx
have_head:
    cmp ebx, 1
    jb payload_malformed
    cmp ebx, 1024
    ja payload_malformed
    mov dword ptr [file_size], eax
    mov dword ptr [file_size+4], edx
    mov eax, ebp
    xor edx, edx
    call advance
    mov ecx, ebx
    call peek
    jc payload_unreadable
    cmp ecx, ebx
    jb payload_truncated
name_byte:
    lodsb
    cmp al, 0
    je payload_malformed
    cmp al, '/'
    je payload_malformed
    cmp al, '\\'
    je payload_malformed
    loop name_byte
    mov eax, ebx
    xor edx, edx
    call advance
    mov eax, dword ptr [file_size]
    mov edx, dword ptr [file_size+4]
    call advance
    jc payload_malformed        # past 2^64
    mov eax, dword ptr [limit]
    mov edx, dword ptr [limit+4]
    sub eax, dword ptr [base]
    sbb edx, dword ptr [base+4]
    jc payload_truncated        # its data end behind the disk
    mov eax, dword ptr [file_size]
    mov edx, dword ptr [file_size+4]
    add dword ptr [payload_bytes], eax
    adc dword ptr [payload_bytes+4], edx
    inc dword ptr [payload_files]
    jmp next_file

# All files are there by arithmetic; is the last byte there to read?
payload_ends:
    sub dword ptr [base], 1
    sbb dword ptr [base+4], 0
    mov ecx, 1
    call peek
    pushfd
    mov eax, 1
    xor edx, edx
    call advance
    popfd
    jc payload_unreadable
    cmp byte ptr [need_read], 0
    je payload_good
    call read_payload
    jc payload_unreadable
payload_good:
    inc dword ptr [payloads]
    call say_payload
    call say
    .asciz "ok"
    cmp byte ptr [need_read], 0
    je payload_said
    call say
    .asciz " crc="
    mov eax, dword ptr [crc]
    call say_hex32
payload_said:
    call newline
payload_none:
    popad
    ret

payload_truncated:
    or dword ptr [reasons], PAYLOAD_TRUNCATED
    mov esi, offset text_truncated
    jmp payload_bad
payload_malformed:
    or dword ptr [reasons], PAYLOAD_MALFORMED
    mov esi, offset text_malformed
    jmp payload_bad
payload_unreadable:
    or dword ptr [reasons], PAYLOAD_READ
    call say_payload
    mov esi, offset text_unreadable
    call say_text
    call say_bad_sector
    jmp payload_said
payload_bad:
    call say_payload
    call say_text
    jmp payload_said

# Reads a payload whole, from [payload_at] up to [base], to [crc]; carry set
# where a sector cannot be read.
read_payload:
    mov dword ptr [crc], 0xFFFFFFFF
    mov eax, dword ptr [payload_at]
    mov edx, dword ptr [payload_at+4]
read_next:
    mov ecx, dword ptr [base]
    mov ebx, dword ptr [base+4]
    sub ecx, eax
    sbb ebx, edx                # EBX:ECX is what is left
    jnz read_chunk
    jecxz read_whole
    cmp ecx, CHUNK * 512
    jb read_part
read_chunk:
    mov ecx, CHUNK * 512
read_part:
    call progress
    push eax
    push edx
    shrd eax, edx, 9
    shr edx, 9
    mov dword ptr [lba], eax
    mov dword ptr [lba+4], edx
    lea eax, [ecx + 511]
    shr eax, 9
    mov dword ptr [count], eax
    call read_sectors
    cmp eax, dword ptr [count]
    jb read_broken
    push ecx
    mov esi, BUFFER
    call crc_run
    pop ecx
    pop edx
    pop eax
    add eax, ecx
    adc edx, 0
    jmp read_next
read_whole:
    not dword ptr [crc]
    clc
    ret
read_broken:
    pop edx
    pop eax
    stc
    ret

# Moves [base] on by EDX:EAX; carry set past 2^64.
advance:
    add dword ptr [base], eax
    adc dword ptr [base+4], edx
    ret

# Says what was found up to here; [base] is where the walk came to.
say_payload:
    call end_dots
    call say
    .asciz "preflight: payload drive="
    mov al, byte ptr [drive]
    call say_hex8
    call say
    .asciz " at="
    mov eax, dword ptr [payload_at]
    mov edx, dword ptr [payload_at+4]
    call say_dec64
    call say
    .asciz " layout="
    mov eax, dword ptr [payload_head]
    shl eax, 2
    call say_dec32
    call say
    .asciz " files="
    mov eax, dword ptr [payload_files]
    call say_dec32
    call say
    .asciz " of="
    mov eax, dword ptr [payload_count]
    call say_dec32
    call say
    .asciz " bytes="
    mov eax, dword ptr [payload_bytes]
    mov edx, dword ptr [payload_bytes+4]
    call say_dec64
    call say
    .asciz " end="
    mov eax, dword ptr [base]
    mov edx, dword ptr [base+4]
    sub eax, dword ptr [payload_at]
    sbb edx, dword ptr [payload_at+4]
    call say_dec64
    call say
    .asciz " state="
    ret

#------------------------------------------------------------
# Says the verdict and stops the machine.
verdict:
    call say
    .asciz "preflight: verdict "
    mov eax, dword ptr [reasons]
    test eax, eax
    jnz verdict_failed
    call say
    .asciz "ok\n"
    jmp power_off
verdict_failed:
    inc byte ptr [exit_code]
    call say
    .asciz "failed"
    mov bl, ' '                 # before the first, a comma before the rest
    mov esi, offset reason_names
next_reason:
    shr dword ptr [reasons], 1
    jnc skip_reason
    mov al, bl
    call say_char
    mov bl, ','
    call say_text
    jmp reason_done
skip_reason:
    lodsb
    test al, al
    jnz skip_reason
reason_done:
    cmp dword ptr [reasons], 0
    jne next_reason
    call newline

# In QEMU, which shows itself by the signature of its firmware port, the
# machine is switched off; elsewhere these ports may be anything.
power_off:
    cmp byte ptr [com1], 0
    je said_all
    mov ah, 0x40                # all sent
    call com1_wait
said_all:
    mov edx, 0x510
    xor eax, eax
    out dx, ax                  # select the signature
    inc edx
    mov ecx, 4
next_letter:
    in al, dx
    ror eax, 8
    loop next_letter
    cmp eax, 0x554D4551         # "QEMU"
    jne machine_stays

# First the device that is there for this, isa-debug-exit: with it, QEMU's
# exit status is 33 for ok and 35 for failed.
    mov edx, 0xF4
    mov al, byte ptr [exit_code]
    out dx, al
# Then ACPI power off, where SeaBIOS puts it on "pc" and "q35".
    mov edx, 0x604
    mov eax, 0x2000
    out dx, ax
# Then a reset by the keyboard controller, which -no-reboot turns into an exit.
    mov ecx, 0x1000000
    loop $
    mov al, 0xFE
    out 0x64, al
    jmp halt
machine_stays:
    call say
    .asciz "The machine can be switched off now.\n"
halt:
    cli
    hlt
    jmp halt

#------------------------------------------------------------
# Data.
gdt:
    .quad 0
    .quad 0x00CF9A000000FFFF    # 08: code, 32 bits, all of the memory
    .quad 0x00CF92000000FFFF    # 10: data, all of the memory
    .quad 0x00009A000000FFFF    # 18: code, 16 bits, 64 KiB
    .quad 0x000092000000FFFF    # 20: data, 64 KiB
gdt_pointer:
    .word 39
    .long gdt
real_idt:
    .word 0x3FF
    .long 0

packet:                         # what int 13h function 42h takes
    .byte 16, 0
packet_count:
    .word 0
    .word 0
packet_segment:
    .word 0
packet_lba:
    .quad 0

boot_drive:
    .byte 0
drive:
    .byte 0                     # the one asked and read
edd:
    .byte 0
com1:
    .byte 0                     # whether it is there and takes characters
bad_status:
    .byte 0
need_payload:
    .byte 0
need_memory:
    .byte 1
need_read:
    .byte 0
chunks:
    .byte 0
dots:
    .byte 0                     # whether the line has dots on it
exit_code:
    .byte 0x10
srcfs_lba:
    .long 0
r_eax:
    .long 0
r_ebx:
    .long 0
r_ecx:
    .long 0
r_edx:
    .long 0
r_esi:
    .long 0
r_edi:
    .long 0
r_flags:
    .long 0
lba:
    .quad 0
count:
    .long 0
bad_lba:
    .quad 0
retries:
    .long 0
sectors:
    .quad 0
sector_bytes:
    .long 0
disk_bytes:
    .quad 0
crc:
    .long 0xFFFFFFFF
crc_said:
    .long 0
boot_stack:
    .long 0
stream_lba:
    .long 0
stream_next:
    .long BUFFER
stream_end:
    .long BUFFER
position:
    .long 0                     # bytes of the boot disk gone past
entries:
    .long 0
commands:
    .long 0
data_bytes:
    .quad 0
need_files:
    .long FILES_DEFAULT
reasons:
    .long 0
map_end:
    .long 0
spans_end:
    .long 0
places:
    .long 0
faults:
    .long 0
fault_at:
    .long 0
fault_wrote:
    .long 0
fault_read:
    .long 0
base:
    .quad 0                     # where the walk of a payload is
limit:
    .quad 0                     # and where its disk or partition ends
payloads:
    .long 0
payload_at:
    .quad 0
payload_head:
    .long 0
payload_count:
    .long 0
payload_files:
    .long 0
payload_bytes:
    .quad 0
file_size:
    .quad 0
partitions:
    .fill 66, 1, 0              # a disk's partition table and what follows it

text_ok:
    .asciz "ok"
text_absent:
    .asciz "absent"
text_unknown:
    .asciz "unknown"
text_malformed:
    .asciz "malformed"
text_truncated:
    .asciz "truncated"
text_unreadable:
    .asciz "unreadable"
text_unsupported:
    .asciz "unsupported"
text_no_edd:
    .asciz "no-edd"
text_tail_short:
    .asciz "tail-short"
text_tail_unreadable:
    .asciz "tail-unreadable"

reason_names:                   # in the order of the bits
    .asciz "boot-drive"
    .asciz "boot-read"
    .asciz "boot-truncated"
    .asciz "srcfs"
    .asciz "crc-absent"
    .asciz "crc"
    .asciz "boot-tail"
    .asciz "a20"
    .asciz "memory-map"
    .asciz "memory"
    .asciz "payload-missing"
    .asciz "payload-truncated"
    .asciz "payload-malformed"
    .asciz "payload-read"

#------------------------------------------------------------
# With these four bytes the CRC register over all of stage 2 is zero; stage 1
# looks at that before it jumps here.
closing_crc:
    .long 0xED5588BD
