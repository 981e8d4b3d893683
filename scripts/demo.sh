#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Shows seedstrap on a machine that has only Node.js and npm: installs what is missing, builds the
# binary, and runs its demo.
#
# usage: demo.sh [OPTION...]   options of `seedstrap demo`

set -eu
scripts=$(dirname "$0")
sh "$scripts/setup.sh" demo
sh "$scripts/build.sh"
exec "$scripts/../dist/seedstrap" demo "$@"
