# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# How runs of the real checkout end: each way to fail that is reached within minutes, with what the
# real stages print. The distfiles are synthetic, so no bootstrap gets further than mes.

echo
echo "== Outcomes of runs"

# fails_in STEP WHY TARGET: a run that ends with 9, names the step and the reason, and records both.
fails_in() {
	code=0
	timeout 1200 "$seedstrap" run "$3" --accel tcg >"$work/run.out" 2>"$work/run.err" </dev/null ||
		code=$?
	tail -n 20 "$work/run.err"
	[ "$code" -eq 9 ] || { echo "exit code $code" && return 1; }
	grep -qF "The bootstrap failed in $1: $2" "$work/run.err" || return 1
	grep -qF '"verdict": "failed"' "$3/.seedstrap/runs/1.json"
}

# A program that ends with exit code 1, run as the second command of stage0-posix.
stage0_fails() {
	rm -rf "$work/failing"
	cp -a "$tree" "$work/failing"
	x86=$work/failing/seed/stage0-posix/x86
	cat >"$x86/fail.hex0" <<'END'
7F 45 4C 46 01 01 01 03 00 00 00 00 00 00 00 00 02 00 03 00 01 00 00 00 ; an ELF program
54 00 60 00 34 00 00 00 00 00 00 00 00 00 00 00 34 00 20 00 01 00 00 00 00 00 00 00
01 00 00 00 00 00 00 00 00 00 60 00 00 00 60 00 5B 00 00 00 5B 00 00 00 07 00 00 00 01 00 00 00
31 C0 40 89 C3 CD 80 ; _exit(1)
END
	fail="./x86/artifact/hex0 ./x86/fail.hex0 ./x86/artifact/fail"
	sed "0,/^\.\/x86\/artifact\/hex0 .*/s||&\n$fail\n./x86/artifact/fail|" \
		"$x86/mescc-tools-mini-kaem.kaem" >"$work/kaem"
	cat "$work/kaem" >"$x86/mescc-tools-mini-kaem.kaem"
	"$seedstrap" build --qemu --external-sources -qs 2G -m "$mirror" --tree "$work/failing" \
		--distfiles "$work/outcome.store" -t "$work/qemu" >/dev/null 2>&1 </dev/null &&
		fails_in stage0-posix "Subprocess error" "$work/qemu"
}

# The real stage0-posix, and the first step that opens a distfile.
distfile_fails() {
	"$seedstrap" build --chroot --external-sources -m "$mirror" --tree "$tree" \
		--distfiles "$work/outcome.store" -t "$work/chroot" >/dev/null 2>&1 </dev/null &&
		fails_in "mes-0.27.1 pass 1" "Subprocess error" "$work/chroot"
}

if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
	skip "a failing step under QEMU" "there is no qemu-system-x86_64 here"
elif stage0_fails; then
	pass "a program that fails in builder-hex0 ends the run with 9, and names stage0-posix"
else
	fail "a program that fails in builder-hex0 ends the run with 9, and names stage0-posix"
fi
if [ "$(id -u)" -ne 0 ]; then
	skip "a failing step in chroot" "only root may start it"
elif distfile_fails; then
	pass "a distfile that cannot be unpacked ends a chroot with 9, and names its step"
else
	fail "a distfile that cannot be unpacked ends a chroot with 9, and names its step"
fi
