# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # the script that sources this sets work
#
# Counts the results of scripts that end with a line `N passed, N failed, N skipped`. They source
# it, with a temporary directory in $work.

passed=0
failed=0
skipped=0

pass() { # WHAT
	passed=$((passed + 1))
	echo "PASS  $1"
}

fail() { # WHAT
	failed=$((failed + 1))
	echo "FAIL  $1"
}

skip() { # WHAT REASON
	skipped=$((skipped + 1))
	echo "skipped: $1: $2"
}

# check WHAT COMMAND...: runs it; if it fails, shows the end of $evidence, by default its output.
check() {
	what=$1
	shift
	if "$@" >"$work/log" 2>&1 </dev/null; then
		pass "$what"
	else
		fail "$what"
		[ ! -f "${evidence:=$work/log}" ] || tail -n 200 "$evidence" | sed 's/^/    /'
	fi
}

# Prints the last line; fails if anything did.
finish() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ]
}
