#!/bin/sh
#
# SPDX-License-Identifier: MIT

# Restores from the payload disk what the steps after "jump: move_disk" need. Runs in bash under
# Linux, when the root is on the disk and proc is mounted. Each list names files, one a line, and
# is there if there are any: rest.list distfiles, repo.list prebuilt packages, added.list the tars
# that add_files unpacks. Files that are there already are kept.

# Restores the files of a list into a directory.
import_list() {
    [ -e "/steps/payload-import-1.0/$1" ] || return 0
    mkdir -p "$2"
    # Linux may find a disk, a USB stick most of all, some seconds late: 1 says that none has a
    # payload.
    import_timeout=60
    while true; do
        import_code=0
        payload-import --list "/steps/payload-import-1.0/$1" "$2" || import_code=$?
        if [ "${import_code}" -ne 1 ] || [ "${import_timeout}" -le 0 ]; then
            break
        fi
        sleep 1
        import_timeout=$((import_timeout - 1))
    done
    if [ "${import_code}" -ne 0 ]; then
        exit "${import_code}"
    fi
}

import_list rest.list "${DISTFILES:-/external/distfiles}"
import_list repo.list /external/repo-preseeded
import_list added.list /external/added.tars

unset import_timeout import_code
unset -f import_list
