#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Tests `seedstrap write` and `seedstrap devices` with hardware that not every machine has: a Debian
# in QEMU with virtio, SATA, USB, NVMe and SD drives, LVM, RAID and dm-crypt, a drive that fails in
# the middle, one that corrupts silently, and signals in the middle. Then a loop device of this
# machine is written and booted in QEMU.
#
# GUEST is a directory with the Debian, made there by debootstrap (about 600 MB) unless it exists.
# Without GUEST, a temporary one is made. Needs root, for debootstrap and loop devices. The last
# line is `N passed, N failed, N skipped`; fails if anything did.
#
# usage: acceptance-device.sh [GUEST]

# shellcheck disable=SC2317 # functions that seem unreachable are called by check
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -gt 1 ]; then
	echo "usage: acceptance-device.sh [GUEST]" >&2
	exit 2
fi
PATH=$home/node_modules/.bin:$PATH:/usr/sbin:/sbin
LC_ALL=C
export PATH LC_ALL

umask 022
work=$(mktemp -d)
qemu=""
loop=""
cleanup() {
	[ -z "$qemu" ] || kill -9 "$qemu" 2>/dev/null || true
	[ -z "$loop" ] || losetup -d "$loop" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
guest=${1:-$work/guest}

# shellcheck source=scripts/count.sh
. "$home/scripts/count.sh"
skip_all() {
	skip "writing to devices" "$1"
	finish
	exit
}

[ "$(id -u)" -eq 0 ] || skip_all "it needs root"
for program in debootstrap qemu-system-x86_64 cpio losetup bun; do
	command -v "$program" >/dev/null 2>&1 || skip_all "$program is not installed"
done
if [ ! -e "$guest/complete" ]; then
	packages=linux-image-amd64,lvm2,mdadm,dmsetup,cryptsetup-bin,e2fsprogs,kmod
	debootstrap --variant=minbase --include="$packages" stable "$guest" >"$work/log" 2>&1 || {
		tail -n 5 "$work/log"
		skip_all "debootstrap failed"
	}
	: >"$guest/complete"
fi
sh "$home/scripts/build.sh"

# A sparse image with one partition and 40 MiB of data.
truncate -s 64M "$work/image"
dd if=/dev/urandom of="$work/image" bs=1M seek=1 count=30 conv=notrunc 2>/dev/null
dd if=/dev/urandom of="$work/image" bs=1M seek=40 count=10 conv=notrunc 2>/dev/null
printf '\0\1\1\0\203\376\377\377\0\10\0\0\0\360\1\0' |
	dd of="$work/image" bs=1 seek=446 conv=notrunc 2>/dev/null
printf '\125\252' | dd of="$work/image" bs=1 seek=510 conv=notrunc 2>/dev/null

# The Debian as a file system in memory, without files that are not needed here
mkdir "$work/root"
cp -a "$guest/." "$work/root/"
cd "$work/root"
kernel=$(find boot -name 'vmlinuz-*' | sort | tail -n 1)
mv "$kernel" "$work/kernel"
rm -rf boot var/cache var/lib/apt usr/share/doc usr/share/locale usr/share/man usr/lib/modules/*/kernel/net \
	usr/lib/modules/*/kernel/sound
for part in gpu net media staging iio infiniband isdn hwmon platform input; do
	rm -rf usr/lib/modules/*/kernel/drivers/"$part"
done
cp "$home/dist/seedstrap" usr/bin/seedstrap
cp --sparse=always "$work/image" image
cp "$home/scripts/device/guest.sh" init
chmod +x init
find . | cpio -o -H newc --quiet | gzip -1 >"$work/initrd"
cd "$home"
rm -rf "$work/root"

for disk in virtio sata usb nvme mmc readonly a b slow native4k; do
	truncate -s 128M "$work/$disk.disk"
done
drive() { # NAME [OPTION]: the drive for a device with that name
	echo "-drive if=none,id=$1,file=$work/$1.disk,format=raw${2:+,$2}"
}
accel=tcg
# shellcheck disable=SC2015 # an assignment does not fail
[ -w /dev/kvm ] && accel=kvm || true
boot_guest() { # ACCEL
	: >"$work/serial"
	# shellcheck disable=SC2046 # lists of words
	timeout 1800 qemu-system-x86_64 -accel "$1" -machine q35 -m 4096M -smp 2 \
		-cpu "$([ "$1" = kvm ] && echo host || echo max)" \
		-kernel "$work/kernel" -initrd "$work/initrd" \
		-append "console=ttyS0 rdinit=/init quiet panic=-1" -nodefaults -display none -no-reboot \
		-monitor none -serial "file:$work/serial" \
		$(drive virtio) -device virtio-blk-pci,drive=virtio,serial=serial-virtio \
		$(drive sata) -device ide-hd,drive=sata,serial=serial-sata \
		-device qemu-xhci $(drive usb) -device usb-storage,drive=usb,serial=serial-usb \
		$(drive nvme) -device nvme,drive=nvme,serial=serial-nvme \
		-device sdhci-pci $(drive mmc) -device sd-card,drive=mmc \
		$(drive readonly readonly=on) -device virtio-blk-pci,drive=readonly,serial=serial-readonly \
		$(drive a) -device virtio-blk-pci,drive=a,serial=serial-a \
		$(drive b) -device virtio-blk-pci,drive=b,serial=serial-b \
		$(drive slow throttling.bps-write=8388608) \
		-device virtio-blk-pci,drive=slow,serial=serial-slow \
		$(drive native4k) -device virtio-blk-pci,drive=native4k,serial=serial-native4k,logical_block_size=4096,physical_block_size=4096 \
		>"$work/qemu.log" 2>&1 </dev/null &
	qemu=$!
	wait "$qemu" || true
	qemu=""
	tr -d '\r' <"$work/serial" >"$work/serial.lf"
}
boot_guest "$accel"
if [ "$accel" = kvm ] && ! grep -q '^ACCEPTANCE-BEGIN' "$work/serial.lf"; then
	echo "KVM cannot run the guest, TCG is used"
	boot_guest tcg
fi
sed -n '/^ACCEPTANCE-BEGIN/,/^ACCEPTANCE-END/p' "$work/serial.lf" | grep -v '^ACCEPTANCE-' || true
passed=$((passed + $(grep -c '^PASS' "$work/serial.lf" || true)))
failed=$((failed + $(grep -c '^FAIL' "$work/serial.lf" || true)))
came_to_its_end() {
	grep -q '^ACCEPTANCE-END' "$work/serial.lf" || {
		tail -n 20 "$work/serial.lf" "$work/qemu.log"
		return 1
	}
}
check "the guest has finished" came_to_its_end

# The boot image of the demo, which is a preflight image, is written to a loop device and booted.
loops() {
	truncate -s 256M "$work/boot.disk" "$work/payload.disk"
	dist=$home/dist/seedstrap
	"$dist" demo --keep "$work/demo" || return 1
	loop=$(losetup -f --show "$work/boot.disk")
	"$dist" write "$work/demo/target/init.img" "$loop" --yes "$(basename "$loop")" || return 1
	"$dist" write "$work/demo/target/payload.img" "$work/payload.disk" --file --yes payload.disk ||
		return 1
	: >"$work/serial"
	timeout 300 qemu-system-x86_64 -accel tcg -m 4096M -nodefaults -vga std -display none \
		-no-reboot -monitor none -serial "file:$work/serial" \
		-drive "file=$loop,format=raw,if=ide,index=0" \
		-drive "file=$work/payload.disk,format=raw,if=ide,index=1" </dev/null &
	qemu=$!
	until grep -aq verdict "$work/serial" || ! kill -0 "$qemu" 2>/dev/null; do sleep 1; done
	kill -9 "$qemu" 2>/dev/null || true
	wait "$qemu" 2>/dev/null || true
	qemu=""
	"$dist" preflight --log "$work/serial"
}
check "a written loop device boots, and the verdict of preflight is ok" loops
sed -n '/verdict:/p' "$work/log"
finish
