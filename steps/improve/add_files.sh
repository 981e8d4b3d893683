#!/bin/sh
#
# SPDX-License-Identifier: MIT

# Unpacks the directories that the user has added with --add. Runs in bash under Linux, after
# import_payload_rest, which has restored their tars. In add_files.list a line names a tar, the next
# one the place of its content.

while IFS= read -r add_tar && IFS= read -r add_place; do
    echo "add_files: ${add_place}"
    mkdir -p "${add_place}" || exit 1
    tar -C "${add_place}" -xpf "/external/added.tars/${add_tar}" || exit 1
    rm "/external/added.tars/${add_tar}"
done < /steps/improve/add_files.list
# Nothing needs it any more, and nothing depends on that it goes.
rmdir /external/added.tars || true

unset add_tar add_place
