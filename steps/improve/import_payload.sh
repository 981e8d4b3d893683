#!/bin/sh
#
# SPDX-License-Identifier: MIT

# Restores the distfiles that the steps from here on need from the payload disk. Runs in kaem,
# right behind "jump: fiwix". fiwix.list names them, one a line: all that the payload has, or, where
# import_payload_rest follows later, those that are needed before it. The list is always there.

# shellcheck disable=SC2086 # kaem does not split words
set -ex

if match x${DISTFILES} x; then
    DISTFILES=/external/distfiles
fi

mkdir -p ${DISTFILES}
payload-import --list /steps/payload-import-1.0/fiwix.list ${DISTFILES}
