#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds the binaries of a release, and runs scripts/smoke.sh with each that this machine, or an
# emulator on it, can run: another architecture and an old processor by the user emulation of QEMU,
# musl by the loader in a directory. All have to make the same images. `scripts/setup.sh hosts`
# installs what Debian has for that. The last line is `N passed, N failed, N skipped`; fails if
# anything did.
#
# Debian has no libstdc++ for musl: unless this machine is an Alpine, name the root of one, such as
# its minirootfs after `apk add libstdc++`, with MUSL_X64_ROOT and MUSL_ARM64_ROOT.
#
# usage: hosts.sh [TARGET...]   such as linux-arm64; default: all

# shellcheck disable=SC2317 # functions that seem unreachable are called by check
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
export PATH

[ $# -gt 0 ] || set -- linux-x64 linux-x64-baseline linux-x64-musl linux-x64-musl-baseline \
	linux-arm64 linux-arm64-musl darwin-x64 darwin-arm64
for target in "$@"; do
	case $target in
		linux-x64 | linux-x64-baseline | linux-x64-musl | linux-x64-musl-baseline) ;;
		linux-arm64 | linux-arm64-musl | darwin-x64 | darwin-arm64) ;;
		*)
			echo "usage: hosts.sh [TARGET...]   such as linux-arm64; default: all" >&2
			exit 2
			;;
	esac
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# shellcheck source=scripts/count.sh
. scripts/count.sh

tag=v$(node -p 'require("./package.json").version')
# The first processors with SSE4.2 and POPCNT, of 2008; they have no AVX.
OLD=Nehalem

runs() { # COMMAND...
	[ "$("$@" --version 2>/dev/null)" = "${tag#v}" ]
}

# Sets loader to the words of a dynamic loader, or of QEMU, that find the C library of a binary, and
# emulator to all words before it; or why to the reason for which it cannot run here.
find_emulator() { # TARGET BINARY
	case $1 in
		linux-x64*) arch=x86_64 root=${MUSL_X64_ROOT:-} name=X64 ;;
		linux-arm64*) arch=aarch64 root=${MUSL_ARM64_ROOT:-} name=ARM64 ;;
		darwin-*)
			why="there is no emulator of macOS"
			return
			;;
	esac
	foreign=qemu-$arch-static
	[ "$(uname -m)" != "$arch" ] || foreign=""
	case $1 in
		*-musl*)
			if [ -z "$root" ]; then
				why="there is no libstdc++ for musl here, and MUSL_${name}_ROOT names none"
				return
			fi
			loader="$root/lib/ld-musl-$arch.so.1 --library-path $root/lib:$root/usr/lib"
			;;
		*) loader=${foreign:+-L /usr/$arch-linux-gnu} ;;
	esac
	emulator=${foreign:+$foreign }$loader
	# shellcheck disable=SC2086 # a list of words
	runs $emulator "$2" || why="it does not start: $emulator"
}

# Its last lines are the digests of images, which are the same for each binary.
run_smoke() { # WHAT BINARY EMULATOR...
	what=$1 binary=$2
	shift 2
	check "$what" sh scripts/smoke.sh "$binary" "$tag" "$@"
	grep -q '^== Boot: skipped' "$work/log" && echo "    booted nothing: there is no QEMU for it"
	tail -n 2 "$work/log" >"$work/digests"
	[ -s "$work/expected" ] || cp "$work/digests" "$work/expected"
	check "  the same images" cmp "$work/expected" "$work/digests"
}

for target in "$@"; do
	binary=$PWD/dist/seedstrap-$target
	check "$target is built" sh scripts/build.sh --target="bun-$target"
	[ -f "$binary" ] || continue
	case $target in
		darwin-*) check "  its signature is right" bun scripts/signature.ts "$binary" ;;
	esac
	loader="" emulator="" why=""
	runs "$binary" || find_emulator "$target" "$binary"
	if [ -n "$why" ]; then
		skip "$target runs" "$why"
		continue
	fi
	# shellcheck disable=SC2086 # a list of words
	run_smoke "$target runs${emulator:+ by $emulator}" "$binary" $emulator
	case $target in linux-x64*) ;; *) continue ;; esac
	if command -v qemu-x86_64-static >/dev/null; then
		# shellcheck disable=SC2086 # a list of words
		run_smoke "$target runs on a $OLD" "$binary" qemu-x86_64-static -cpu "$OLD" $loader
	else
		skip "$target runs on a $OLD" "there is no qemu-x86_64-static"
	fi
done

echo
(cd dist && for target in "$@"; do sha256sum "seedstrap-$target"; done)
finish
