#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures how time and memory of `seedstrap plan` and `seedstrap build` grow with a checkout: with
# its builds, defines, files and distfiles, and with the size of one distfile. The checkouts are made
# by growing.ts. All are built for QEMU, with --force where the plan breaks a limit, and in a directory
# (--chroot), beside `cp -r` of the checkout and its distfiles, which reads no hole and verifies
# nothing.
#
# usage: growth.sh [--dir DIR] [--out DIR] [--rounds N] [--kinds LIST] [--big-gib N] [--at-most N] [--cores LIST] [--no-sha]
#
#   --kinds LIST  of builds, defines, files, distfiles and gib (default: all)
#   --big-gib N   the largest distfile in GiB (default: 50, which needs that much on the disk); it is
#                 compared with one of 1 GiB, in one round
#   --at-most N   leave out counts larger than that
#
# The other options are described in lib.sh.

set -eu
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "$0")/lib.sh"
again "$@"
kinds=builds,defines,files,distfiles,gib
big=50
most=100000
while [ $# -gt 0 ]; do
	[ $# -gt 1 ] || usage
	case $1 in
		--kinds) kinds=$2 ;;
		--big-gib) big=$2 ;;
		--at-most) most=$2 ;;
		*) option "$1" "$2" ;;
	esac
	shift 2
done
begin

run() { # NAME
	rm -rf "$out/target"
	sync
	case $1 in
		cp-r.*)
			measure "$1" cp -r "$input" "$out/target"
			return
			;;
		plan-qemu.*) set -- "$1" plan --qemu --payload always --force ;;
		plan-chroot.*) set -- "$1" plan --chroot ;;
		build-qemu.*) set -- "$1" build --qemu --payload always --force -t "$out/target" ;;
		build-chroot.*) set -- "$1" build --chroot -t "$out/target" ;;
	esac
	name=$1
	shift
	measure "$name" "$out/program" "$@" --external-sources --offline --tree "$input/tree" \
		-m "file://$input/mirror" --distfiles "$out/store"
}

wanted=$rounds
works="plan-qemu plan-chroot build-qemu build-chroot cp-r"
for kind in $(echo "$kinds" | tr ',' ' '); do
	case $kind in
		builds | defines) counts="5000 10000 20000" ;;
		files) counts="1000 10000 50000 100000" ;;
		distfiles) counts="1000 5000 10000 20000" ;;
		gib) counts="1 $big" ;;
		*) usage ;;
	esac
	rounds=$([ "$kind" = gib ] && echo 1 || echo "$wanted")
	for count in $counts; do
		[ "$count" -le "$most" ] || continue
		echo "$count $kind"
		input=$out/input
		rm -rf "$input"
		"$bun" "$home/scripts/bench/growing.ts" "$input" "$kind" "$count"
		# shellcheck disable=SC2046,SC2086 # lists of words
		alternate $(printf "%s.$kind.$count " $works)
		echo "$kind $count" >>"$out/counts"
	done
done

echo "medians of $wanted rounds: wall s and peak MiB"
# shellcheck disable=SC2086 # a list of words
printf "  %-9s %7s%s\n" input count "$(printf ' %15s' $works)"
while read -r kind count; do
	printf '  %-9s %7d' "$kind" "$count"
	for work in $works; do
		name=$work.$kind.$count
		printf ' %7.2f %7.1f' "$(median "$name" 1)" "$(median "$name" 3 | awk '{ print $1 / 1024 }')"
		echo "$work $kind $count $(median "$name" 1) $(median "$name" 3)" >>"$out/table"
	done
	echo
done <"$out/counts"

# Of the two largest of each kind. Twice the input may take 2.4 times as long. Most of what takes less
# than half a second is the start of the program.
awk '
	function verdict(value, limit) {
		return sprintf("%.2f, goal %.2f: %s", value, limit, value <= limit ? "met" : "NOT MET")
	}
	$1 != "cp-r" {
		key = $1 " " $2
		if (!(key in count)) keys[++n] = key
		else {
			growth[key] = ($4 / (wall[key] > 0 ? wall[key] : 0.01)) / ($3 / count[key])
			peak[key] = $5 / kib[key]
			from[key] = count[key]
		}
		count[key] = $3; wall[key] = $4; kib[key] = $5
	}
	END {
		print "growth of the time from the largest but one, as a multiple of that of the input"
		for (i = 1; i <= n; i++) {
			key = keys[i]
			if (!(key in from)) continue
			printf "  %-22s %d to %d: ", key, from[key], count[key]
			print wall[key] < 0.5 ? "too short to tell" : verdict(growth[key], 1.2)
			if (key ~ / gib$/) printf "  %-22s peak memory: %s\n", key, verdict(peak[key], 1.1)
		}
	}' "$out/table"
