#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The gate: static checks, the binary, every test, and a comparison of Bun and Deno. The last line
# is `N passed, N failed, N skipped`; fails if anything did.
#
# usage: test.sh [--fast]
#
#   --fast  in less than a minute: static checks, and the tests that are not in scripts/slow-tests

set -eu
began=$(date +%s)
cd "$(dirname "$0")/.."

case $#:${1:-} in
	0:) fast="" ;;
	1:--fast) fast=yes ;;
	*)
		echo "usage: test.sh [--fast]" >&2
		exit 2
		;;
esac

sh scripts/setup.sh tests
[ -n "$fast" ] || sh scripts/setup.sh browser

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# No test depends on the user: no colours, no terminal, no cache of the user; and none registers its
# runs with those of the user, which ps lists.
export NO_COLOR=1 XDG_CACHE_HOME="$work/cache" XDG_STATE_HOME="$work/state"
# mke2fs and others are in directories that are not in the PATH of every user.
export PATH="$PATH:/usr/sbin:/sbin"
bin=node_modules/.bin
deno() { DENO_DIR="${DENO_DIR:-${HOME:-$work}/.cache/deno}" "$bin/deno" "$@"; }

# shellcheck source=scripts/count.sh
. scripts/count.sh

echo
echo "== Static checks"
check "types" deno check mod.ts src/cli/main.ts tests scripts
check "lint" deno lint --quiet
check "format" deno fmt --check
check "rooms" "$bin/bun" scripts/rooms.ts --check
check "embedded assets are current" "$bin/bun" scripts/assets.ts --check
if command -v shellcheck >/dev/null 2>&1; then
	check "shell scripts" shellcheck .ci/run scripts/*.sh scripts/*/*.sh
else
	skip "shell scripts" "there is no shellcheck here"
fi

slow=$(sed '/^#/d; s/ side by side$//' scripts/slow-tests)
waiting=$(sed -n 's/ side by side$//p' scripts/slow-tests)
alone=$(grep -v -e '^#' -e ' side by side$' scripts/slow-tests)
are_there() { # FILE...
	for file in "$@"; do
		[ -f "$file" ] || { echo "there is no $file" && return 1; }
	done
}
# shellcheck disable=SC2086 # a list of words
check "what scripts/slow-tests names is there" are_there $slow

if [ -z "$fast" ]; then
	echo
	echo "== Binary"
	check "dist/seedstrap is built" sh scripts/build.sh
	version=$(node -p 'require("./package.json").version')
	says_version() { [ "$("$@" --version)" = "$version" ]; }
	check "dist/seedstrap prints its version" says_version dist/seedstrap
fi

echo
echo "== Tests"
# The counts are from the report of Bun, not from its output. A run that fails although no test
# failed (a crash, a file that does not load) is a failure too.
run_tests() { # REPORT ARGUMENT...
	report=$1
	shift
	status=0
	"$bin/bun" test "$@" --timeout 60000 --reporter=junit --reporter-outfile="$report" \
		>"$work/tests" 2>&1 </dev/null || status=$?
	count() { # ATTRIBUTE of the report's root
		sed -n "s/^<testsuites .* $1=\"\([0-9]*\)\".*/\1/p" "$report" 2>/dev/null | head -n 1
	}
	total=$(count tests)
	failures=$(count failures)
	ignored=$(count skipped)
	if [ "$status" -ne 0 ] || [ -z "$total" ]; then
		grep -vE '^\((pass|skip)\)|^[0-9]+ tests skipped:|^tests/.*:$|^$' "$work/tests" || true
	else
		grep '^skipped:' "$work/tests" || true
	fi
	: "${total:=0}" "${failures:=0}" "${ignored:=0}"
	passed=$((passed + total - failures - ignored))
	failed=$((failed + failures))
	skipped=$((skipped + ignored))
	if [ "$total" -eq 0 ]; then
		fail "bun test ran no test (exit code $status)"
	elif [ "$status" -ne 0 ] && [ "$failures" -eq 0 ]; then
		fail "bun test ended with exit code $status although no test failed"
	fi
	echo "bun test: $total tests, $failures failed, $ignored skipped"
}

# Files side by side, on every core
set -- tests --parallel
for file in $slow; do
	set -- "$@" "--path-ignore-patterns=$file"
done
run_tests "$work/fast.xml" "$@"

if [ -n "$fast" ]; then
	echo
	echo "left out: the binary, what it does the same as Deno, and"
	echo "$slow" | sed 's/^/    /'
	echo "this took $(($(date +%s) - began)) seconds"
	finish
	exit
fi
# shellcheck disable=SC2086 # a list of words
run_tests "$work/waiting.xml" --parallel $waiting
# What is left measures memory, or needs the machine for itself: one file after the other.
# shellcheck disable=SC2086 # a list of words
run_tests "$work/slow.xml" $alone
# Shares and not seconds, which depend on what else the machine does
[ ! -s "$work/slow.xml" ] || awk -F '"' -v known="$(echo "$slow" | tr '\n' ' ')" '
	{ for (i = 1; i < NF; i += 2) value[$i] = $(i + 1) }
	/^<testsuites / && whole == 0 { whole = value[" time="] }
	/^  <testsuite / && value[" time="] > whole / 15 && index(known, value[" file="]) == 0 {
		printf "slow: %s takes %d s of %d s, and is not in scripts/slow-tests\n",
			value[" file="], value[" time="], whole
	}' "$work/slow.xml" "$work/fast.xml"
status=0
"$bin/bun" scripts/coverage-importer.ts >"$work/coverage" 2>&1 </dev/null || status=$?
case $status in
	0) pass "tests reach every line of payload-import: $(tail -n 1 "$work/coverage")" ;;
	2) skip "coverage of payload-import" "$(tail -n 1 "$work/coverage")" ;;
	*)
		fail "tests reach every line of payload-import"
		tail -n 200 "$work/coverage" | sed 's/^/    /'
		;;
esac

echo
echo "== The same under Deno and in the binary"
tree=$work/demo/tree
compiled() { dist/seedstrap "$@"; }
under_deno() { deno run --quiet --allow-all src/cli/main.ts "$@"; }
sources() { "$1" sources --tree "$tree" >"$work/$1.sources"; }
plan() {
	"$1" plan --qemu --external-sources --target-size 64M -m "file://$work/demo/mirror" \
		--tree "$tree" --json >"$work/$1.plan"
}
build() {
	"$1" build --qemu --external-sources --target-size 64M -m "file://$work/demo/mirror" \
		--tree "$tree" --target "$work/$1"
}
report() { "$1" report "$work/compiled" -o "$work/$1.html"; }
bundle() { # the second run is offline and reads the checkout from a bundle
	"$1" bundle create -m "file://$work/demo/mirror" --tree "$tree" -o "$work/$1.first.tar" &&
		"$1" bundle create --offline --tree "$work/$1.first.tar" -o "$work/$1.tar" &&
		cmp "$work/$1.first.tar" "$work/$1.tar" && "$1" bundle verify "$work/$1.tar"
}
same() { # COMMAND FILE...: has the same result under both, and these files are equal and not empty
	command=$1
	shift
	"$command" compiled && "$command" under_deno || return 1
	for file in "$@"; do
		[ -s "$work/compiled$file" ] || return 1
		cmp "$work/compiled$file" "$work/under_deno$file" || return 1
	done
}
# The example in mod.ts, unchanged.
run_example() { # NAME RUNTIME...
	name=$1
	shift
	"$@" "$work/example.ts" "$tree" "file://$work/demo/mirror" "$work/$name.media" >"$work/$name.list"
}
example_bun() { run_example bun "$bin/bun"; }
example_deno() { run_example deno deno run --quiet --check --config deno.json --allow-all; }
library() {
	"$bin/bun" scripts/example.ts "$work/example.ts" && example_bun && example_deno || return 1
	grep -q '^payload.img [0-9a-f]\{64\}$' "$work/bun.list" && cmp "$work/bun.list" "$work/deno.list"
}
check "demo" compiled demo --keep "$work/demo"
check "library: the example of mod.ts" library
check "sources" same sources .sources
check "plan" same plan .plan
check "build: the images are identical" same build /init.img /payload.img
check "report: the pages are identical" same report .html
check "bundle: the files are identical" same bundle .tar

echo
finish
