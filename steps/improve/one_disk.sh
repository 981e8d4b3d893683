#!/bin/sh
#
# SPDX-License-Identifier: MIT

# Makes the partition of the system where the boot disk also has the payload. "jump: move_disk",
# which comes next, would make one from 1 GiB on, over the payload where that ends later, and leave
# the payload without a partition, so that nothing could find it. It only mounts ${DISK} where that
# is a partition: so ${DISK} becomes partition 1, from 1 GiB or the end of the payload on, and
# partition 2 stays that of the payload. A disk without a payload in partition 2, and a partition,
# are left to move_disk.
#
# Runs in bash under Linux, after guard_disk: there is no /dev/null, and proc is not mounted.

# Undoes what was mounted and made.
one_disk_end() {
    if [ "${one_disk_dev}" != /dev ]; then
        umount "${one_disk_dev}"
        rmdir "${one_disk_dev}"
    fi
    rm -f "${one_disk_log}"
}

# Ends the run.
one_disk_refuse() {
    one_disk_end
    echo "one_disk: REFUSED: the system is not installed to /dev/${DISK}: $1"
    exit 1
}

# Prints $2 bytes at byte $1 of the disk, without blanks, as od prints them with -t $3.
one_disk_bytes() {
    od -A n -j "$1" -N "$2" -t "$3" "${one_disk_device}" 2> "${one_disk_log}" | tr -d ' \n'
}

# Whether a device begins with a payload.
one_disk_has_payload() {
    [ "$(od -A n -N 8 -t x1 "$1" 2> "${one_disk_log}" | tr -d ' \n')" = 4c425041594c4431 ]
}

one_disk_log=/one_disk.log
one_disk_dev=/one_disk.dev
mkdir -p "${one_disk_dev}"
if ! mount -t devtmpfs none "${one_disk_dev}" 2> "${one_disk_log}"; then
    rmdir "${one_disk_dev}"
    one_disk_dev=/dev
fi
one_disk_device=${one_disk_dev}/${DISK}

# The second entry of the table: its type, its first sector, and how many it has.
one_disk_type=$(one_disk_bytes 466 1 x1)
one_disk_first=$(one_disk_bytes 470 4 u4)
one_disk_count=$(one_disk_bytes 474 4 u4)
if [ $((0x$(stat -c "%T" "${one_disk_device}") % 8)) -ne 0 ]; then
    one_disk_end
    echo "one_disk: /dev/${DISK}: a partition: left as it is"
elif [ "${one_disk_type}" != da ] || ! one_disk_has_payload "${one_disk_device}2"; then
    one_disk_end
    echo "one_disk: /dev/${DISK}: no payload in partition 2: left to move_disk"
else
    # To the next MiB, but not before 1 GiB.
    one_disk_start=$(((one_disk_first + one_disk_count + 2047) / 2048 * 2048))
    if [ "${one_disk_start}" -lt 2097152 ]; then
        one_disk_start=2097152
    fi
    one_disk_blocks=$(sfdisk -s "${one_disk_device}" 2> "${one_disk_log}" || true)
    # This shell may compute with 32 bits. Ten digits of KiB are 1 TB, which is enough.
    case ${one_disk_blocks} in
        "") one_disk_refuse "its size is not known: $(cat "${one_disk_log}")" ;;
        ??????????*) ;;
        *)
            if [ "${one_disk_blocks}" -lt $((one_disk_start / 2 + 1024)) ]; then
                one_disk_refuse "it has ${one_disk_blocks} KiB, and no room after the payload"
            fi
            ;;
    esac

    echo "one_disk: /dev/${DISK}1: the system, from sector ${one_disk_start} to the end"
    echo "one_disk: /dev/${DISK}2: the payload, ${one_disk_count} sectors from ${one_disk_first} on"
    # A run that comes here again has made the table before, and the kernel knows it.
    if [ "$(one_disk_bytes 450 1 x1) $(one_disk_bytes 454 4 u4)" != "83 ${one_disk_start}" ]; then
        one_disk_before=$(sfdisk -s "${one_disk_device}1" 2> "${one_disk_log}" || true)
        # Without a size the first one extends to the end, as move_disk has it.
        printf '%s\n' "${one_disk_start},,83" "${one_disk_first},${one_disk_count},da" |
            sfdisk -uS --force "${one_disk_device}" > "${one_disk_log}" 2>&1 ||
            one_disk_refuse "sfdisk failed: $(cat "${one_disk_log}")"
        if [ "$(one_disk_bytes 450 1 x1) $(one_disk_bytes 454 4 u4)" != "83 ${one_disk_start}" ] ||
            [ "$(one_disk_bytes 466 1 x1) $(one_disk_bytes 470 4 u4) $(one_disk_bytes 474 4 u4)" != \
                "da ${one_disk_first} ${one_disk_count}" ]; then
            one_disk_refuse "sfdisk has written another table: $(cat "${one_disk_log}")"
        fi
        # What the kernel shows is the new table when partition 1 has another size.
        one_disk_left=30
        while true; do
            one_disk_after=$(sfdisk -s "${one_disk_device}1" 2> "${one_disk_log}" || true)
            if [ "${one_disk_after}" != "" ] && [ "${one_disk_after}" != "${one_disk_before}" ] &&
                one_disk_has_payload "${one_disk_device}2"; then
                break
            fi
            if [ "${one_disk_left}" -le 0 ]; then
                one_disk_refuse "the kernel does not show its new partitions"
            fi
            sleep 1
            one_disk_left=$((one_disk_left - 1))
        done
        unset one_disk_before one_disk_after one_disk_left
    fi

    mkfs.ext4 -F -F "${one_disk_device}1"
    one_disk_end
    DISK=${DISK}1
    echo "DISK=${DISK}" >> /steps/bootstrap.cfg
    echo "one_disk: the system is installed to /dev/${DISK}"
    unset one_disk_start one_disk_blocks
fi

unset one_disk_log one_disk_dev one_disk_device one_disk_type one_disk_first one_disk_count
unset -f one_disk_end one_disk_refuse one_disk_bytes one_disk_has_payload
