# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# One disk with boot image, payload and system, under a Debian kernel in QEMU: from where the kernel
# of the bootstrap starts, guard_disk and one_disk of the image, jump/move_disk.sh of the checkout,
# and the restore of the payload's rest, with Debian's bash, sfdisk and mkfs.ext4. LINUX, in the
# environment, is an unpacked linux-image package to use; without it, that of Debian is downloaded.
# And under the bootstrapped Fiwix, which restores the payload after the jump from its partition.

echo
echo "== One disk under a Debian kernel, and under Fiwix"
# shellcheck source=scripts/acceptance/jump.sh
. "$home/scripts/acceptance/jump.sh"
programs="bash cat chmod cp cut dd fdisk grep insmod ln ls mkdir mkfs.ext4 mount mv od rm rmdir sed
	sfdisk sha256sum sleep stat switch_root sync tr umount wc"

disk_obstacle() {
	for program in qemu-system-x86_64 gcc cpio dpkg-deb $programs; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || {
			echo "there is no $program here"
			return
		}
	done
	linux=${LINUX:-$work/linux}
	if [ ! -d "$linux" ]; then
		mkdir "$linux"
		(
			cd "$linux"
			package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
			apt-get download "$package" && dpkg-deb -x ./*.deb .
		) >"$work/log" 2>&1 || {
			echo "no Debian kernel can be downloaded"
			return
		}
	fi
	find "$linux/boot" -name 'vmlinuz-*' 2>/dev/null | grep -q . || echo "$linux has no kernel"
}

# disk_machine TARGET: the root that the kernel starts with, which is that of the bootstrap then.
disk_machine() {
	root=$work/machine
	rm -rf "$root"
	mkdir -p "$root/bin" "$root/modules" "$root/etc" "$root/external/distfiles"
	# Which mount of the bootstrap writes.
	echo "rootfs / rootfs rw 0 0" >"$root/etc/mtab"
	for program in $programs; do
		path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$program")
		cp -L "$path" "$root/bin/$program"
		ldd "$path" 2>/dev/null | sed -n 's,^[^/]*\(/[^ ]*\) (.*,\1,p' | while read -r library; do
			mkdir -p "$root$(dirname "$library")"
			cp -L "$library" "$root$library"
		done
	done
	gcc -O1 -static -w -o "$root/bin/payload-import" "$home/steps/payload-import-1.0/src/payload-import.c"
	for module in scsi_common scsi_mod t10-pi crc-t10dif crct10dif_generic crct10dif_common crc64 \
		crc64-rocksoft crc64-rocksoft_generic sd_mod libata ata_piix crc16 crc32c_generic libcrc32c \
		mbcache jbd2 ext4; do
		find "$linux/lib/modules" -name "$module.ko" -exec cp '{}' "$root/modules/" ';'
	done
	"$seedstrap" image extract "$1/init.img" steps -o "$work/extracted" >/dev/null
	cp -a "$work/extracted/." "$root/"
	rm -r "$work/extracted"
	cat >"$root/init" <<-'END'
		#!/bin/bash
		PATH=/bin
		say() { echo "DISK: $*"; }
		if [ ! -e /moved ]; then
			mkdir -p /proc && mount -t proc proc /proc
			for _ in 1 2 3 4 5 6; do
				for module in /modules/*.ko; do insmod "$module" 2>/mod.log; done
			done
			umount /proc
			rm -f /dev/null
			echo moved >/moved
			set -e
			trap 'say failed; sync; echo o >/proc/sysrq-trigger' ERR
			. /steps/bootstrap.cfg
			. /steps/improve/guard_disk.sh
			. /steps/improve/one_disk.sh
			. /steps/jump/move_disk.sh
		fi
		. /steps/bootstrap.cfg
		mkdir -p /proc && mount -t proc proc /proc
		say "root is $(sed -n 's/^\(\/dev[^ ]*\) \/ .*/\1/p' /proc/mounts), DISK is $DISK"
		sfdisk -d /dev/sda | sed -n 's/^\/dev/DISK: table \/dev/p'
		. /steps/improve/import_payload_rest.sh && say restored
		cd /external/distfiles
		ls | while read -r name; do say "has $(sha256sum "$name")"; done
		say end
		sync
		mount -o remount,ro /
		echo o >/proc/sysrq-trigger
		sleep 60
	END
	chmod 755 "$root/init"
	(cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

# disk_boots IMAGE: whether the machine gets to its end, with its output in $work/serial.
disk_boots() {
	timeout 600 qemu-system-x86_64 -accel tcg -m 2G -display none -nodefaults -no-reboot \
		-serial "file:$work/serial" -nic none -kernel "$(find "$linux/boot" -name 'vmlinuz-*')" \
		-initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1" \
		-drive "file=$1,format=raw,if=ide" </dev/null >"$work/log" 2>&1 || return 1
	tr -d '\r' <"$work/serial" >"$work/seen"
	grep -q '^DISK: end' "$work/seen" && ! grep -q '^DISK: failed' "$work/seen"
}

# disk_has_rest TARGET: whether every file of the second phase is there, with its content.
disk_has_rest() {
	"$seedstrap" image cat "$1/init.img" payload/SHA256SUMS >"$work/sums"
	"$seedstrap" image cat "$1/init.img" steps/payload-import-1.0/rest.list |
		while read -r name; do
			line=$(grep -F "  $name" "$work/sums")
			grep -qF "DISK: has $line" "$work/seen" || {
				echo "    not restored: $name"
				exit 1
			}
		done
}

# disk_case WHERE OPTION...: builds, boots twice, and checks. WHERE the payload ends: before 1 GiB, and
# the system begins at 1 GiB, or after it, and the system begins right after the payload.
disk_case() {
	where=$1
	shift
	target=$work/disk
	rm -rf "$target"
	"$seedstrap" build --qemu --one-disk --payload always --payload-phases two --tree "$tree" \
		-m "$mirror" --store "$work/disk.store" -t "$target" --target-size 8G "$@" \
		>"$work/serial" 2>&1 || return 1
	# The second entry of the table: first sector, and how many.
	# shellcheck disable=SC2046 # two words
	set -- $(od -A n -t u4 -j 470 -N 8 "$target/init.img")
	start=$(($1 + $2))
	case $where in
		before) [ "$start" -lt 2097152 ] && start=2097152 || return 1 ;;
		after) [ "$start" -gt 2097152 ] || return 1 ;;
	esac
	disk_machine "$target"
	cp --sparse=always "$target/init.img" "$work/disk.img"
	# The second time is that of a machine that boots again after a run that came to nothing.
	for _ in first second; do
		disk_boots "$work/disk.img" || return 1
		grep -q '^DISK: root is /dev/sda1, DISK is sda1' "$work/seen" || return 1
		grep -q '^DISK: restored' "$work/seen" || return 1
		# An old sfdisk calls the type Id.
		grep -Eq "^DISK: table /dev/sda1 : start= *$start, .*(type|Id)=83" "$work/seen" || return 1
		grep -Eq "^DISK: table /dev/sda2 : .*(type|Id)=da" "$work/seen" || return 1
		disk_has_rest "$target" || return 1
	done
}

why=$(disk_obstacle)
linux=${LINUX:-$work/linux}
if [ -n "$why" ]; then
	skip "one disk under a Debian kernel" "$why"
else
	# shellcheck disable=SC2034 # count.sh reads it
	evidence=$work/serial
	check "a payload that ends before 1 GiB: the system begins there, the rest is restored, twice" \
		disk_case before
	mkdir -p "$tree/distfiles"
	truncate -s 1200M "$tree/distfiles/large"
	check "a payload that ends after 1 GiB: the system begins after it, the rest is restored, twice" \
		disk_case after --external-sources
	rm -f "$tree/distfiles/large"
	rm -rf "$work/disk" "$work/disk.img" "$work/disk.store"
fi

# Every file of the payload is restored, with its checksum, by the kernel and the importer that the
# steps have built.
disk_under_fiwix() {
	jump_media "$work/fiwix" init.img --one-disk || return 1
	"$seedstrap" run "$work/fiwix" --accel tcg </dev/null >"$work/console" 2>&1 &
	guest=$!
	# Whatever follows upon the checks.
	until grep -q 'kaem --file /steps/improve/reconfigure.sh' "$work/console"; do
		sleep 5
		kill -0 "$guest" 2>/dev/null || break
	done
	kill -INT "$guest" 2>/dev/null || true
	wait "$guest" || true
	tr -d '\r' <"$work/console" >"$work/serial"
	grep -q '^payload-import: /dev/hda2: payload' "$work/serial" || return 1
	restored=$(grep -c '^/external/distfiles/.*: OK' "$work/serial")
	wanted=$(wc -l <"$work/sums")
	echo "    $restored of $wanted files are restored from /dev/hda2 and OK"
	[ "$wanted" -gt 0 ] && [ "$restored" -eq "$wanted" ]
}
after="the bootstrapped Fiwix restores the payload of one disk from its partition"
if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
	skip "$after" "there is no qemu-system-x86_64 here"
elif [ -z "$root" ] || [ -z "$real" ]; then
	skip "$after" "--root and --real name a bootstrapped root and its distfiles"
else
	check "$after" disk_under_fiwix
fi
