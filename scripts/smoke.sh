#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Whether a binary of a release runs on this machine, or on an older processor, which QEMU emulates:
# it tells its version, which the tag names, and does the main job on the embedded miniature tree.
#
# usage: smoke.sh BINARY TAG [PROCESSOR]   PROCESSOR as `qemu-x86_64-static -cpu help` lists them

set -eu
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
	echo "usage: smoke.sh BINARY TAG [PROCESSOR]" >&2
	exit 2
fi
binary=$1
tag=$2
processor=${3:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# An artifact keeps no modes, and may be mounted read-only.
cp "$binary" "$work/seedstrap"
chmod 755 "$work/seedstrap"
run() {
	if [ -z "$processor" ]; then
		"$work/seedstrap" "$@"
	else
		qemu-x86_64-static -cpu "$processor" "$work/seedstrap" "$@"
	fi
}

version=$(run --version)
if [ "v$version" != "$tag" ]; then
	echo "smoke: $binary says that it is $version, the tag is $tag" >&2
	exit 1
fi
run demo
