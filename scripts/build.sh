#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the binary dist/seedstrap, or with --target a binary for another machine, such as
# dist/seedstrap-linux-arm64-musl. Bun fetches its runtime for another machine from npm.
#
# usage: build.sh [--target=bun-OS-ARCH[-musl][-baseline]]

set -eu
cd "$(dirname "$0")/.."
root=$PWD

output=dist/seedstrap
case $#:${1:-} in
	0:) ;;
	1:--target=bun-?*) output=dist/seedstrap-${1#--target=bun-} ;;
	*)
		echo "usage: build.sh [--target=bun-OS-ARCH[-musl][-baseline]]" >&2
		exit 2
		;;
esac
if [ ! -x node_modules/.bin/bun ]; then
	echo "build: Bun is missing: run scripts/setup.sh" >&2
	exit 1
fi

mkdir -p dist
work=$(mktemp -d dist/.build.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# The module of a thread is a separate entry point. In the binary it has its path below --root,
# by which src/runtime/worker.ts finds it.
set -- "$@" --root "$root/src" "$root/src/cli/main.ts"
for worker in "$root"/src/*/*_worker.ts; do
	set -- "$@" "$worker"
done
cd "$work"
if ! "$root/node_modules/.bin/bun" build --compile --minify --bytecode --format=esm "$@" \
	--outfile seedstrap >log 2>&1 </dev/null; then
	cat log >&2
	echo "build: could not make $output" >&2
	exit 1
fi
cd "$root"
mv -f "$work/seedstrap" "$output"
echo "build: $output, $(wc -c <"$output") bytes"
