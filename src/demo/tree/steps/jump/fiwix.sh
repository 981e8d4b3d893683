#!/bin/sh
# SPDX-License-Identifier: MIT
# A ramdisk of 8 MiB is enough for everything here.
make_fiwix_initrd -s 8192 /boot/fiwix.ext2
kexec-fiwix /boot/fiwix -i /boot/fiwix.ext2 -c "fiwix kexec_size=4096"
