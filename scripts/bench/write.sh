#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures `seedstrap write` to a loop device beside dd, with a sparse image of 8 GB that has
# 1.4 GB of data at its beginning:
#
#   write, not read back   beside `dd bs=4M oflag=direct conv=fsync` of the data only
#   write, read back       beside dd of the whole image with the same options, followed by `cmp`
#
# dd does not use holes, so the second dd has conv=sparse, on a device that is known to be zeros;
# seedstrap zeroes the ranges of holes. The programs take turns, and each round starts with another
# one. Before each run the device is zeroed (blkdiscard, which punches its file), so that all start
# with the same state. Peak memory is also measured with an image of 10 GB.
#
# usage: write.sh [--dir DIR] [--rounds N]      as root; needs about 10 GB in DIR (default: TMPDIR)

set -eu
home=$(cd "$(dirname "$0")/../.." && pwd)
usage() {
	echo "usage: write.sh [--dir DIR] [--rounds N]" >&2
	exit 2
}
dir=${TMPDIR:-/tmp}
rounds=5
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || usage
	case $1 in
		--dir) dir=$2 ;;
		--rounds) rounds=$2 ;;
		*) usage ;;
	esac
	shift 2
done
if [ "$(id -u)" -ne 0 ]; then
	echo "bench: loop devices need root" >&2
	exit 2
fi
PATH=$PATH:/usr/sbin:/sbin
out=$(mktemp -d "$dir/seedstrap-bench-write.XXXXXX")
loop=""
cleanup() {
	[ -z "$loop" ] || losetup -d "$loop" || true
	rm -rf "$out"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
sh "$home/scripts/setup.sh" acceptance
sh "$home/scripts/build.sh"
# A copy, so that a new build of the binary meanwhile does not matter.
cp "$home/dist/seedstrap" "$out/program"

mib=1335 # 1.4 GB
image=$out/image
dd if=/dev/urandom of="$image" bs=1M count=$mib 2>/dev/null
dd if=/dev/zero of="$image" bs=512 count=1 conv=notrunc 2>/dev/null
# A partition of 1 GiB: an image is written only where it says what it holds.
printf '\0\1\1\0\203\376\377\377\0\10\0\0\0\0\40\0' |
	dd of="$image" bs=1 seek=446 conv=notrunc 2>/dev/null
printf '\125\252' | dd of="$image" bs=1 seek=510 conv=notrunc 2>/dev/null
truncate -s 8000000000 "$image"
truncate -s %4096 "$image"
truncate -s 10G "$out/disk"
loop=$(losetup -f --show "$out/disk")
name=$(basename "$loop")

# measure NAME COMMAND...: runs a command once; adds "wall peak-KiB" to its figures.
measure() {
	figures=$out/$1
	shift
	blkdiscard -f "$loop"
	sync
	head -c $((mib * 1048576)) "$image" >/dev/null # so that its data is always in the page cache
	if ! env time -o "$out/time" -f '%e %M' "$@" >"$out/log" 2>&1 </dev/null; then
		cat "$out/log" >&2
		echo "bench: failed: $*" >&2
		exit 1
	fi
	cat "$out/time" >>"$figures"
	echo "  $(basename "$figures"): $(cut -d ' ' -f 1 "$out/time") s"
}
run() {
	case $1 in
		dd) measure "$1" dd if="$image" of="$loop" bs=4M iflag=count_bytes \
			count=${mib}M oflag=direct conv=fsync ;;
		dd+cmp)
			# shellcheck disable=SC2016 # for the inner shell
			measure "$1" sh -c 'dd if="$1" of="$2" bs=4M oflag=direct conv=fsync,sparse &&
				cmp -n "$(wc -c <"$1")" "$1" "$2"' sh "$image" "$loop"
			;;
		write) measure "$1" "$out/program" write --no-verify "$image" "$loop" --yes "$name" ;;
		write+verify) measure "$1" "$out/program" write "$image" "$loop" --yes "$name" ;;
	esac
}
median() { # NAME COLUMN
	sort -n -k "$2" "$out/$1" | awk -v column="$2" '{ v[NR] = $column }
		END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'
}
goal() { # TEXT VALUE LIMIT: met if VALUE is at most LIMIT
	awk -v text="$1" -v value="$2" -v limit="$3" \
		'BEGIN { printf "  %-8s %s\n", value <= limit ? "met" : "NOT MET", text }'
}

names="dd write dd+cmp write+verify"
echo "bench: $(nproc) cores, $mib MiB of data in an image of $(wc -c <"$image") bytes"
round=1
order=$names
while [ "$round" -le "$rounds" ]; do
	echo "round $round of $rounds"
	for one in $order; do
		run "$one"
	done
	order="${order#* } ${order%% *}"
	round=$((round + 1))
done
truncate -s 10G "$image"
truncate -s 11G "$out/disk"
losetup -c "$loop"
cp "$out/write+verify" "$out/kept"
run write+verify
peak=$(tail -n 1 "$out/write+verify" | cut -d ' ' -f 2)
mv "$out/kept" "$out/write+verify"

echo "medians of $rounds rounds"
for one in $names; do
	printf '  %-14s %6.2f s  %6.1f MiB peak\n' "$one" "$(median "$one" 1)" \
		"$(awk -v k="$(median "$one" 2)" 'BEGIN { print k / 1024 }')"
done
echo "  peak memory of write+verify with an image of 10 GiB: $((peak / 1024)) MiB"
echo "goals"
goal "at least as fast as dd of the data only" "$(median write 1)" "$(median dd 1)"
goal "read back, faster than dd and cmp" "$(median write+verify 1)" "$(median dd+cmp 1)"
goal "peak memory under 200 MB" "$((peak * 1024))" 200000000
