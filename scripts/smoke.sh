#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Whether a binary of a release runs on this machine, or on one that QEMU emulates: it tells its
# version, which the tag names, boots the demo where there is a qemu-system-x86_64, builds and
# verifies images and a bundle, and makes a disk with mke2fs where there is one. The digests of the
# images are the last two lines: they are the same on every machine.
#
# usage: smoke.sh BINARY TAG [EMULATOR...]   such as qemu-x86_64-static -cpu Nehalem

set -eu
if [ $# -lt 2 ]; then
	echo "usage: smoke.sh BINARY TAG [EMULATOR...]" >&2
	exit 2
fi
binary=$1
tag=$2
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# An artifact keeps no modes, and may be mounted read-only.
cp "$binary" "$work/seedstrap"
chmod 755 "$work/seedstrap"
if [ "$(uname -s)" = Darwin ]; then
	codesign --verify --strict --verbose "$work/seedstrap"
fi
set -- "$@" "$work/seedstrap"

version=$("$@" --version)
if [ "v$version" != "$tag" ]; then
	echo "smoke: $binary says that it is $version, the tag is $tag" >&2
	exit 1
fi
cd "$work"
"$@" demo --keep lb
"$@" build --bare-metal --external-sources --tree lb/tree -m ./lb/mirror --store store -t target
"$@" image verify target/init.img
"$@" image verify target/payload.img
"$@" bundle create --tree lb/tree -m ./lb/mirror --store store --binary -o lb.tar
"$@" bundle verify lb.tar
tar xf lb.tar seedstrap-bundle/bin/seedstrap
cmp seedstrap-bundle/bin/seedstrap seedstrap
"$@" doctor --bare-metal --tree lb/tree -m ./lb/mirror --store store
"$@" image digest target/init.img target/payload.img
