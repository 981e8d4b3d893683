#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures how distfiles are fetched, from a server on loopback whose every answer begins 40 ms after
# its request:
#
#   seedstrap              `seedstrap fetch` into an empty store
#   rootfs.py              its download part: Generator.get_packages()
#   download-distfiles.sh  of the checkout
#   curl                   `curl --parallel`, and then `sha256sum -c`
#   aria2c                 `aria2c -j 16` with the checksum of each file
#
# and the peak memory of each. Each has its own distfiles in the end, all verified, and they are
# removed before the next run. seedstrap syncs each file before it gives it its name, the others
# leave theirs in the page cache: with --out on a tmpfs the disk does not matter.
#
# usage: fetch.sh [--dir DIR] [--out DIR] [--rounds N] [--mib N] [--delay MS] [--cores LIST] [--no-sha] CHECKOUT
#
#   --delay MS  of every answer (default: 40)
#
# The other options are described in lib.sh.

set -eu
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "$0")/lib.sh"
again "$@"
delay=40
while [ $# -gt 1 ]; do
	case $1 in
		--delay) delay=$2 ;;
		*) option "$1" "$2" ;;
	esac
	shift 2
done
[ $# -eq 1 ] || usage
set_checkout "$1"
begin
for program in curl aria2c; do
	command -v "$program" >/dev/null || fail "$program is missing: run scripts/setup.sh acceptance"
done
python=python3
"$python" -c "import requests" 2>/dev/null || python=/usr/bin/python3
# It would be asked for the answers of a server on loopback, too.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

inputs "$mib"
mkdir "$out/tree"
cp -R "$input/tree/." "$out/tree"
rm -rf "$out/tree/distfiles"
cp "$checkout/download-distfiles.sh" "$out/tree/"
# Generator takes its distfiles to be below the current directory.
cd "$out/tree"

"$bun" "$home/scripts/bench/fetch.ts" "$input/mirror" "$delay" "$out/port" &
server=$!
trap 'kill "$server"; finish' EXIT
while [ ! -f "$out/port" ]; do
	kill -0 "$server" || fail "the server has not started"
	sleep 0.1
done
url=http://127.0.0.1:$(cat "$out/port")

"$out/program" sources --tree "$out/tree" | sort -u -k 4,4 >"$out/sources"
awk '{ print $1 "  " $4 }' "$out/sources" >"$out/SHA256SUMS"
awk -v url="$url" '{ print "url = " url "/" $4; print "output = " $4 }' \
	"$out/sources" >"$out/curl.conf"
awk -v url="$url" '{ print url "/" $4; print "  out=" $4; print "  checksum=sha-256=" $1 }' \
	"$out/sources" >"$out/aria2.list"
cat >"$out/get_packages.py" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
from lib.generator import Generator
Generator("x86", True, None, None, [sys.argv[2]]).get_packages()
END

run() { # NAME
	rm -rf "$out/store" "$out/files" "$out/tree/distfiles"
	sync -f "$out"
	mkdir "$out/files"
	# shellcheck disable=SC2016 # for the inner shell
	case $1 in
		seedstrap)
			measure "$1" "$out/program" fetch --tree "$out/tree" -m "$url" --store "$out/store"
			;;
		rootfs.py) measure "$1" "$python" "$out/get_packages.py" "$out/tree" "$url" ;;
		download-distfiles.sh) measure "$1" bash "$out/tree/download-distfiles.sh" "$url" ;;
		curl)
			measure "$1" sh -c 'cd "$1" && curl -sS --fail --parallel -K ../curl.conf &&
				sha256sum --quiet -c ../SHA256SUMS' sh "$out/files"
			;;
		aria2c)
			measure "$1" aria2c -q -j 16 --file-allocation=none --no-conf -d "$out/files" \
				-i "$out/aria2.list"
			;;
	esac
}

bytes=$(cd "$input/mirror" && awk '{ print $4 }' "$out/sources" | tr '\n' '\0' |
	xargs -0 stat -c %s | awk '{ sum += $1 } END { printf "%d", sum }')
echo "bench: $(wc -l <"$out/sources") files, $bytes bytes, $delay ms before each answer"
alternate seedstrap rootfs.py download-distfiles.sh curl aria2c

heading
row seedstrap "$bytes" rootfs.py 0.20
for name in download-distfiles.sh curl aria2c; do
	row seedstrap "$bytes" "$name" 1.00
done
for name in rootfs.py download-distfiles.sh curl aria2c; do
	row "$name" "$bytes"
done
echo "peak memory of seedstrap under 150 MB: $(goal "$(median seedstrap 3)" 146484)"
