#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the binary dist/seedstrap, or with --target a binary for another machine, such as
# dist/seedstrap-linux-arm64-musl. Bun fetches its runtime for another machine from npm.
#
# The binary loads nothing from the directory that it is started in, and obeys none of Bun's own
# variables: the first with options, the second by scripts/harden.ts.
#
# usage: build.sh [--target=bun-OS-ARCH[-musl][-baseline]]

set -eu
cd "$(dirname "$0")/.."
root=$PWD

output=dist/seedstrap
target=""
case $#:${1:-} in
	0:) ;;
	1:--target=bun-?*) output=dist/seedstrap-${1#--target=bun-} target=${1#--target=} ;;
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

bun=$root/node_modules/.bin/bun
run() { # COMMAND...: with its output only if it fails
	if ! "$@" >"$root/$work/log" 2>&1 </dev/null; then
		cat "$root/$work/log" >&2
		echo "build: could not make $output" >&2
		exit 1
	fi
}

# Bun itself is the runtime for this machine. One for another machine lies, once Bun has fetched it
# for a program, in the directory named here.
runtime=$bun
if [ -n "$target" ]; then
	fetched=$root/node_modules/.cache/$target
	echo "export {};" >"$work/empty.ts"
	run env BUN_INSTALL_CACHE_DIR="$fetched" "$bun" build --compile "--target=$target" \
		"$work/empty.ts" --outfile "$work/empty"
	for file in "$fetched/bun-"*"-v$("$bun" --version)"; do
		[ ! -f "$file" ] || runtime=$file
	done
	# It fetches none for the machine that it runs on.
	here=$("$bun" -p 'process.platform + "-" + process.arch')
	if [ "$runtime" = "$bun" ] && [ "$target" != "bun-$here" ]; then
		echo "build: Bun has put the runtime for $target somewhere else than into $fetched" >&2
		exit 1
	fi
fi
run "$bun" scripts/harden.ts "$runtime" "$work/runtime"

# The module of a thread is a separate entry point. In the binary it has its path below --root,
# by which src/runtime/worker.ts finds it.
set -- "$@" --root "$root/src" "$root/src/cli/main.ts"
for worker in "$root"/src/*/*_worker.ts; do
	set -- "$@" "$worker"
done
for what in bunfig dotenv tsconfig package-json; do
	set -- "--no-compile-autoload-$what" "$@"
done
cd "$work"
run "$bun" build --compile --minify --bytecode --format=esm \
	"--compile-executable-path=$root/$work/runtime" "$@" --outfile seedstrap
cd "$root"
# macOS wants a signature that is right. Bun makes one for arm64, and none for x64.
case $target in
	bun-darwin-*) run "$bun" scripts/signature.ts --mend "$work/seedstrap" ;;
esac
mv -f "$work/seedstrap" "$output"
echo "build: $output, $(wc -c <"$output") bytes"
