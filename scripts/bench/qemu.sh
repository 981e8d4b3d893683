#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures options of QEMU side by side, with two guests under TCG:
#
#   linux   a Debian kernel with an ext3 disk on IDE: 3000 small files, 192 MiB in one file, 60 syncs
#   hex     builder-hex0 of a built target: from the start until it has loaded so many lines
#
# Every variant is one change of what is measured first, `base`: seedstrap's own arguments. The
# variants alternate; for each there is the median of wall-clock seconds and of the processor time
# of QEMU (user and system), both also as a ratio to base in the same round.
#
# usage: qemu.sh [--rounds N] [--only VARIANTS] [--kernel KERNEL MODULES BUSYBOX] [--target TARGET] DIR
#
#   --kernel  a Debian kernel, its directory lib/modules/VERSION, and a static busybox, for `linux`
#   --target  a target built for QEMU that has not run, for `hex`
#   DIR       work goes there; the file system is part of what is measured

set -eu
home=$(cd "$(dirname "$0")/../.." && pwd)
usage() {
	sed -n 's/^# \(usage: .*\)/\1/p' "$0" >&2
	exit 2
}
rounds=3 only="" kernel="" target=""
while [ $# -gt 1 ]; do
	case $1 in
		--rounds) rounds=$2 && shift 2 ;;
		--only) only=$2 && shift 2 ;;
		--target) target=$(cd "$2" && pwd) && shift 2 ;;
		--kernel)
			[ $# -gt 4 ] || usage
			kernel=$2 modules=$3 busybox=$4
			shift 4
			;;
		*) usage ;;
	esac
done
[ $# -eq 1 ] || usage
mkdir -p "$1"
dir=$(cd "$1" && pwd)

if [ -n "$kernel" ]; then
	rm -rf "$dir/initramfs"
	mkdir -p "$dir/initramfs/bin" "$dir/initramfs/modules" "$dir/initramfs/dev" \
		"$dir/initramfs/proc" "$dir/initramfs/disk"
	cp "$busybox" "$dir/initramfs/bin/busybox"
	for name in scsi_common scsi_mod t10-pi crc-t10dif crct10dif_generic crc64 crc64-rocksoft \
		sd_mod libata ata_piix; do
		find "$modules" -name "$name.ko" -exec cp '{}' "$dir/initramfs/modules/" ';'
	done
	cat >"$dir/initramfs/init" <<-'END'
		#!/bin/busybox sh
		PATH=/bin
		/bin/busybox --install -s /bin
		mount -t devtmpfs dev /dev
		mount -t proc proc /proc
		for pass in 1 2 3 4; do
			for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
		done
		until [ -b /dev/sda ]; do sleep 1; done
		mount -t ext3 /dev/sda /disk || echo BENCH-FAILED
		echo BENCH-BEGIN
		i=0
		while [ $i -lt 3000 ]; do
			[ $((i % 50)) -ne 0 ] || { mkdir -p /disk/$i && d=/disk/$i && sync; }
			echo "$i: some text" >$d/$i
			i=$((i + 1))
		done
		dd if=/dev/zero of=/disk/large bs=1M count=192 conv=fsync 2>/dev/null
		cp /disk/large /disk/copy
		sync
		umount /disk
		echo BENCH-END
		poweroff -f
	END
	chmod 755 "$dir/initramfs/init"
	(cd "$dir/initramfs" && find . | cpio --quiet -o -H newc) >"$dir/initrd"
	rm -f "$dir/linux.img"
	truncate -s 1G "$dir/linux.img"
	mke2fs -q -F -t ext3 "$dir/linux.img"
fi
exec "$home/node_modules/.bin/bun" "$home/scripts/bench/qemu.ts" "$dir" "$rounds" "$only" \
	"$kernel" "$target"
