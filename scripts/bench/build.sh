#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures `seedstrap build` beside the checkout's own rootfs.py, and beside the cost of any
# verified copy: `cat` of the same bytes into one file, and `openssl dgst` of that file.
#
# Every distfile is already there (no download is measured), and QEMU is a stand-in that ends at
# once. The programs take turns, and each round starts with another one, since a disk can still be
# busy with the output of the run before. That output is removed and synced before the next run.
# The time of seedstrap includes an fsync of its images; rootfs.py and the copy leave theirs in the
# page cache, so the copy is also measured with a `sync` of its file at the end. With `--out` on a
# tmpfs the figures do not depend on the disk.
#
# usage: build.sh [--dir DIR] [--out DIR] [--rounds N] [--mib N] CHECKOUT
#
#   --dir DIR   directory of the synthetic inputs, made if missing (default: seedstrap-bench in
#               TMPDIR)
#   --out DIR   directory of the outputs (default: --dir)
#   --rounds N  runs of each program (default: 5)
#   --mib N     total size of the distfiles (default: 1400)

set -eu
home=$(cd "$(dirname "$0")/../.." && pwd)

usage() {
	echo "usage: build.sh [--dir DIR] [--out DIR] [--rounds N] [--mib N] CHECKOUT" >&2
	exit 2
}
dir=${TMPDIR:-/tmp}/seedstrap-bench
out=""
rounds=5
mib=1400
while [ $# -gt 1 ]; do
	case $1 in
		--dir) dir=$2 ;;
		--out) out=$2 ;;
		--rounds) rounds=$2 ;;
		--mib) mib=$2 ;;
		*) usage ;;
	esac
	shift 2
done
[ $# -eq 1 ] || usage
if [ ! -f "$1/rootfs.py" ]; then
	echo "bench: $1 is not a checkout: it has no rootfs.py" >&2
	exit 2
fi
checkout=$(cd "$1" && pwd)
mkdir -p "$dir" "${out:=$dir}"
dir=$(cd "$dir" && pwd)
out=$(mktemp -d "$(cd "$out" && pwd)/out.XXXXXX")
trap 'rm -rf "$out"' EXIT
trap 'exit 1' HUP INT TERM

sh "$home/scripts/setup.sh" acceptance
sh "$home/scripts/build.sh"
# A copy, so that a new build of the binary meanwhile does not matter.
cp "$home/dist/seedstrap" "$out/program"
PATH=$PATH:/usr/sbin:/sbin
python=python3
"$python" -c "import requests" 2>/dev/null || python=/usr/bin/python3
printf '#!/bin/sh\nexit 0\n' >"$out/qemu"
chmod +x "$out/qemu"

inputs() { # MIB: makes DIR/MIB/tree with its distfiles, unless it exists
	[ ! -f "$dir/$1/complete" ] || return 0
	rm -rf "${dir:?}/$1"
	"$home/node_modules/.bin/bun" "$home/scripts/bench/synthetic.ts" "$checkout" "$dir/$1" "$1"
	mkdir "$dir/$1/tree/distfiles"
	ln "$dir/$1/mirror/"* "$dir/$1/tree/distfiles/"
	: >"$dir/$1/complete"
}

# measure NAME MIB: runs a program once; adds "wall user+sys peak-KiB" to its figures.
measure() {
	rm -rf "$out/rootfs" "$out/seedstrap" "$out/copy" "$out/store"
	sync
	input=$dir/$2
	cd "$input/tree"
	case $1 in
		rootfs.py)
			set -- "$1" "$2" "$python" rootfs.py --qemu --qemu-cmd "$out/qemu" --external-sources \
				-m "file://$input/mirror" -t "$out/rootfs"
			;;
		seedstrap)
			set -- "$1" "$2" "$out/program" build --qemu --external-sources \
				-m "file://$input/mirror" --tree . --distfiles "$out/store" -t "$out/seedstrap"
			;;
		cat+openssl*)
			# shellcheck disable=SC2016 # for the inner shell
			set -- "$1" "$2" sh -c 'find distfiles seed steps -type f -print0 | LC_ALL=C sort -z |
				xargs -0 cat >"$1" && openssl dgst -sha256 "$1" && $2 "$1"' \
				sh "$out/copy" "$(case $1 in *+sync) echo sync ;; *) echo test -f ;; esac)"
			;;
	esac
	figures=$out/$1.$2
	name=$1
	shift 2
	if ! env time -o "$out/time" -f '%e %U %S %M' "$@" >"$out/log" 2>&1 </dev/null; then
		cat "$out/log" >&2
		echo "bench: $name failed" >&2
		exit 1
	fi
	awk '{ printf "%.2f %.2f %d\n", $1, $2 + $3, $4 }' "$out/time" >>"$figures"
	tail -n 1 "$figures" | awk -v name="$name" \
		'{ printf "  %-16s %6.2f s wall %6.2f s CPU %8.1f MiB peak\n", name, $1, $2, $3 / 1024 }'
}

median() { # NAME MIB COLUMN
	sort -n -k "$3" "$out/$1.$2" | awk -v column="$3" '{ v[NR] = $column }
		END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
goal() { # TEXT VALUE LIMIT: met if VALUE is at most LIMIT
	awk -v text="$1" -v value="$2" -v limit="$3" \
		'BEGIN { printf "  %-8s %s\n", value <= limit ? "met" : "NOT MET", text }'
}

tenth=$((mib / 10))
inputs "$mib"
inputs "$tenth"

echo "bench: $(nproc) cores, $mib MiB of distfiles, outputs on $(stat -f -c %T "$out")"
names="rootfs.py seedstrap cat+openssl cat+openssl+sync"
order=$names
rotate() { # WORD...
	first=$1
	shift
	echo "$@" "$first"
}
round=1
while [ "$round" -le "$rounds" ]; do
	echo "round $round of $rounds"
	for name in $order; do
		measure "$name" "$mib"
	done
	# shellcheck disable=SC2086 # a list of words
	order=$(rotate $order)
	round=$((round + 1))
done
echo "at a tenth of the data"
for round in 1 2 3; do
	measure seedstrap "$tenth"
done

echo "medians of $rounds rounds"
for name in $names; do
	printf '  %-16s %6.2f s wall %6.2f s CPU\n' "$name" \
		"$(median "$name" "$mib" 1)" "$(median "$name" "$mib" 2)"
done
ours=$(median seedstrap "$mib" 1)
peak=$(median seedstrap "$mib" 3)
small=$(median seedstrap "$tenth" 3)
echo "  rootfs.py takes $(ratio "$(median rootfs.py "$mib" 1)" "$ours") times as long as seedstrap"
echo "  cat+openssl takes $(ratio "$(median cat+openssl "$mib" 1)" "$ours") times as long as seedstrap"
echo "  peak memory of seedstrap: $((peak / 1024)) MiB, at a tenth of the data $((small / 1024)) MiB"
echo "goals"
goal "at least 2 times faster than rootfs.py" "$ours" "$(ratio "$(median rootfs.py "$mib" 1)" 2)"
goal "faster than cat+openssl" "$ours" "$(median cat+openssl "$mib" 1)"
goal "peak memory under 200 MB" "$((peak * 1024))" 200000000
goal "within 10 % of that at a tenth of the data" "$((peak * 10))" "$((small * 11))"
