# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources the part that sources this, sets them
#
# Media of a run that begins right before the jump to Fiwix, from a root bootstrapped to the end of
# kexec-fiwix-1.0, and checks what the importer has restored. Its ramdisk has 32 MiB, as builder-hex0
# takes some ten seconds under TCG for each, and its distfiles fit into that.

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
# root_archive: the bootstrapped root, without what the run brings or does not need.
root_archive() {
	tar --owner 0 --group 0 --sort name -cf "$work/jump.tar" --exclude ./steps --exclude ./external \
		--exclude ./.seedstrap --exclude ./x86/artifact --exclude './dev/*' --exclude './proc/*' \
		--exclude './tmp/*' -C "$root" .
}
# jumping_tree: a checkout whose manifest begins with the jump, and checks what was restored.
jumping_tree() {
	rm -rf "$work/small"
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
	"$seedstrap" image ls "$1" | sed -e 's/^ *[0-9]* *//' -e 's,^payload/,,' | while IFS= read -r name; do
		[ ! -f "$work/small/mirror/$name" ] || (cd "$work/small/mirror" && sha256sum "$name")
	done | sed 's,  ,  /external/distfiles/,'
}
# jump_media TARGET IMAGE [OPTION...]: builds them; IMAGE in TARGET has the payload. $work/sums has a
# line for each file that has to be restored.
jump_media() {
	jump_target=$1 jump_image=$2
	shift 2
	root_archive && jumping_tree || return 1
	media "$work/small/jumping" "$jump_target" --early-preseed "$work/jump.tar" "$@" || return 1
	restored_sums "$jump_target/$jump_image" >"$work/sums"
	cp "$work/sums" "$steps/restored.sums"
	rm -rf "$jump_target"
	media "$work/small/jumping" "$jump_target" --early-preseed "$work/jump.tar" "$@"
}
