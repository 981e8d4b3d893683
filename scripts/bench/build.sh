#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures what seedstrap does with a checkout of live-bootstrap and all its distfiles:
#
#   build         beside rootfs.py, and beside the cost of any verified copy, `cat` of the same bytes
#                 into one file and `openssl dgst` of that file
#   reproduce     beside build
#   image verify, image ls -l
#                 of the payload image, beside `openssl dgst` of it
#   bundle create beside `tar cf` and `openssl dgst` of the result
#   bundle verify beside `openssl dgst` of the bundle
#   bundle unpack beside `tar xf`
#   build from a bundle
#                 beside `cat` of the bundle into a file and `openssl dgst` of that
#
# and the peak memory of each, also at a tenth of the data, in three runs, and at ten times the data,
# in one.
#
# Every distfile is already there (no download is measured), and QEMU is a stand-in that ends at
# once. The output of a run is removed and synced before the next run. The time of seedstrap includes
# an fsync of its images; rootfs.py, tar and the copy leave theirs in the page cache, so the copy is
# also measured with a `sync` of its file at the end.
#
# usage: build.sh [--dir DIR] [--out DIR] [--rounds N] [--mib N] [--scales LIST] [--cores LIST] [--no-sha] CHECKOUT
#
#   --mib N        total size of the distfiles (default: 1400); ten times that is needed three times
#                  on the disk
#   --scales LIST  multiples of the data at which peak memory is measured (default: 0.1,10; 1 for
#                  none)
#
# The other options are described in lib.sh.

set -eu
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "$0")/lib.sh"
again "$@"
scales=0.1,10
while [ $# -gt 1 ]; do
	case $1 in
		--scales) scales=$2 ;;
		*) option "$1" "$2" ;;
	esac
	shift 2
done
[ $# -eq 1 ] || usage
set_checkout "$1"
begin
python=python3
"$python" -c "import requests" 2>/dev/null || python=/usr/bin/python3
printf '#!/bin/sh\nexit 0\n' >"$out/qemu"
chmod +x "$out/qemu"

# Outputs that a run makes; those that others read are kept.
made="rootfs build reproduce copy store bundle.tar unpacked untarred"
ours="build reproduce image-verify image-ls bundle-create bundle-verify bundle-unpack bundle-build"

use() { # MIB: measures with this many MiB of distfiles
	inputs "$1"
	cd "$input/tree"
	set -- -m "file://$input/mirror" --distfiles "$out/store"
	rm -rf "$out/kept" "$out/kept.tar"
	quietly "$out/program" build --qemu --external-sources --tree . "$@" -t "$out/kept"
	quietly "$out/program" bundle create --tree . "$@" -o "$out/kept.tar"
	payload=$out/kept/payload.img
	bundle=$out/kept.tar
}

run() { # NAME
	for one_made in $made; do
		rm -rf "${out:?}/$one_made"
	done
	sync
	name=$1
	case $name in
		build) set -- build --qemu --external-sources --tree . ;;
		bundle-build) set -- build --qemu --external-sources --offline --tree "$bundle" ;;
		*) set -- ;;
	esac
	from="file://$input/mirror"
	# shellcheck disable=SC2016 # for the inner shells
	case $name in
		build) measure "$name" "$out/program" "$@" -m "$from" --distfiles "$out/store" -t "$out/build" ;;
		bundle-build) measure "$name" "$out/program" "$@" --distfiles "$out/store" -t "$out/build" ;;
		reproduce)
			mkdir "$out/reproduce"
			measure "$name" "$out/program" reproduce "$out/kept/seedstrap.json" --tree . -m "$from" \
				--distfiles "$out/store" -t "$out/reproduce"
			;;
		image-verify) measure "$name" "$out/program" image verify "$payload" ;;
		image-ls) measure "$name" "$out/program" image ls -l "$payload" ;;
		bundle-create)
			measure "$name" "$out/program" bundle create --tree . -m "$from" \
				--distfiles "$out/store" -o "$out/bundle.tar"
			;;
		bundle-verify) measure "$name" "$out/program" bundle verify "$bundle" ;;
		bundle-unpack) measure "$name" "$out/program" bundle unpack "$bundle" -o "$out/unpacked" ;;
		rootfs.py)
			measure "$name" "$python" rootfs.py --qemu --qemu-cmd "$out/qemu" --external-sources \
				-m "$from" -t "$out/rootfs"
			;;
		cat+dgst*)
			measure "$name" sh -c 'find distfiles seed steps -type f -print0 | LC_ALL=C sort -z |
				xargs -0 cat >"$1" && openssl dgst -sha256 "$1" && $2 "$1"' \
				sh "$out/copy" "$(case $name in *+sync) echo sync ;; *) echo test -f ;; esac)"
			;;
		dgst-image) measure "$name" openssl dgst -sha256 "$payload" ;;
		dgst-bundle) measure "$name" openssl dgst -sha256 "$bundle" ;;
		tar+dgst)
			measure "$name" sh -c 'tar cf "$1" . && openssl dgst -sha256 "$1"' sh "$out/bundle.tar"
			;;
		untar)
			mkdir "$out/untarred"
			measure "$name" tar xf "$bundle" -C "$out/untarred"
			;;
		cat-bundle+dgst)
			measure "$name" sh -c 'cat "$1" >"$2" && openssl dgst -sha256 "$2"' \
				sh "$bundle" "$out/copy"
			;;
	esac
}

echo "bench: $mib MiB of distfiles"
use "$mib"
data_bytes=$(find distfiles seed steps -type f -print0 | xargs -0 cat | wc -c)
payload_bytes=$(size "$payload")
bundle_bytes=$(size "$bundle")
alternate rootfs.py build cat+dgst reproduce cat+dgst+sync
alternate image-verify dgst-image image-ls
alternate bundle-create tar+dgst
alternate bundle-verify dgst-bundle
alternate bundle-unpack untar
alternate bundle-build cat-bundle+dgst

heading
row rootfs.py "$data_bytes"
row cat+dgst "$data_bytes"
row cat+dgst+sync "$data_bytes"
row build "$data_bytes" cat+dgst 0.70
# Five times faster with SHA instructions, three times without.
row build "$data_bytes" rootfs.py "$([ "$sha" = yes ] && echo 0.20 || echo 0.33)"
row reproduce "$data_bytes" build 1.10
row dgst-image "$payload_bytes"
row image-verify "$payload_bytes" dgst-image 0.90
row image-ls "$payload_bytes" dgst-image
row tar+dgst "$bundle_bytes"
row bundle-create "$bundle_bytes" tar+dgst 0.70
row dgst-bundle "$bundle_bytes"
row bundle-verify "$bundle_bytes" dgst-bundle 0.90
row untar "$bundle_bytes"
row bundle-unpack "$bundle_bytes" untar 1.30
row cat-bundle+dgst "$bundle_bytes"
row bundle-build "$bundle_bytes" cat-bundle+dgst

# Peaks are kept by the MiB of the distfiles.
keep_peaks() { # MIB
	for name in $ours; do
		median "$name" 3 >"$out/figures/$name.$1"
	done
}
sizes=$mib
keep_peaks "$mib"
for scale in $(echo "$scales" | tr ',' ' '); do
	scaled=$(awk -v mib="$mib" -v scale="$scale" 'BEGIN { printf "%d", mib * scale + 0.5 }')
	[ "$scaled" != "$mib" ] || continue
	echo "with $scaled MiB of distfiles"
	use "$scaled"
	for name in $ours; do
		rm -f "$out/figures/$name"
	done
	rounds=$([ "$scaled" -lt "$mib" ] && echo 3 || echo 1)
	# shellcheck disable=SC2086 # a list of words
	alternate $ours
	keep_peaks "$scaled"
	sizes="$sizes $scaled"
done
sizes=$(echo "$sizes" | tr ' ' '\n' | sort -n)
echo "peak memory in MiB by MiB of distfiles; the same: the largest is at most 1.1 of the smallest"
printf '  %-20s' work
# shellcheck disable=SC2086 # a list of words
printf ' %8s' $sizes
echo
for name in $ours; do
	for one_size in $sizes; do
		cat "$out/figures/$name.$one_size"
	done | awk -v name="$name" '
		{ v[NR] = $1; if ($1 > most) most = $1; if (NR == 1 || $1 < least) least = $1 }
		END {
			printf "  %-20s", name
			for (i = 1; i <= NR; i++) printf " %8.1f", v[i] / 1024
			printf "  under 150 MB: %s", most * 1024 < 150e6 ? "met" : "NOT MET"
			if (NR > 1) {
				printf "; the same (%.2f): ", most / least
				printf "%s", most <= 1.1 * least ? "met" : "NOT MET"
			}
			print ""
		}'
done
