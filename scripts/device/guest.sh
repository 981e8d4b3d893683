#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The part of scripts/acceptance-device.sh in the guest: the first process of a Debian in memory.
# It prints `PASS WHAT`, or `FAIL WHAT` with the output of seedstrap.

# shellcheck disable=SC2317 # functions that seem unreachable are called by check
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DM_DISABLE_UDEV=1 HOME=/root NO_COLOR=1
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev 2>/dev/null
mkdir -p /run /tmp /place
for module in virtio_pci virtio_blk ahci sd_mod xhci_pci usb_storage nvme sdhci_pci mmc_block \
	dm_mod dm_flakey dm_crypt raid1 ext4 loop; do
	modprobe "$module" 2>/dev/null || echo "no module $module"
done
sleep 5

check() { # WHAT COMMAND...
	what=$1
	shift
	: >/tmp/said
	if "$@"; then
		echo "PASS  $what"
	else
		echo "FAIL  $what"
		sed 's/^/    /' /tmp/said
	fi
}
# write IMAGE DEVICE [OPTION...]: expects exit code $want
want=0
write() {
	seedstrap write "$@" >/tmp/said 2>&1
	code=$?
	echo "exit code $code" >>/tmp/said
	[ "$code" -eq "$want" ]
}
says() {
	for text in "$@"; do
		grep -qF -- "$text" /tmp/said || return 1
	done
}
name_of() { # SERIAL: the disk with that serial, as listed by seedstrap
	seedstrap devices --json | tr -d '\n ' | sed 's/},{/\n/g' |
		sed -n "s/.*\"path\":\"\([^\"]*\)\".*\"serial\":\"$1\".*/\1/p"
}
size=$(wc -c </image)
same() { # DEVICE: whether it has the image
	cmp -n "$size" /image "$1" >>/tmp/said 2>&1
}
front_is_zero() { # DEVICE
	sync
	echo 3 >/proc/sys/vm/drop_caches
	cmp -n 1048576 /dev/zero "$1" >>/tmp/said 2>&1
}
bootable() { # DEVICE: writes the end of a boot sector, as if the disk had been in use
	printf '\125\252' | dd of="$1" bs=1 seek=510 conv=notrunc,fsync 2>/dev/null
}
refused() { # DEVICE SERIAL TEXT...
	want=7 write /image "$1" --yes "$2" && shift 2 && says "$@"
}

echo "ACCEPTANCE-BEGIN"
seedstrap devices
for kind in virtio sata usb nvme mmc; do
	disk=$(name_of "serial-$kind")
	# The serial of an SD card is a number.
	[ $kind != mmc ] || disk=/dev/mmcblk0
	serial=serial-$kind
	[ $kind != mmc ] || serial=$(cat /sys/block/mmcblk0/device/serial)
	told() {
		seedstrap devices >/tmp/said && grep -E "^$disk +.* $kind +.* $serial " /tmp/said >/dev/null
	}
	check "$kind: devices lists transport and serial" told
	check "$kind: an image is written to $disk" write /image "$disk" --yes "$serial"
	check "$kind: it is there, and read back from the device" same "$disk"
	grep -q "read back from the device" /tmp/said || true
done

disk=$(name_of serial-virtio)
partitions() { [ -e "${disk}1" ]; }
check "the kernel has read the new partition table" partitions
wrong() { want=2 write /image "$disk" --yes serial-usb && says "is not its serial, serial-virtio"; }
check "another device's serial is refused" wrong
partition() { refused "${disk}1" serial-virtio "is partition" "Name the disk: $disk"; }
check "a partition is refused" partition
mkfs.ext4 -q -F "${disk}1"
mount "${disk}1" /place
mounted() { refused "$disk" serial-virtio "${disk#/dev/}1 is mounted at /place"; }
check "a disk with a mounted partition is refused" mounted
umount /place
mkswap "${disk}1" >/dev/null
swapon "${disk}1"
swap() { refused "$disk" serial-virtio "${disk#/dev/}1 is swap in use"; }
check "a disk with swap in use is refused" swap
swapoff "${disk}1"

disk=$(name_of serial-readonly)
readonly_disk() { refused "$disk" serial-readonly "it is read-only"; }
check "a read-only disk is refused" readonly_disk

# LVM, with a file system on the volume
disk=$(name_of serial-a)
name=${disk#/dev/}
lvm pvcreate -qq -ff -y "$disk" >/dev/null 2>&1
lvm vgcreate -qq vg "$disk" >/dev/null 2>&1
lvm lvcreate -qq -y -Wn -Zn -L 32M -n vol vg >/dev/null 2>&1
volume() { refused "$disk" serial-a "$name is part of dm-" "(LVM volume vg-vol)"; }
check "a disk of an LVM volume is refused" volume
mkfs.ext4 -q -F /dev/mapper/vg-vol
mount /dev/mapper/vg-vol /place
lvm_mounted() { refused "$disk" serial-a "(LVM volume vg-vol)" "is mounted at /place"; }
check "and the message names what is mounted on it" lvm_mounted
umount /place
lvm vgchange -qq -an vg >/dev/null 2>&1
check "a disk of LVM that is not in use can be written" write /image "$disk" --yes serial-a

# dm-crypt
echo secret >/key
cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 --key-file /key "$disk"
cryptsetup open --key-file /key "$disk" vault
crypt() { refused "$disk" serial-a "$name is part of dm-" "(dm-crypt volume vault)"; }
check "a disk of dm-crypt is refused" crypt
cryptsetup close vault

# RAID, running and not
other=$(name_of serial-b)
mdadm -q --create /dev/md0 --run --level=1 --metadata=1.2 --raid-devices=2 "$disk" "$other" \
	>/dev/null 2>&1
raid() { refused "$disk" serial-a "$name is part of md0 (RAID)"; }
check "a disk of a RAID is refused" raid
mdadm -q --stop /dev/md0
mdadm -q -I "$disk" >/dev/null 2>&1
cat /proc/mdstat
raid_inactive() { refused "$disk" serial-a "$name is part of md" "(RAID)"; }
check "and one of an array that has not started" raid_inactive
mdadm -q --stop /dev/md* >/dev/null 2>&1

# A drive that fails in the middle
sectors=$(cat "/sys/block/$name/size")
half=$((size / 512 / 2))
dd if=/dev/zero of="$disk" bs=1M count=2 conv=fsync 2>/dev/null
bootable "$disk"
dmsetup create bad --noudevsync <<-EOF
	0 $half linear $disk 0
	$half $((sectors - half)) error
EOF
dm=$(basename /sys/block/dm-*)
fails() {
	want=7 write /image /dev/mapper/bad --yes "$dm" &&
		says "Cannot write to /dev/$dm: EIO at byte " "does not boot: its first MiB is zeros" "The device is failing"
}
check "a drive that fails in the middle is reported, with the offset" fails
cat /tmp/said
check "and nothing boots from it" front_is_zero "$disk"
dmsetup remove --noudevsync bad

# One that corrupts silently, in writing or in reading
for way in w r; do
	bootable "$disk"
	dmsetup create flaky --noudevsync <<-EOF
		0 $half linear $disk 0
		$half 2048 flakey $disk $half 0 3600 5 corrupt_bio_byte 77 $way 255 0
		$((half + 2048)) $((sectors - half - 2048)) linear $disk $((half + 2048))
	EOF
	dm=$(basename /sys/block/dm-*)
	corrupts() {
		want=5 write /image /dev/mapper/flaky --yes "$dm" &&
			says "what it reads back is not what was written" "between offset $((half * 512)) and" \
				"does not boot: its first MiB is zeros"
	}
	check "a drive that corrupts silently ($way) is detected, with the offset" corrupts
	cat /tmp/said
	check "and nothing boots from it" front_is_zero "$disk"
	unseen() { write /image /dev/mapper/flaky --yes "$dm" --no-verify && ! same /dev/mapper/flaky; }
	check "which is not detected with --no-verify" unseen
	dmsetup remove --noudevsync flaky
done

# Ended in the middle, on a drive with 8 MiB/s
disk=$(name_of serial-slow)
for signal in KILL INT TERM; do
	bootable "$disk"
	seedstrap write /image "$disk" --yes serial-slow >/tmp/said 2>&1 &
	pid=$!
	sleep 4
	kill -"$signal" $pid
	wait $pid
	code=$?
	ended() {
		cat /tmp/said.keep >/tmp/said
		case $signal in
			KILL) [ "$code" -eq 137 ] ;;
			*) [ "$code" -eq 130 ] && says "Interrupted" "does not boot: its first MiB is zeros" ;;
		esac
	}
	cp /tmp/said /tmp/said.keep
	check "SIG$signal in the middle ends it" ended
	partly() { ! same "$disk" && ! cmp -s -n 1048576 -i 2097152:0 "$disk" /dev/zero; }
	check "SIG$signal: it was in the middle" partly
	check "SIG$signal: nothing boots from it" front_is_zero "$disk"
done
cat /tmp/said.keep
sectors() { write /image "$(name_of serial-native4k)" --yes serial-native4k && same "$(name_of serial-native4k)"; }
check "a disk with sectors of 4096 bytes can be written" sectors
echo "ACCEPTANCE-END"
echo o >/proc/sysrq-trigger
sleep 100
