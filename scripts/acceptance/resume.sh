# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# Kills runs of the real stages and goes on from their checkpoints: ten times in stage0-posix, and
# through the jump to Fiwix and the import. The second one begins right before the jump, from a root
# bootstrapped to the end of kexec-fiwix-1.0. Its ramdisk has 32 MiB, as builder-hex0 takes some ten
# seconds under TCG for each, and its distfiles fit into that.

echo
echo "== kill -9 at ten moments of stage0-posix, and through the jump to Fiwix"

bun=$home/node_modules/.bin/bun
# media TREE TARGET [OPTION...]
media() {
	media_tree=$1 media_target=$2
	shift 2
	"$seedstrap" build --qemu --external-sources -m "file://${media_tree%/*}/mirror" \
		--tree "$media_tree" --store "$work/resume.store" -t "$media_target" "$@" >"$work/media.log" 2>&1 </dev/null || {
		cat "$work/media.log"
		return 1
	}
}
stage0() {
	media "$tree" "$work/stage0" && "$bun" "$home/scripts/acceptance/resume.ts" "$seedstrap" \
		"$work/stage0" "$tree/seed/stage0-posix/x86.answers" </dev/null
}

# root_archive: the bootstrapped root, without what the run brings or does not need.
root_archive() {
	tar --owner 0 --group 0 --sort name -cf "$work/jump.tar" --exclude ./steps --exclude ./external \
		--exclude ./.seedstrap --exclude ./x86/artifact --exclude './dev/*' --exclude './proc/*' \
		--exclude './tmp/*' -C "$root" .
}
# jumping_tree: a checkout whose manifest begins with the jump, and checks what was restored.
jumping_tree() {
	run "making small inputs" "$bun" "$home/scripts/bench/synthetic.ts" "$checkout" "$work/small" 4 \
		"$real" || return 1
	cp -a "$work/small/tree" "$work/small/jumping"
	steps=$work/small/jumping/steps
	sed -e '/^jump: fiwix/,$!{/^build: /d}' -e 's/^jump: fiwix.*/&\nimprove: check_restored/' \
		"$work/small/tree/steps/manifest" >"$steps/manifest"
	sed -i 's/\(make_fiwix_initrd -s\) [0-9]*/\1 32768/' "$steps/jump/fiwix.sh"
	sed -i 's|/preseed-jump\.kaem|/steps/0.sh|' "$work/small/jumping/seed/preseeded.kaem"
	printf 'set -ex\nsha256sum -c /steps/restored.sums\n' >"$steps/improve/check_restored.sh"
	: >"$steps/restored.sums"
}
# restored_sums IMAGE: what sha256sum of the guest checks, for the files of a payload.
restored_sums() {
	"$seedstrap" image ls "$1" | sed 's/^ *[0-9]* *//' | while IFS= read -r name; do
		[ ! -f "$work/small/mirror/$name" ] || (cd "$work/small/mirror" && sha256sum "$name")
	done | sed 's,  ,  /external/distfiles/,'
}
through_fiwix() {
	root_archive && jumping_tree || return 1
	media "$work/small/jumping" "$work/fiwix" --early-preseed "$work/jump.tar" || return 1
	restored_sums "$work/fiwix/payload.img" >"$work/sums"
	cp "$work/sums" "$steps/restored.sums"
	rm -rf "$work/fiwix"
	media "$work/small/jumping" "$work/fiwix" --early-preseed "$work/jump.tar" || return 1
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
