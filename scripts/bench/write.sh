#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures what seedstrap does with a sparse image: a boot image with all distfiles in it, whose data
# is at its beginning, beside tools that read, digest or copy the data only:
#
#   image verify                  beside `openssl dgst` of the data, and beside reading it by dd
#   write --file, not read back   beside `cp --sparse=auto` of the image and `sync`
#   write --file, read back       beside the same, and `openssl dgst` of the copy's data
#
# and, as root, to a loop device:
#
#   write, not read back          beside `dd bs=4M oflag=direct conv=fsync` of the data
#   write, read back              beside dd of the whole image with the same options, and `cmp`
#
# dd does not use holes, so the second dd has conv=sparse, on a device that is known to be zeros;
# seedstrap zeroes the ranges of holes. Before each run the device is zeroed (blkdiscard, which
# punches its file), the file is made anew, and the data is read into the page cache.
#
# usage: write.sh [--dir DIR] [--out DIR] [--rounds N] [--mib N] [--size SIZE] [--cores LIST] [--no-sha] CHECKOUT
#
#   --mib N      total size of the distfiles (default: 350)
#   --size SIZE  of the image, as `seedstrap build -qs` takes it (default: 16G)
#
# The other options are described in lib.sh.

set -eu
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "$0")/lib.sh"
again "$@"
mib=350
size=16G
while [ $# -gt 1 ]; do
	case $1 in
		--size) size=$2 ;;
		*) option "$1" "$2" ;;
	esac
	shift 2
done
[ $# -eq 1 ] || usage
set_checkout "$1"
begin
inputs "$mib"

# A payload image would take the distfiles; and no boot takes place, so no limit matters.
quietly "$out/program" build --qemu -qs "$size" --external-sources --payload never --force \
	--tree "$input/tree" -m "file://$input/mirror" --distfiles "$out/store" -t "$out/built"
image=$out/built/init.img
image_bytes=$(size "$image")
# The data of an image without its holes: "skip count" in bytes for each run of data.
python3 -c '
import os, sys
file, at = os.open(sys.argv[1], os.O_RDONLY), 0
while True:
    try:
        begin = os.lseek(file, at, os.SEEK_DATA)
    except OSError:
        break
    at = os.lseek(file, begin, os.SEEK_HOLE)
    print(begin, at - begin)
' "$image" >"$out/extents"
extract() { # IMAGE: prints its data
	while read -r skip count; do
		dd if="$1" bs=4M iflag=skip_bytes,count_bytes skip="$skip" count="$count" status=none
	done <"$out/extents"
}
extract "$image" >"$out/data"
data_bytes=$(size "$out/data")
extents=$(wc -l <"$out/extents")

if [ "$(id -u)" -eq 0 ]; then
	truncate -s $((image_bytes + 1024 * 1024 * 1024)) "$out/disk"
	loop=$(losetup -f --show "$out/disk")
	device=$(basename "$loop")
fi

run() { # NAME
	case $1 in
		*loop*) blkdiscard -f "$loop" 2>"$out/log" ;;
		*file*)
			rm -f "$out/file"
			truncate -s "$image_bytes" "$out/file"
			;;
	esac
	sync
	dd if="$out/data" of=/dev/null bs=1M status=none
	extract "$image" >/dev/null
	name=$1
	# shellcheck disable=SC2016 # for the inner shells
	case $name in
		image-verify) measure "$name" "$out/program" image verify "$image" ;;
		dgst-data) measure "$name" openssl dgst -sha256 "$out/data" ;;
		# Not cat, which lets the kernel throw the data away unread.
		read-data) measure "$name" dd if="$out/data" of=/dev/null bs=256K ;;
		write-file) measure "$name" "$out/program" write --no-verify --file "$image" "$out/file" --yes file ;;
		write-file+verify) measure "$name" "$out/program" write --file "$image" "$out/file" --yes file ;;
		cp-file) measure "$name" sh -c 'cp --sparse=auto "$1" "$2" && sync "$2"' sh "$image" "$out/file" ;;
		cp-file+dgst)
			measure "$name" sh -c 'cp --sparse=auto "$1" "$2" && sync "$2" && head -c "$3" "$2" |
				openssl dgst -sha256' sh "$image" "$out/file" "$data_bytes"
			;;
		dd-loop)
			measure "$name" dd if="$out/data" of="$loop" bs=4M oflag=direct conv=fsync
			;;
		dd-loop+cmp)
			measure "$name" sh -c 'dd if="$1" of="$2" bs=4M oflag=direct conv=fsync,sparse &&
				cmp -n "$3" "$1" "$2"' sh "$image" "$loop" "$image_bytes"
			;;
		write-loop) measure "$name" "$out/program" write --no-verify "$image" "$loop" --yes "$device" ;;
		write-loop+verify) measure "$name" "$out/program" write "$image" "$loop" --yes "$device" ;;
	esac
}

echo "bench: an image of $image_bytes bytes, $data_bytes bytes of data in $extents extents"
alternate read-data image-verify dgst-data
alternate write-file cp-file
alternate write-file+verify cp-file+dgst
if [ -n "$loop" ]; then
	alternate write-loop dd-loop
	alternate write-loop+verify dd-loop+cmp
else
	echo "bench: not root: nothing is written to a loop device"
fi

heading
row read-data "$data_bytes"
row dgst-data "$data_bytes"
row image-verify "$data_bytes" dgst-data 1.00
row image-verify "$data_bytes" read-data
row cp-file "$data_bytes"
row write-file "$data_bytes" cp-file 1.00
row cp-file+dgst "$data_bytes"
row write-file+verify "$data_bytes" cp-file+dgst 1.00
if [ -n "$loop" ]; then
	row dd-loop "$data_bytes"
	row write-loop "$data_bytes" dd-loop 1.00
	row dd-loop+cmp "$data_bytes"
	row write-loop+verify "$data_bytes" dd-loop+cmp 1.00
fi
