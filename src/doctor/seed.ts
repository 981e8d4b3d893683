// SPDX-License-Identifier: MIT
/**
 * The program that is started in place of the seed, in a directory, to find out what a bootstrap
 * may do there. It is an executable for 32-bit x86 without libraries, as the seeds are.
 *
 * It prints `doctor: WORD` for each of {@link ROOT_ABILITIES} that it has, and ends with 0.
 *
 * @module
 */

import { assembleHex0 } from "../format/hex0.ts";

/** What the program tries. */
export const ROOT_ABILITIES: readonly (readonly [word: string, what: string])[] = [
  ["runs", "32-bit programs"],
  ["writes", "making a file"],
  ["null", "/dev/null"],
  ["proc", "proc"],
  ["forks", "processes"],
];

/** The program: its bytes, and the assembler source of each line as a comment, as in guest.ts. */
export const ROOT_LISTING: string = String.raw`
# .intel_syntax noprefix
# .code32
# .text

# .equ BASE, 0x08048000

# The header of an ELF file for i386 with one segment: the whole file, readable and executable.
#:header  [8048000]
7F 45 4C 46 01 01 01 00        # .byte 0x7F, 0x45, 0x4C, 0x46, 1, 1, 1, 0
00 00 00 00 00 00 00 00        # .long 0, 0
02 00 03 00                    # .word 2, 3                   ; an executable, for the 80386
01 00 00 00 54 80 04 08 34 00  # .long 1, start, 52, 0, 0     ; version, entry, offset of the segments, no sections, flags
00 00 00 00 00 00 00 00 00 00
34 00 20 00 01 00 00 00 00 00  # .word 52, 32, 1, 0, 0, 0     ; sizes of the headers, one segment
00 00
01 00 00 00 00 00 00 00 00 80  # .long 1, 0, BASE, BASE       ; to be loaded: offset and addresses
04 08 00 80 04 08
C5 01 00 00 C5 01 00 00 05 00  # .long end - header, end - header, 5, 0x1000
00 00 00 10 00 00

#:start  [8048054]
B9 81 81 04 08                 # mov ecx, offset said_runs
E8 DE 00 00 00                 # call say
BB 54 81 04 08                 # mov ebx, offset path_file    ; a file of its own
B9 A4 01 00 00                 # mov ecx, 0644
B8 08 00 00 00                 # mov eax, 8                   ; creat
CD 80                          # int 0x80
85 C0                          # test eax, eax
78 0A                          # js try_null
B9 8E 81 04 08                 # mov ecx, offset said_writes
E8 BF 00 00 00                 # call say
#:try_null  [804807D]
BB 5C 81 04 08                 # mov ebx, offset path_dev     ; the null device, which it makes where it is missing
E8 9E 00 00 00                 # call make_directory
BB 61 81 04 08                 # mov ebx, offset path_null
B9 B6 21 00 00                 # mov ecx, 020666
BA 03 01 00 00                 # mov edx, 0x103
B8 0E 00 00 00                 # mov eax, 14                  ; mknod
CD 80                          # int 0x80
BB 61 81 04 08                 # mov ebx, offset path_null
B9 02 00 00 00                 # mov ecx, 2                   ; for reading and writing
E8 86 00 00 00                 # call open
78 0A                          # js try_proc
B9 9D 81 04 08                 # mov ecx, offset said_null
E8 84 00 00 00                 # call say
#:try_proc  [80480B8]
BB 6B 81 04 08                 # mov ebx, offset path_proc    ; proc, which it mounts where it is missing
E8 63 00 00 00                 # call make_directory
BB 6C 81 04 08                 # mov ebx, offset name_proc
B9 6B 81 04 08                 # mov ecx, offset path_proc
BA 6C 81 04 08                 # mov edx, offset name_proc
31 F6                          # xor esi, esi
31 FF                          # xor edi, edi
B8 15 00 00 00                 # mov eax, 21                  ; mount
CD 80                          # int 0x80
BB 71 81 04 08                 # mov ebx, offset path_stat
31 C9                          # xor ecx, ecx
E8 4A 00 00 00                 # call open
78 0A                          # js try_fork
B9 AA 81 04 08                 # mov ecx, offset said_proc
E8 48 00 00 00                 # call say
#:try_fork  [80480F4]
B8 02 00 00 00                 # mov eax, 2                   ; fork
CD 80                          # int 0x80
85 C0                          # test eax, eax
78 1D                          # js leave_now
74 1B                          # jz leave_now
89 C3                          # mov ebx, eax
31 C9                          # xor ecx, ecx
31 D2                          # xor edx, edx
B8 07 00 00 00                 # mov eax, 7                   ; waitpid
CD 80                          # int 0x80
39 D8                          # cmp eax, ebx
75 0A                          # jne leave_now
B9 B7 81 04 08                 # mov ecx, offset said_forks
E8 20 00 00 00                 # call say
#:leave_now  [804811C]
31 DB                          # xor ebx, ebx
B8 01 00 00 00                 # mov eax, 1                   ; exit
CD 80                          # int 0x80

#:make_directory  [8048125]
B9 ED 01 00 00                 # mov ecx, 0755
B8 27 00 00 00                 # mov eax, 39                  ; mkdir
CD 80                          # int 0x80
C3                             # ret
#:open  [8048132]
B8 05 00 00 00                 # mov eax, 5                   ; open
CD 80                          # int 0x80
85 C0                          # test eax, eax
C3                             # ret
#:say  [804813C]
89 CA                          # mov edx, ecx                 ; to the end of the line
#:say_next  [804813E]
42                             # inc edx
80 7A FF 0A                    # cmp byte ptr [edx - 1], 10
75 F9                          # jne say_next
29 CA                          # sub edx, ecx
BB 01 00 00 00                 # mov ebx, 1
B8 04 00 00 00                 # mov eax, 4                   ; write
CD 80                          # int 0x80
C3                             # ret

#:path_file  [8048154]
2F 64 6F 63 74 6F 72 00        # .ascii "/doctor\0"
#:path_dev  [804815C]
2F 64 65 76 00                 # .ascii "/dev\0"
#:path_null  [8048161]
2F 64 65 76 2F 6E 75 6C 6C 00  # .ascii "/dev/null\0"
#:path_proc  [804816B]
2F                             # .ascii "/"
#:name_proc  [804816C]
70 72 6F 63 00                 # .ascii "proc\0"
#:path_stat  [8048171]
2F 70 72 6F 63 2F 73 65 6C 66  # .ascii "/proc/self/stat\0"
2F 73 74 61 74 00
#:said_runs  [8048181]
64 6F 63 74 6F 72 3A 20 72 75  # .ascii "doctor: runs\n"
6E 73 0A
#:said_writes  [804818E]
64 6F 63 74 6F 72 3A 20 77 72  # .ascii "doctor: writes\n"
69 74 65 73 0A
#:said_null  [804819D]
64 6F 63 74 6F 72 3A 20 6E 75  # .ascii "doctor: null\n"
6C 6C 0A
#:said_proc  [80481AA]
64 6F 63 74 6F 72 3A 20 70 72  # .ascii "doctor: proc\n"
6F 63 0A
#:said_forks  [80481B7]
64 6F 63 74 6F 72 3A 20 66 6F  # .ascii "doctor: forks\n"
72 6B 73 0A
#:end  [80481C5]
`;

/** Returns the program. */
export function rootProgram(): Uint8Array {
  return assembleHex0(new TextEncoder().encode(ROOT_LISTING), "the program of doctor");
}
