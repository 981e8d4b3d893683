#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Tests the importer under the real Fiwix, in QEMU: payload-import is built by its own pass1.kaem
# with the toolchain of a bootstrapped root, then kaem of that root runs improve/import_payload.sh,
# in a ramdisk like that after `jump: fiwix`, with disks of all kinds. sha256sum of that root checks
# the restored files.
#
# FIWIX_KERNEL is the kernel of the step fiwix-1.5.0-lb1 (/boot/fiwix); ROOT is a root file system
# bootstrapped to the end of kexec-fiwix-1.0. ROOT is only read. If something is missing, tests are
# skipped with a printed reason. BOOT_DISK, in the environment, is a boot image to use as hda
# instead of a disk that only begins like one. The last line is `N passed, N failed, N skipped`;
# fails if anything did.
#
# usage: acceptance-fiwix.sh FIWIX_KERNEL [ROOT]

# shellcheck disable=SC2317 # functions that seem unreachable are called by check
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
	echo "usage: acceptance-fiwix.sh FIWIX_KERNEL [ROOT]" >&2
	exit 2
fi
kernel=$1
root=${2:-}
step=$home/steps/payload-import-1.0
PATH=$home/node_modules/.bin:$PATH
LC_ALL=C
export PATH LC_ALL

umask 022
work=$(mktemp -d)
qemu=""
cleanup() {
	[ -z "$qemu" ] || kill -9 "$qemu" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# shellcheck source=scripts/count.sh
. "$home/scripts/count.sh"
skip_all() {
	skip "the importer under Fiwix" "$1"
	finish
	exit
}

[ -f "$kernel" ] || skip_all "there is no kernel $kernel"
[ -n "$root" ] || skip_all "the importer is built in a bootstrapped root, and none was given"
for file in kaem match mkdir cp rm catm sha256sum tcc; do
	[ -f "$root/usr/bin/$file" ] || skip_all "$root is not a bootstrapped root: it has no usr/bin/$file"
done
for program in qemu-system-x86_64 mke2fs chroot bun; do
	command -v "$program" >/dev/null 2>&1 || skip_all "$program is not installed"
done
[ "$(id -u)" -eq 0 ] || skip_all "entering a bootstrapped root needs the user root"

# says TEXT: whether the machine printed it, on one line.
says() {
	grep -aqF -- "$1" "$work/serial"
}
says_all() {
	for text in "$@"; do
		says "$text" || return 1
	done
}
# fails_with CODE TEXT...: whether kaem stopped at a program that ended with this exit code.
fails_with() {
	code=$1
	shift
	says "Subprocess error $code" && ! says "payload-import: done:" && says_all "$@"
}

# The importer, by its own step
build() {
	mkdir -p "$work/build/steps" "$work/build/tmp"
	cp -a "$root/usr" "$work/build/usr"
	[ ! -d "$root/x86" ] || cp -a "$root/x86" "$work/build/x86"
	cp -a "$step" "$work/build/steps/"
	cat >"$work/build/build.kaem" <<-EOF
	set -ex
	PREFIX=/usr
	BINDIR=/usr/bin
	SRCDIR=/steps
	PATH=/usr/bin
	UPDATE_CHECKSUMS=False
	pkg=payload-import-1.0
	cd /steps/payload-import-1.0
	kaem --file pass1.kaem
	EOF
	chroot "$work/build" /usr/bin/kaem --file /build.kaem >"$work/serial" 2>&1 &&
		says "/usr/bin/payload-import: OK"
}
check "pass1.kaem builds it with the checksum of the step" build
importer=$work/build/usr/bin/payload-import
[ -f "$importer" ] || skip_all "it could not be built"
# If a check fails, the output of the machine is shown.
# shellcheck disable=SC2034 # count.sh reads it
evidence=$work/serial

# The payloads: files of all kinds, the same with other content, and damaged ones
mkdir -p "$work/files" "$work/other"
head -c 70001 /dev/urandom >"$work/files/a.tar.gz"
head -c 1048576 /dev/urandom >"$work/files/b.tar.xz"
: >"$work/files/empty"
head -c 3000003 /dev/urandom >"$work/files/z.tar.bz2"
echo "a byte of 128 and more comes after z" >"$work/files/$(printf '\303\251').patch"
(cd "$work/files" && sha256sum ./* | sed 's,\./,,' >../SHA256SUMS && mv ../SHA256SUMS .)
cp "$work"/files/* "$work/other/"
head -c 70002 /dev/urandom >"$work/other/a.tar.gz"

# payload OUT LAYOUT DIR [BYTES NAME]: an image of the files in DIR, made by seedstrap's own writer.
# With BYTES, it also has a file NAME, which is a hole of that size.
payload() {
	HOME_DIR=$home bun -e '
		import { ftruncateSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
		const src = process.env.HOME_DIR + "/src/format";
		const { payload } = await import(src + "/payload.ts");
		const { segmentSize } = await import(src + "/segment.ts");
		const [out, layout, dir, hole, name] = process.argv.slice(1);
		const entries = readdirSync(dir).map((name) => (
			{ name, body: { kind: "bytes", bytes: readFileSync(dir + "/" + name) } }
		));
		if (hole) {
			const body = { kind: "file", path: "/", offset: 0, size: Number(hole) };
			entries.push({ name, body });
		}
		const file = openSync(out, "w");
		let offset = 0;
		for (const segment of payload(entries, Number(layout))) {
			const { bytes } = segment;
			if (bytes) writeSync(file, bytes, 0, bytes.length, offset);
			offset += segmentSize(segment);
		}
		ftruncateSync(file, offset);
	' "$@"
}
payload "$work/payload" 64 "$work/files"
payload "$work/payload32" 32 "$work/files"
payload "$work/different" 64 "$work/other"
head -c 2000000 "$work/payload" >"$work/cut"
truncate -s 2000384 "$work/cut" # a whole number of sectors
truncate -s 16M "$work/blank"
# There are 4 GiB, or slightly more than 2 GiB, before b.tar.xz.
payload "$work/beyond4" 64 "$work/files" 4294967296 a.zeros
payload "$work/beyond2" 64 "$work/files" 2147483648 a.zeros

# partition IMAGE TYPE FIRST COUNT: writes the first entry of a partition table; the numbers are
# escapes of printf.
partition() {
	# shellcheck disable=SC2059 # the numbers are escapes
	printf '\200\1\1\0'"$2"'\376\377\377'"$3$4" | dd of="$1" bs=1 seek=446 conv=notrunc 2>/dev/null
	printf '\125\252' | dd of="$1" bs=1 seek=510 conv=notrunc 2>/dev/null
}
size=$(($(wc -c <"$work/payload") / 512))
truncate -s 1M "$work/partitioned"
cat "$work/payload" >>"$work/partitioned"
partition "$work/partitioned" '\203' '\0\10\0\0' \
	"$(printf '\\%o' $((size % 256)) $((size / 256 % 256)) $((size / 65536)) 0)"
if [ -z "${BOOT_DISK:-}" ]; then
	BOOT_DISK=$work/bootdisk
	truncate -s 16M "$BOOT_DISK"
	partition "$BOOT_DISK" '\265' '\1\0\0\0' '\377\377\377\377'
fi

# ramdisk MIB FILL_KIB SCRIPT: makes the root after the jump, with SCRIPT as the first one of kaem.
ramdisk() {
	rm -rf "$work/root"
	mkdir -p "$work/root/dev" "$work/root/usr/bin" "$work/root/steps/improve"
	mkdir -p "$work/root/steps/payload-import-1.0"
	for file in kaem match mkdir cp rm catm sha256sum payload-import; do
		cp "$work/build/usr/bin/$file" "$work/root/usr/bin/"
	done
	cp "$home/steps/improve/import_payload.sh" "$work/root/steps/improve/"
	cp "$work/list" "$work/root/steps/payload-import-1.0/fiwix.list"
	echo z.tar.bz2 >"$work/root/steps/payload-import-1.0/repo.list"
	(cd "$work/files" && sha256sum ./* | sed 's,\./,/external/distfiles/,') >"$work/root/sums"
	printf '%064d  /external/distfiles/.payload-import\\part\n' 0 >"$work/root/part"
	cp "$work/build/usr/bin/kaem" "$work/root/init"
	mknod -m 600 "$work/root/dev/console" c 5 1
	mknod -m 600 "$work/root/dev/ram0" b 1 0
	mknod -m 600 "$work/root/dev/ram1" b 1 1
	# Not zeros, which would become a hole.
	[ "$2" -eq 0 ] || head -c $(($2 * 1024)) /dev/zero | tr '\0' x >"$work/root/fill"
	{
		echo "PATH=/usr/bin"
		echo "kaem --file /run.kaem"
		echo "echo ACCEPTANCE-END"
	} >"$work/root/kaem.run"
	{
		echo "set -ex"
		echo "$3"
	} >"$work/root/run.kaem"
	rm -f "$work/initrd"
	truncate -s "$1M" "$work/initrd"
	mke2fs -q -F -t ext2 -r 0 -O none -b 1024 -I 128 -m 0 -N 1024 -d "$work/root" "$work/initrd" \
		>"$work/mke2fs.log" 2>&1 || cat "$work/mke2fs.log"
}
# boot SECONDS DRIVE...: boots until the script has ended; a drive is `index=N:FILE`.
boot() {
	limit=$1
	shift
	drives=""
	for drive in "$@"; do
		drives="$drives -drive file=${drive#*:},format=raw,if=ide,${drive%%:*},snapshot=on"
	done
	: >"$work/serial"
	cp "$kernel" "$work/fiwix"
	# shellcheck disable=SC2086 # a list of words
	(cd "$work" && exec qemu-system-x86_64 -accel tcg -m 1024M -kernel fiwix -initrd initrd \
		-append "console=/dev/ttyS0 root=/dev/ram0 initrd=initrd" $drives -nodefaults -vga std \
		-nic none -display none -no-reboot -monitor none -serial "file:serial" \
		>"$work/qemu.log" 2>&1 </dev/null) &
	qemu=$!
	while [ "$limit" -gt 0 ] && kill -0 "$qemu" 2>/dev/null; do
		! grep -aqE '^ACCEPTANCE-END|PANIC|System halted|Safe to Power Off' "$work/serial" || break
		sleep 1
		limit=$((limit - 1))
	done
	kill -9 "$qemu" 2>/dev/null || true
	wait "$qemu" 2>/dev/null || true
	qemu=""
	tr -d '\r' <"$work/serial" >"$work/serial.lf"
	mv "$work/serial.lf" "$work/serial"
}
# restored DEVICE: whether all files were restored from it and have their checksums.
restored() {
	says_all "payload-import: $1: payload, layout" "payload-import: done: 6 files restored" \
		"/external/distfiles/SHA256SUMS: OK" "/external/distfiles/a.tar.gz: OK" \
		"/external/distfiles/b.tar.xz: OK" "/external/distfiles/z.tar.bz2: OK" \
		"/external/distfiles/empty: OK" && ! says "Subprocess error"
}

import="kaem --file /steps/improve/import_payload.sh"
sums="sha256sum -c /sums"
(cd "$work/files" && printf '%s\n' ./* | sed 's,\./,,') >"$work/list"
ramdisk 48 0 "$import
$sums"
zero=index=0:$work/blank
boot 60 "$zero" "index=1:$work/payload"
check "restores from hdb" restored /dev/hdb
boot 60 "$zero" "index=2:$work/payload32"
check "restores from hdc, layout 32" restored /dev/hdc
boot 60 "$zero" "index=3:$work/payload"
check "restores from hdd" restored /dev/hdd
boot 60 "$zero" "index=1:$work/partitioned"
check "restores from a partition" restored /dev/hdb1
boot 60 "index=0:$BOOT_DISK" "index=1:$work/payload"
check "restores from hdb with a builder-hex0 boot disk as hda" restored /dev/hdb
boot 60 "$zero" "index=1:$work/payload" "index=2:$work/payload32"
check "accepts two disks with the same payload" restored /dev/hdb
boot 60 "$zero" "index=1:$work/payload" "index=2:$work/different"
check "refuses two disks with different payloads" \
	fails_with 6 "payload-import: /dev/hdb and /dev/hdc hold different payloads"
boot 60 "$zero" "index=1:$work/cut"
check "refuses a truncated payload" \
	fails_with 3 "payload-import: /dev/hdb: z.tar.bz2: at byte " ": the payload is cut off"
boot 60 "$zero"
check "reports that there is no payload" fails_with 1 "no device in it has a payload"
boot 60 "$zero" "index=1:$work/beyond4"
check "refuses files at or above 4 GiB" \
	fails_with 3 "payload-import: /dev/hdb: " "beyond 4 GiB, where this kernel cannot read"

ramdisk 48 46000 "mkdir -p /external/distfiles
if payload-import /external/distfiles; then
	echo it is not full
else
	sha256sum -c /part
fi"
boot 60 "$zero" "index=1:$work/payload"
check "ends with a message if the ramdisk is full, and removes the incomplete file" says_all \
	"payload-import: /dev/hdb: z.tar.bz2: at byte " ": cannot write the file: error " \
	"/external/distfiles/.payload-import\\part: No such file"

ramdisk 48 0 "mkdir -p /external/distfiles
payload-import --verify /external/distfiles
payload-import --verify /external/distfiles
payload-import --probe /dev/hdb
$sums
sha256sum /proc/partitions"
boot 90 "$zero" "index=1:$work/payload"
verified() {
	says_all "payload-import: done: 6 files restored" "payload-import: done: 0 files restored, 6 kept" \
		"/external/distfiles/z.tar.bz2: OK" "/proc/partitions: No such file"
}
check "verifies and keeps files that are already there, and unmounts proc" verified

# shellcheck disable=SC2016 # it is JavaScript that expands it
HOME_DIR=$home bun -e '
	const { restoreScript } = await import(`${process.env.HOME_DIR}/src/plan/lost.ts`);
	process.stdout.write(restoreScript({
		files: ["steps/some step/patches-pass2/.keep", "steps/kept"],
		directories: ["steps/deep/er/empty"],
	}));' >"$work/files-again"
empty=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
ramdisk 48 0 "$(cat "$work/files-again")
sha256sum \"/steps/some step/patches-pass2/.keep\" /steps/kept
cp /run.kaem /steps/deep/er/empty/copy
sha256sum /steps/deep/er/empty/copy"
boot 60 "$zero"
again() {
	copy=$(sha256sum <"$work/root/run.kaem" | cut -c 1-64)
	says_all "$empty  /steps/some step/patches-pass2/.keep" "$empty  /steps/kept" \
		"$copy  /steps/deep/er/empty/copy" && ! says "Subprocess error"
}
check "kaem creates empty files and directories again" again

# Packages of a payload, which have a list and a directory of their own.
printf '%s\n' b.tar.xz empty >"$work/list"
ramdisk 48 0 "$import
mkdir -p /external/repo-preseeded
payload-import --list /steps/payload-import-1.0/repo.list /external/repo-preseeded
sha256sum /external/distfiles/b.tar.xz /external/repo-preseeded/z.tar.bz2
sha256sum /external/distfiles/z.tar.bz2"
boot 60 "$zero" "index=1:$work/payload"
two_places() {
	b=$(sha256sum <"$work/files/b.tar.xz" | cut -c 1-64)
	z=$(sha256sum <"$work/files/z.tar.bz2" | cut -c 1-64)
	says_all "$b  /external/distfiles/b.tar.xz" "$z  /external/repo-preseeded/z.tar.bz2" \
		"payload-import: done: 2 files restored" "payload-import: done: 1 files restored" \
		"/external/distfiles/z.tar.bz2: No such file"
}
check "restores by two lists into two directories" two_places

echo a.zeros >"$work/list"
ramdisk 48 0 "$import"
boot 60 "$zero" "index=1:$work/beyond4"
check "refuses a file that would cross 4 GiB" \
	fails_with 3 "payload-import: /dev/hdb: a.zeros: at byte " ": reaches beyond 4 GiB"
echo a.tar.gz >"$work/list"
ramdisk 48 0 "$import
sha256sum /external/distfiles/a.tar.gz"
boot 60 "$zero" "index=1:$work/beyond4"
sum=$(sha256sum <"$work/files/a.tar.gz" | cut -c 1-64)
check "restores a file of the list that is below 4 GiB" \
	says_all "$sum" "payload-import: done: 1 files restored"
echo z.tar.bz2 >>"$work/list"
ramdisk 48 0 "$import
sha256sum /external/distfiles/z.tar.bz2"
boot 900 "$zero" "index=1:$work/beyond2"
sum=$(sha256sum <"$work/files/z.tar.bz2" | cut -c 1-64)
check "restores a file above 2 GiB" says_all "$sum" "payload-import: done: 2 files restored"
echo missing.tar.gz >>"$work/list"
ramdisk 48 0 "$import"
boot 60 "$zero" "index=1:$work/payload"
check "refuses a list with a file that is not in the payload" \
	fails_with 7 "payload-import: /dev/hdb: has no file missing.tar.gz"
finish
