#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the binary with Deno: dist/seedstrap-deno. Deno downloads the base of such binaries
# (denort) on first use; DENORT_BIN=FILE names a local one.
#
# By Deno's documentation such a binary reads no deno.json and no .env from the directory that it is
# started in (it would only with --env-file, given here), and neither DENO_V8_FLAGS nor NODE_OPTIONS.
# What else its Node layer obeys, such as NODE_TLS_REJECT_UNAUTHORIZED, is not switched off as
# scripts/harden.ts does it for Bun. None of this is tested: releases are made with Bun.
#
# usage: compile-deno.sh

set -eu
cd "$(dirname "$0")/.."

output=dist/seedstrap-deno
if [ ! -e node_modules/.bin/deno ]; then
	echo "compile: Deno is missing: run scripts/setup.sh" >&2
	exit 1
fi
mkdir -p dist
work=$(mktemp -d dist/.compile.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Packages for development only would be embedded too.
set --
for package in bun bun-types @types deno @deno @oven fast-check pure-rand undici-types .bin; do
	set -- "$@" --exclude "node_modules/$package"
done
for worker in src/*/*_worker.ts; do
	set -- "$@" --include "$worker"
done
if NO_COLOR=1 node_modules/.bin/deno compile --quiet --allow-all "$@" \
	--output "$work/seedstrap" src/cli/main.ts \
	>"$work/log" 2>&1 </dev/null; then
	# With a base that is not denort the result may run, but not as seedstrap.
	want=$(node -p 'require("./package.json").version')
	if [ "$("$work/seedstrap" --version 2>/dev/null </dev/null)" != "$want" ]; then
		echo "compile: the result does not run as seedstrap $want: is its base a denort?" >&2
		exit 1
	fi
	mv -f "$work/seedstrap" "$output"
	echo "compile: $output, $(wc -c <"$output") bytes"
	exit 0
fi
if grep -q denort "$work/log"; then
	version=$(node_modules/.bin/deno --version | sed -n '1s/^deno \([^ ]*\).*/\1/p')
	echo "compile: no $output: Deno's base binary is missing and could not be downloaded." >&2
	echo "It is the file denort of Deno's release $version for this machine. Run this where it" >&2
	echo "can be downloaded, or name it: DENORT_BIN=/path/to/denort" >&2
else
	cat "$work/log" >&2
	echo "compile: could not make $output" >&2
fi
exit 1
