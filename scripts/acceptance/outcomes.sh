# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# How runs of the real checkout end: each way to fail that is reached within minutes, with what the
# real stages print.

echo
echo "== Outcomes of runs"

# made MODE TREE TARGET: the media of a tree.
made() {
	"$seedstrap" build "--$1" --external-sources -m "$mirror" --tree "$2" \
		--distfiles "$work/outcome.store" -t "$3" >/dev/null 2>&1 </dev/null
}
# altered: a copy of the tree in $work/altered, whose x86 seeds are in $x86.
altered() {
	rm -rf "$work/altered"
	cp -a "$tree" "$work/altered"
	x86=$work/altered/seed/stage0-posix/x86
}
# judged TARGET CODE VERDICT TEXT: what a run that is over has told, and recorded.
judged() {
	tail -n 12 "$work/run.err"
	[ "$code" -eq "$2" ] || { echo "exit code $code" && return 1; }
	grep -qF "$4" "$work/run.err" || return 1
	grep -qF "\"verdict\": \"$3\"" "$1/.seedstrap/runs/1.json"
}
# runs TARGET [OPTION...]: starts it, and leaves its exit code in $code.
runs() {
	code=0
	timeout 3000 "$seedstrap" run "$@" --accel tcg >"$work/run.out" 2>"$work/run.err" </dev/null ||
		code=$?
}
# fails_in CODE STEP WHY TARGET [OPTION...]: a run that ends with the code, names the step and the
# reason, and records both.
fails_in() {
	code_wanted=$1 where=$2 why=$3
	shift 3
	runs "$@"
	judged "$1" "$code_wanted" failed "The bootstrap failed in $where: $why"
}

# A program that ends with exit code 1, run as the second command of stage0-posix.
stage0_fails() {
	altered
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
	made qemu "$work/altered" "$work/qemu" && fails_in 12 stage0-posix "Subprocess error" "$work/qemu"
}

# A boot sector that resets the machine in place of loading anything.
boot_resets() {
	altered
	{
		echo "B0 FE E6 64 F4 EB FD ; the keyboard controller resets the processor"
		zeros=""
		while [ ${#zeros} -lt 1509 ]; do zeros="$zeros 00"; done
		echo "$zeros 55 AA"
	} >"$work/altered/builder-hex0/builder-hex0-x86-stage1.hex0"
	made qemu "$work/altered" "$work/reset" || return 1
	runs "$work/reset"
	judged "$work/reset" 14 failed "The bootstrap failed: the guest reset itself before"
}

# ended_by SIGNAL WHO TARGET: the same media, and a signal as soon as stage0-posix runs.
ended_by() {
	rm -rf "$3"
	made qemu "$tree" "$3" || return 1
	"$seedstrap" run "$3" --accel tcg >"$work/run.out" 2>"$work/run.err" </dev/null &
	child=$!
	seconds=0
	until grep -qa '^ +> ' "$3/.seedstrap/runs/1.log" 2>/dev/null; do
		sleep 1
		seconds=$((seconds + 1))
		[ "$seconds" -lt 600 ] || return 1
	done
	if [ "$2" = run ]; then kill -s "$1" "$child"; else pkill -"$1" -f "file=$3/init.img"; fi
	code=0
	wait "$child" || code=$?
	child=""
	! pgrep -f "file=$3/init.img"
}
interrupted() {
	ended_by TERM run "$work/ended" && judged "$work/ended" 130 interrupted "is as it was built: run it again"
}
qemu_dies() {
	ended_by KILL qemu "$work/died" && judged "$work/died" 17 failed "The bootstrap failed in stage0-posix"
}

# A checksum of upstream's that what was built does not have.
answer_differs() { # chroot|bwrap
	altered
	answers=$work/altered/seed/stage0-posix/x86.answers
	sed '1s/^................/0000000000000000/' "$answers" >"$work/answers"
	cat "$work/answers" >"$answers"
	made "$1" "$work/altered" "$work/answer" && fails_in 13 stage0-posix "" "$work/answer" "--$1"
}
# The real stage0-posix, and the first step whose distfile is not the real one.
distfile_fails() { # chroot|bwrap STEP
	rm -rf "$work/root"
	made "$1" "$tree" "$work/root" && fails_in 12 "$2 pass 1" "" "$work/root" "--$1"
}

# shows WHAT COMMAND...
shows() {
	what=$1
	shift
	if "$@"; then pass "$what"; else fail "$what"; fi
}
if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
	skip "runs under QEMU" "there is no qemu-system-x86_64 here"
else
	shows "a program that fails in builder-hex0 ends the run with 12, and names stage0-posix" \
		stage0_fails
	shows "a machine that only resets ends the run with 14" boot_resets
	shows "a QEMU that is killed is a failure in the step that it was in, and leaves no process" \
		qemu_dies
	shows "a run that is ended from outside is interrupted (130), says what the disk is" interrupted
fi
step=mes-0.27.1
[ -z "$real" ] || step=make-3.82
if [ "$(id -u)" -ne 0 ]; then
	skip "failing steps in chroot" "only root may start it"
else
	shows "a checksum that differs ends a chroot with 13, and names stage0-posix" \
		answer_differs chroot
	shows "a distfile that cannot be unpacked ends a chroot with 12, and names $step" \
		distfile_fails chroot "$step"
fi
if ! command -v bwrap >/dev/null 2>&1; then
	skip "failing steps in bwrap" "there is no bwrap here"
else
	shows "a distfile that cannot be unpacked ends a bwrap with 12, and names $step" \
		distfile_fails bwrap "$step"
fi
[ -n "$real" ] || skip "a bootstrap as far as make-3.82" "it needs distfiles of its steps (--real DIR)"
