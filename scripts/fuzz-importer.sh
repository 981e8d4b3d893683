#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Fuzzes payload-import with AFL++, with AddressSanitizer and UndefinedBehaviorSanitizer. Then the
# cases that were found run in 32 bits, as on the booted machine, and gcov counts the lines that
# they reach. Fails where a crash or a hang was found; the cases are kept.
#
# usage: fuzz-importer.sh [MINUTES]
#
# Needs afl++ of Debian (with the clang that it brings) and gcc. The directory of the results is
# printed; FUZZ_DIR names another one, which must not be there.

set -eu
cd "$(dirname "$0")/.."

minutes=${1:-30}
case $minutes in
	'' | *[!0-9]* | 0)
		echo "usage: fuzz-importer.sh [MINUTES]" >&2
		exit 2
		;;
esac
for program in afl-fuzz afl-clang-fast; do
	if ! command -v "$program" >/dev/null 2>&1; then
		echo "fuzz-importer: $program is missing: apt-get install afl++" >&2
		exit 2
	fi
done

work=${FUZZ_DIR:-$(mktemp -d)/importer}
mkdir "$work"
echo "fuzz-importer: results in $work"
# The importer writes and removes a few files for each case.
files=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "$work")")
trap 'rm -rf "$files"' EXIT
trap 'exit 1' HUP INT TERM

harness=scripts/fuzz/importer.c
sanitizers="-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
# shellcheck disable=SC2086 # words
afl-clang-fast $sanitizers -o "$work/fuzzed" "$harness"
node_modules/.bin/bun scripts/fuzz/corpus.ts "$work/seeds" "$work/dictionary"

export AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_AFFINITY=1 AFL_NO_UI=1
status=0
(cd "$files" && nice -n 10 afl-fuzz -V $((minutes * 60)) -t 1000 -m none -i "$work/seeds" \
	-x "$work/dictionary" -o "$work/afl" -- "$work/fuzzed") >"$work/log" 2>&1 || status=$?
stats=$work/afl/default/fuzzer_stats
if [ "$status" -ne 0 ] || [ ! -s "$stats" ]; then
	tail -n 30 "$work/log" >&2
	echo "fuzz-importer: afl-fuzz ended with exit code $status" >&2
	exit 1
fi
grep -E '^(run_time|execs_done|execs_per_sec|corpus_count|edges_found|total_edges|stability|saved_crashes|saved_hangs) ' \
	"$stats"

failed=0
count() { find "$work/afl/default/$1" -maxdepth 1 -name 'id:*' | wc -l; }
[ "$(count crashes)" -eq 0 ] && [ "$(count hangs)" -eq 0 ] || failed=1

# In the files of gcc every case is run by name.
replay() { # PROGRAM
	(cd "$files" && find "$work/afl/default/queue" -maxdepth 1 -name 'id:*' -exec "$1" {} +)
}
# shellcheck disable=SC2086 # words
if gcc -m32 $sanitizers -o "$work/in32" "$harness" 2>"$work/in32.log"; then
	if replay "$work/in32" >"$work/in32.log" 2>&1; then
		echo "in 32 bits: $(count queue) cases, nothing found"
	else
		tail -n 20 "$work/in32.log" >&2
		echo "fuzz-importer: a case fails in 32 bits" >&2
		failed=1
	fi
else
	echo "fuzz-importer: not run in 32 bits: gcc -m32 with sanitizers does not work here"
fi
(cd "$work" && gcc -O0 --coverage -o counted "$OLDPWD/$harness")
replay "$work/counted" >/dev/null
(cd "$work" && gcov counted-importer.gcda 2>/dev/null) |
	sed -n "/payload-import.c'/{n;s/^Lines executed/payload-import.c, lines executed/p;}"

if [ "$failed" -ne 0 ]; then
	echo "fuzz-importer: FAILED: $(count crashes) crashes, $(count hangs) hangs in $work/afl" >&2
	exit 1
fi
echo "fuzz-importer: nothing found in $minutes minutes"
