#!/bin/sh
# SPDX-License-Identifier: MIT
#
# All benchmarks: build.sh, fetch.sh, write.sh and growth.sh. With the defaults it needs 45 GB on the disk and
# 55 GB for the largest distfile, and the machine should do nothing else.
#
#   sh scripts/bench/all.sh LB                       # as the machine is
#   sh scripts/bench/all.sh --no-sha LB              # as if it had no SHA instructions
#   sh scripts/bench/all.sh --cores 1,2,4,8 LB       # how it grows
#   sh scripts/bench/all.sh --mib 100 --rounds 1 --big-gib 2 --at-most 1000 LB    # a trial
#
# usage: all.sh [--dir DIR] [--out DIR] [--rounds N] [--mib N] [--scales LIST] [--big-gib N] [--at-most N] [--cores LIST] [--no-sha] CHECKOUT
#
# The options are described in the scripts that they are for, and in lib.sh; --mib is for build.sh and fetch.sh.

set -eu
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "$0")/lib.sh"
again "$@"
scales=0.1,10
big=50
most=100000
while [ $# -gt 1 ]; do
	case $1 in
		--scales) scales=$2 ;;
		--big-gib) big=$2 ;;
		--at-most) most=$2 ;;
		*) option "$1" "$2" ;;
	esac
	shift 2
done
[ $# -eq 1 ] || usage
set_checkout "$1"
set -- --dir "$dir" --out "${out:-$dir}" --rounds "$rounds"
bench=$home/scripts/bench
sh "$bench/build.sh" "$@" --mib "$mib" --scales "$scales" "$checkout"
sh "$bench/fetch.sh" "$@" --mib "$mib" "$checkout"
sh "$bench/write.sh" "$@" "$checkout"
sh "$bench/growth.sh" "$@" --big-gib "$big" --at-most "$most"
