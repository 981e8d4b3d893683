# shellcheck shell=sh disable=SC2034 # variables are for the scripts that source this
# SPDX-License-Identifier: MIT
#
# What the benchmarks share. A script sources this, calls `again "$@"`, reads its options with
# `option`, calls `begin`, defines `run NAME`, which measures one program once, and calls
# `alternate` and then `row` for each line of its table.
#
# Options of every script, before its operands:
#
#   --dir DIR     directory of the synthetic inputs, made if missing (default: seedstrap-bench in
#                 TMPDIR)
#   --out DIR     directory of the outputs (default: --dir); on a tmpfs the disk does not matter
#   --rounds N    runs of each program (default: 5)
#   --mib N       total size of the distfiles
#   --cores LIST  does everything again on that many cores, for each number of the list (1,2,4)
#   --no-sha      without the SHA instructions of an x86 processor, in all programs: OpenSSL and the
#                 BoringSSL of Bun obey OPENSSL_ia32cap, and bit 29 of its second word is theirs

home=$(cd "$(dirname "$0")/../.." && pwd)
bun=$home/node_modules/.bin/bun
dir=${TMPDIR:-/tmp}/seedstrap-bench
out=""
rounds=5
mib=1400
loop=""

usage() { # the line of the header that begins with it
	sed -n 's/^# \(usage: .*\)/\1/p' "$0" >&2
	exit 2
}

fail() {
	echo "bench: $*" >&2
	exit 1
}

quietly() { # COMMAND...: with its output only if it fails
	if ! "$@" >"$out/log" 2>&1 </dev/null; then
		cat "$out/log" >&2
		fail "failed: $*"
	fi
}

# again ARGUMENT...: with --cores or --no-sha, runs the script without them as they say, and ends.
again() {
	list=""
	taken=""
	left=$#
	while [ "$left" -gt 0 ]; do
		case $1 in
			--no-sha)
				[ "$(uname -m)" = x86_64 ] || fail "--no-sha is for x86"
				export OPENSSL_ia32cap='~0x20000000:~0x20000000'
				taken=1
				;;
			--cores)
				[ "$left" -gt 1 ] || usage
				list=$(echo "$2" | tr ',' ' ')
				taken=1
				shift
				left=$((left - 1))
				;;
			*) set -- "$@" "$1" ;;
		esac
		shift
		left=$((left - 1))
	done
	[ -n "$taken" ] || return 0
	for count in ${list:=$(nproc)}; do
		first_processors "$count" >/dev/null || fail "--cores $count: there are $(nproc)"
	done
	for count in $list; do
		taskset -c "$(first_processors "$count")" sh "$0" "$@" || exit
	done
	exit 0
}

first_processors() { # COUNT: of those that this process may use, as taskset takes them
	taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' | awk -F - -v count="$1" '
		{ for (p = $1; p <= $NF && n < count; p++) list = list (n++ ? "," : "") p }
		END { print list; exit n < count || count < 1 }'
}

option() { # NAME VALUE
	case $1 in
		--dir) dir=$2 ;;
		--out) out=$2 ;;
		--rounds) rounds=$2 ;;
		--mib) mib=$2 ;;
		*) usage ;;
	esac
}

set_checkout() { # DIR
	if [ ! -f "$1/rootfs.py" ]; then
		echo "bench: $1 is not a checkout: it has no rootfs.py" >&2
		exit 2
	fi
	checkout=$(cd "$1" && pwd)
}

finish() {
	[ -z "$loop" ] || losetup -d "$loop" || true
	rm -rf "$out"
}

# Makes the directory of the outputs and the program in it, and says what machine this is.
begin() {
	mkdir -p "$dir" "${out:=$dir}"
	dir=$(cd "$dir" && pwd)
	out=$(mktemp -d "$(cd "$out" && pwd)/out.XXXXXX")
	trap finish EXIT
	trap 'exit 1' HUP INT TERM
	mkdir "$out/figures"
	PATH=$PATH:/usr/sbin:/sbin
	quietly sh "$home/scripts/setup.sh" acceptance
	sed -n '/missing:/,/apt-get/p' "$out/log" >&2
	quietly sh "$home/scripts/build.sh"
	# A copy, so that a new build of the binary meanwhile does not matter.
	cp "$home/dist/seedstrap" "$out/program"
	machine
}

# Prints the processor and its rates, and sets rate, bytes a second of the runtime on one core, and
# sha, yes where the SHA instructions are used.
machine() {
	sha=no
	instructions="no SHA instructions"
	name=$(grep -m 1 -o -w -E 'sha_ni|sha2' /proc/cpuinfo || true)
	if [ -n "$name" ]; then
		sha=yes
		instructions="SHA instructions ($name)"
		if [ -n "${OPENSSL_ia32cap:-}" ]; then
			sha=no
			instructions="$instructions, which are not used"
		fi
	fi
	# Best of five times 0.2 s: something else may run meanwhile.
	rate=$("$bun" -e '
		const { createHash } = require("node:crypto");
		const piece = new Uint8Array(256 * 1024);
		let best = 0;
		for (let i = 0; i < 5; i++) {
			const hash = createHash("sha256");
			const begin = performance.now();
			let bytes = 0;
			for (; performance.now() - begin < 200; bytes += piece.length) hash.update(piece);
			hash.digest();
			best = Math.max(best, 1000 * bytes / (performance.now() - begin));
		}
		console.log(Math.round(best));
	')
	openssl=$(openssl speed -elapsed -seconds 1 -bytes 262144 -evp sha256 -mr 2>/dev/null |
		sed -n 's/^+F:.*://p')
	echo "bench: $(lscpu | sed -n 's/^Model name: *//p' | head -n 1), $instructions"
	awk -v cores="$(nproc)" -v rate="$rate" -v openssl="$openssl" -v where="$(stat -f -c %T "$out")" '
		BEGIN {
			printf "bench: %d cores; SHA-256 on one: %.2f GB/s in the runtime, ", cores, rate / 1e9
			printf "%.2f GB/s in openssl; outputs on %s\n", openssl / 1e9, where
		}'
}

inputs() { # MIB: makes DIR/MIB/tree with its distfiles, unless it exists, and sets input
	input=$dir/$1
	[ ! -f "$input/complete" ] || return 0
	rm -rf "$input"
	"$bun" "$home/scripts/bench/synthetic.ts" "$checkout" "$input" "$1"
	mkdir "$input/tree/distfiles"
	ln "$input/mirror/"* "$input/tree/distfiles/"
	: >"$input/complete"
}

# measure NAME COMMAND...: runs a command once; adds "wall CPU peak-KiB" to the figures of NAME.
measure() {
	figures=$out/figures/$1
	shift
	quietly env time -o "$out/time" -f '%e %U %S %M' "$@"
	awk '{ printf "%.2f %.2f %d\n", $1, $2 + $3, $4 }' "$out/time" >>"$figures"
	tail -n 1 "$figures" | awk -v name="${figures##*/}" \
		'{ printf "  %-24s %7.2f s wall %7.2f s CPU %8.1f MiB peak\n", name, $1, $2, $3 / 1024 }'
}

# alternate NAME...: `run NAME` for each in turn; each round begins with another one, since a disk
# can still be busy with the output of the run before.
alternate() {
	round=1
	while [ "$round" -le "$rounds" ]; do
		echo "round $round of $rounds"
		for one in "$@"; do
			run "$one"
		done
		set -- "$@" "$1"
		shift
		round=$((round + 1))
	done
}

median() { # NAME COLUMN: 1 for wall, 2 for CPU, 3 for peak memory
	sort -n -k "$2,$2" "$out/figures/$1" | awk -v column="$2" '{ v[NR] = $column }
		END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'
}

# Times are multiples of 10 ms.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / (b > 0.01 ? b : 0.01) }'; }

goal() { # VALUE LIMIT: says whether VALUE is at most LIMIT
	awk -v value="$1" -v limit="$2" 'BEGIN { print value <= limit ? "met" : "NOT MET" }'
}

# The bound is the time in which the runtime can hash the bytes on all cores.
heading() {
	echo "medians of $rounds rounds; bound: SHA-256 of the bytes on $(nproc) cores"
	printf '  %-20s %8s %8s %8s %9s %7s  %s\n' work "wall s" "CPU s" MiB bytes/MB "bound" "ratio"
}

# row NAME BYTES [OTHER [LIMIT]]: a line of the table: the medians of NAME, its time as a multiple
# of the bound for BYTES, of that of OTHER, and whether this is at most LIMIT.
row() {
	wall=$(median "$1" 1)
	awk -v name="$1" -v wall="$wall" -v cpu="$(median "$1" 2)" -v kib="$(median "$1" 3)" \
		-v bytes="$2" -v rate="$rate" -v cores="$(nproc)" 'BEGIN {
			printf "  %-20s %8.2f %8.2f %8.1f %9.1f ", name, wall, cpu, kib / 1024, bytes / 1e6
			printf "%6.1fx", wall / (bytes / rate / cores)
		}'
	if [ $# -gt 2 ]; then
		of=$(ratio "$wall" "$(median "$3" 1)")
		printf '  %s of %s' "$of" "$3"
		[ $# -eq 3 ] || printf ', goal %s: %s' "$4" "$(goal "$of" "$4")"
	fi
	echo
}

size() { # FILE: its bytes
	stat -c %s "$1"
}
