#!/bin/sh
#
# SPDX-License-Identifier: MIT

# Refuses to go on to "jump: move_disk" where that would destroy a disk of somebody: it makes a
# partition table and a file system on ${DISK}, whatever lies there, and which disk is sda depends
# on the machine. Accepted are a disk that is empty, and the one that this bootstrap has booted
# from, which begins as guard_disk.boot says. ${OVERWRITE_DISK} = True accepts any disk but the one
# with the payload. Of a partition, nothing is erased: it has to hold what an external disk holds.
#
# Runs in bash under Linux, right after the kexec: there is no /dev/null, and proc is not mounted.

# shellcheck disable=SC1091 # made by seedstrap: BOOT_SHA256, BOOT_SECTORS and READ_BLOCKS
. /steps/improve/guard_disk.boot

# Undoes what was mounted and made.
guard_end() {
    if [ "${guard_dev}" != /dev ]; then
        umount "${guard_dev}"
        rmdir "${guard_dev}"
    fi
    if [ "${guard_proc}" = True ]; then
        umount /proc
    fi
    rm -f "${guard_start}" "${guard_log}"
}

# Ends the run.
guard_refuse() {
    guard_end
    echo "guard_disk: /dev/${DISK}: $1"
    echo "guard_disk: nothing was written to it. Build again with the right --disk,"
    echo "guard_disk: detach the other disks, or write zeros to the first MiB of this one.$2"
    echo "guard_disk: REFUSED: the system is not installed to /dev/${DISK}: $1"
    exit 1
}

# Reads how a disk begins, and sets guard_kind: boot, payload, none (no byte), empty or foreign. A
# program that fails or is missing makes it foreign.
guard_look() {
    guard_kind=foreign
    dd "if=$1" "of=${guard_start}" bs=65536 "count=${READ_BLOCKS}" 2> "${guard_log}" || return 1
    # Not the partition table, which an earlier run may have written.
    guard_sha256=$(
        (dd "if=${guard_start}" bs=440 count=1 &&
            dd "if=${guard_start}" bs=512 skip=1 "count=${BOOT_SECTORS}") 2> "${guard_log}" |
            sha256sum | cut -d ' ' -f 1
    )
    guard_bytes=$(($(wc -c < "${guard_start}")))
    guard_zeros=$(($(tr -d -c '\000' < "${guard_start}" | wc -c)))
    if [ ! -s "${guard_start}" ]; then
        guard_kind=none
    elif od -A n -t x1 -N 8 "${guard_start}" | grep '^ *4c 42 50 41 59 4c 44 31 *$' \
        > "${guard_log}"; then
        guard_kind=payload
    elif [ "${guard_sha256}" = "${BOOT_SHA256}" ]; then
        guard_kind=boot
    elif [ "${guard_bytes}" -gt 0 ] && [ "${guard_zeros}" -eq "${guard_bytes}" ]; then
        guard_kind=empty
    fi
}

# Whether a device is no whole disk, as move_disk tells it.
guard_is_partition() {
    [ $((0x$(stat -c "%T" "$1") % 8)) -ne 0 ]
}

guard_start=/guard_disk.start
guard_log=/guard_disk.log
guard_proc=False
if [ ! -r /proc/partitions ]; then
    mkdir -p /proc
    mount -t proc proc /proc
    guard_proc=True
fi
guard_dev=/guard_disk.dev
mkdir -p "${guard_dev}"
if ! mount -t devtmpfs none "${guard_dev}" 2> "${guard_log}"; then
    rmdir "${guard_dev}"
    guard_dev=/dev
fi
if [ "${DISK}" = "" ]; then
    guard_refuse "DISK in bootstrap.cfg is empty"
fi

# Linux may find a disk, a USB stick most of all, some seconds late.
guard_left=120
until guard_look "${guard_dev}/${DISK}"; do
    if [ "${guard_left}" -le 0 ]; then
        guard_refuse "it cannot be read: $(cat "${guard_log}")"
    fi
    sleep 1
    guard_left=$((guard_left - 1))
done

guard_hint=" Or build with
guard_disk: --overwrite-disk, which destroys what is on it."
if [ "${guard_kind}" = payload ]; then
    guard_refuse "it is the payload disk"
elif [ "${guard_kind}" = none ]; then
    guard_refuse "it has no medium"
elif guard_is_partition "${guard_dev}/${DISK}"; then
    mkdir -p /guard_disk.mnt
    if ! mount -t ext4 -o ro "${guard_dev}/${DISK}" /guard_disk.mnt 2> "${guard_log}"; then
        guard_refuse "it has no ext file system: $(cat "${guard_log}")"
    fi
    # shellcheck disable=SC2012 # for a message
    guard_others=$(ls -A /guard_disk.mnt |
        sed -e '/^distfiles$/d' -e '/^external$/d' -e '/^lost+found$/d' -e '/^repo$/d' \
            -e '/^repo-preseeded$/d')
    umount /guard_disk.mnt
    rmdir /guard_disk.mnt
    if [ "${guard_others}" != "" ] && [ "${OVERWRITE_DISK}" != True ]; then
        guard_refuse "it holds more than distfiles and packages: $(echo "${guard_others}" | tr "\n" " ")" \
            "${guard_hint}"
    fi
    guard_kind="partition with a file system"
elif [ "${OVERWRITE_DISK}" = True ]; then
    guard_kind="${guard_kind}, OVERWRITE_DISK is True"
elif [ "${guard_kind}" = foreign ]; then
    guard_refuse "it is neither empty nor the boot disk of this bootstrap" "${guard_hint}"
elif [ "${guard_kind}" = boot ]; then
    # A disk on which an earlier run came to nothing begins like the one of this run.
    guard_others=
    # shellcheck disable=SC2034 # the first columns are not needed
    while read -r guard_major guard_minor guard_blocks guard_name; do
        case "${guard_name}" in
            "" | name | "${DISK}" | ram* | loop* | fd* | sr*) continue ;;
        esac
        if [ -e "${guard_dev}/${guard_name}" ] &&
            ! guard_is_partition "${guard_dev}/${guard_name}" &&
            guard_look "${guard_dev}/${guard_name}" && [ "${guard_kind}" = boot ]; then
            guard_others="${guard_others} /dev/${guard_name}"
        fi
    done < /proc/partitions
    if [ "${guard_others}" != "" ]; then
        guard_refuse "which one has booted is not known: the same begins${guard_others}" \
            "${guard_hint}"
    fi
    guard_kind="boot disk"
fi
guard_end
echo "guard_disk: /dev/${DISK}: ${guard_kind}: the system is installed to it"

unset guard_start guard_log guard_proc guard_dev guard_left guard_hint guard_kind guard_others guard_sha256
unset guard_bytes guard_zeros
unset guard_major guard_minor guard_blocks guard_name
unset -f guard_end guard_refuse guard_look guard_is_partition
