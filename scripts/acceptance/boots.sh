# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# Boots of the preflight program that take too long for scripts/test.sh.

echo
echo "== Slow boots of the preflight program"
if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
	skip "the slow boots of the preflight program" "there is no qemu-system-x86_64 here"
elif (cd "$home" && SEEDSTRAP_ACCEPTANCE=1 node_modules/.bin/bun test --timeout 120000 \
	tests/preflight/verdict.test.ts) >"$work/boots" 2>&1; then
	grep -E '^ *[0-9]+ (pass|fail|skip)' "$work/boots"
	pass "the preflight program reports the right verdict for every machine"
else
	grep -E '^\(fail\)|^error' "$work/boots" || tail -n 5 "$work/boots"
	fail "the preflight program reports the right verdict for every machine"
fi
