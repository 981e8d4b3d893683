# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# Kills runs of the real stages and goes on from their checkpoints: ten times in stage0-posix, and
# through the jump to Fiwix and the import.

echo
echo "== kill -9 at ten moments of stage0-posix, and through the jump to Fiwix"

# shellcheck source=scripts/acceptance/jump.sh
. "$home/scripts/acceptance/jump.sh"
stage0() {
	media "$tree" "$work/stage0" && "$bun" "$home/scripts/acceptance/resume.ts" "$seedstrap" \
		"$work/stage0" "$tree/seed/stage0-posix/x86.answers" </dev/null
}

through_fiwix() {
	jump_media "$work/fiwix" payload.img || return 1
	"$bun" "$home/scripts/acceptance/resume_fiwix.ts" "$seedstrap" "$work/fiwix" \
		"$(wc -l <"$work/sums")" </dev/null
}

if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
	skip "runs that are killed and go on" "there is no qemu-system-x86_64 here"
else
	what="stage0-posix, killed ten times, has the answers of a run that nobody has disturbed"
	if stage0; then pass "$what"; else fail "$what"; fi
	after="what the importer restores is right, whenever the run is killed after the jump to Fiwix"
	if [ -z "$root" ] || [ -z "$real" ]; then
		skip "$after" "--root and --real name a bootstrapped root and its distfiles"
	elif through_fiwix; then
		pass "$after"
	else
		fail "$after"
	fi
fi
