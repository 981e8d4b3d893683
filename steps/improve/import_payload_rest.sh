#!/bin/sh
#
# SPDX-License-Identifier: MIT

# Restores the distfiles that the steps behind "jump: move_disk" need from the payload disk. Runs in
# bash under Linux, when the root lies on the disk and proc is mounted. rest.list names them, one a
# line; those that are there already are kept.

mkdir -p "${DISTFILES:-/external/distfiles}"
payload-import --list /steps/payload-import-1.0/rest.list "${DISTFILES:-/external/distfiles}"
