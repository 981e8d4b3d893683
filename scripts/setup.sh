#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs missing npm packages from the lock file, and missing Debian packages if this is root and
# there is apt-get (otherwise it prints the command to run, and continues).
#
# usage: setup.sh [build|demo|tests|browser|acceptance|hosts|debian]
#
#   build       npm packages only
#   demo        also QEMU
#   tests       also the tools that the tests use (the default)
#   browser     npm packages, and the browser that the tests of the report use
#   acceptance  also what rootfs.py and the benchmark need
#   hosts       npm packages, QEMU, and what runs the binaries for other machines (hosts.sh)
#   debian      Debian packages of the tests only; fails where they cannot be installed

set -eu
cd "$(dirname "$0")/.."

purpose=${1:-tests}
case $purpose in
	build | demo | tests | browser | acceptance | hosts | debian) ;;
	*)
		echo "usage: setup.sh [build|demo|tests|browser|acceptance|hosts|debian]" >&2
		exit 2
		;;
esac

for program in node npm; do
	if ! command -v "$program" >/dev/null 2>&1; then
		echo "setup: $program is missing: install Node.js 20 or later with npm" >&2
		exit 1
	fi
done

# Reports whether node_modules is as the lock file says: every package needed here in its version,
# and no other. npm writes node_modules/.package-lock.json last, so it is missing after an
# interrupted run.
is_current() {
	node - <<'END'
const { readFileSync } = require("node:fs");
const read = (path) => JSON.parse(readFileSync(path, "utf8")).packages;
try {
  const want = read("package-lock.json");
  const have = read("node_modules/.package-lock.json");
  const same = (path) =>
    want[path]?.version === have[path].version &&
    (want[path].integrity ?? "") === (have[path].integrity ?? want[path].integrity ?? "");
  const absent = (path) => path !== "" && !want[path].optional && have[path] === undefined;
  process.exit(Object.keys(have).every(same) && !Object.keys(want).some(absent) ? 0 : 1);
} catch (error) {
  if (error.code !== "ENOENT") throw error;
  process.exit(1);
}
END
}

npm_packages() {
	if is_current; then
		echo "setup: npm packages are as in package-lock.json"
	else
		echo "setup: installing npm packages from package-lock.json"
		npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	fi
}

# Packages may not run scripts when they are installed. The two runtimes need theirs, which puts
# the binary from an optional package where node_modules/.bin points to.
runtime() { # NAME SCRIPT
	if ! "node_modules/.bin/$1" --version >/dev/null 2>&1; then
		node "node_modules/$1/$2" >/dev/null
	fi
	if ! version=$("node_modules/.bin/$1" --version 2>/dev/null); then
		echo "setup: $1 from npm does not run on this machine" >&2
		exit 1
	fi
	echo "setup: $1 $(printf '%s\n' "$version" | sed -n '1s/^deno //; 1s/ .*//; 1p')"
}

if [ "$purpose" != debian ]; then
	npm_packages
	runtime bun install.js
	runtime deno install.cjs
fi

missing=""
need() { # PACKAGE COMMAND...
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
program() { # PACKAGE PROGRAM: also searches directories that are not in the PATH of every user
	# shellcheck disable=SC2016 # for the inner shell
	need "$1" env PATH="$PATH:/usr/sbin:/sbin" sh -c 'command -v "$1"' sh "$2"
}

compiles() { # OPTION...: whether gcc can build a program, with the headers of the kernel
	echo '#include <errno.h>
#include <stdio.h>
int main(void) { return puts("") < 0; }' | gcc -x c "$@" -o /dev/null -
}

case $purpose in
	build) ;;
	browser)
		command -v google-chrome >/dev/null 2>&1 || program chromium chromium
		;;
	*) program qemu-system-x86 qemu-system-x86_64 ;;
esac
case $purpose in
	tests | acceptance | debian)
		program qemu-utils qemu-img
		program xxd xxd
		program binutils as
		program shellcheck shellcheck
		program zsh zsh
		program fish fish
		program util-linux setpriv
		program bubblewrap bwrap
		program bsdutils script
		program tmux tmux
		program git git
		program util-linux losetup
		program fdisk sfdisk
		program e2fsprogs mke2fs
		program dosfstools mkfs.fat
		program openssl openssl
		program tar tar
		program gzip gzip
		program xz-utils xz
		program zstd zstd
		program gcc gcc
		need libc6-dev compiles
		need gcc-multilib compiles -m32
		program tcc tcc
		program valgrind valgrind
		program strace strace
		need libc6-dbg valgrind -q true
		program bzip2 bzip2
		program patch patch
		program python3 python3
		program bmap-tools bmaptool
		program docker-registry docker-registry
		program skopeo skopeo
		program umoci umoci
		program crun crun
		program podman podman
		program curl curl
		;;
esac
if [ "$purpose" = hosts ]; then
	program qemu-user-static qemu-aarch64-static
	program qemu-user-static qemu-x86_64-static
	[ "$(uname -m)" = aarch64 ] || need libc6-arm64-cross test -f /usr/aarch64-linux-gnu/lib/libc.so.6
fi
if [ "$purpose" = acceptance ]; then
	need python3-requests python3 -c "import requests"
	program parted parted
	program time time
	program curl curl
	program aria2 aria2c
fi

if [ -z "$missing" ]; then
	[ "$purpose" = build ] || echo "setup: no Debian packages are missing"
	exit 0
fi
install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "setup: missing:$missing; tests that need them are skipped. On Debian, as root:"
	echo "  apt-get update && $install"
	[ "$purpose" != debian ]
	exit
fi
echo "setup: installing Debian packages:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # a list of words
if ! {
	apt-get -q -o DPkg::Lock::Timeout=300 update &&
		DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
			install -y --no-install-recommends $missing
} >"$log" 2>&1 </dev/null; then
	tail -n 5 "$log" >&2
	echo "setup: could not install:$missing; tests that need them are skipped" >&2
	[ "$purpose" != debian ]
fi
