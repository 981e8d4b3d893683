#!/bin/sh
#
# SPDX-License-Identifier: MIT

# Restores the distfiles that the steps behind "jump: move_disk" need from the payload disk. Runs in
# bash under Linux, when the root lies on the disk and proc is mounted. rest.list names them, one a
# line; those that are there already are kept.

mkdir -p "${DISTFILES:-/external/distfiles}"

# Linux may find a disk, a USB stick most of all, some seconds late: 1 says that none has a payload.
import_timeout=60
while true; do
    import_code=0
    payload-import --list /steps/payload-import-1.0/rest.list \
        "${DISTFILES:-/external/distfiles}" || import_code=$?
    if [ "${import_code}" -ne 1 ] || [ "${import_timeout}" -le 0 ]; then
        break
    fi
    sleep 1
    import_timeout=$((import_timeout - 1))
done
if [ "${import_code}" -ne 0 ]; then
    exit "${import_code}"
fi

unset import_timeout import_code
