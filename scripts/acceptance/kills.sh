# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# Kills and interrupts every command that writes, and checks what that leaves.

echo
echo "== kill -9 at $kills moments of every command, SIGTERM and SIGINT at $signals"
if "$home/node_modules/.bin/bun" "$home/scripts/acceptance/kills.ts" "$seedstrap" "$work/kills" \
	--kills "$kills" --signals "$signals" </dev/null; then
	pass "a command that is killed leaves nothing torn, and nothing that it does not clear away"
else
	fail "a command that is killed leaves nothing torn, and nothing that it does not clear away"
fi
