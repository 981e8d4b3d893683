# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # work is set by who reads this in
#
# What scripts that end in a line `N passed, N failed, N skipped` count with. They read it in, with a
# temporary directory of their own in $work.

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

# check WHAT COMMAND...: if it fails, the end of $evidence is shown: what it printed, or another file.
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
