#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Tests seedstrap with a real live-bootstrap checkout and small synthetic distfiles:
#
#   - `seedstrap sources` prints what the checkout's source_manifest.py prints
#   - in every mode the media, bootstrap.cfg and the command that is started are those of the
#     checkout's rootfs.py, except for what seedstrap announces in its plan
#   - builds from two copies of the checkout with another file order, umask, time zone, locale and
#     user are identical
#   - every command that writes, killed or interrupted at random moments, leaves nothing torn and
#     nothing that the same command does not clear away, and then gives the same result
#   - the preflight boots that take too long for scripts/test.sh
#   - runs of the real stages that fail end with the exit code of that and name the step; with
#     --real a bootstrap in chroot gets as far as the first step after those of which DIR has the
#     distfiles
#   - runs of the real stages that are killed again and again go on from their checkpoints to the
#     same result; with --root ROOT, a root file system bootstrapped to the end of kexec-fiwix-1.0,
#     also through the jump to Fiwix
#   - one disk with boot image, payload and system becomes that under a Debian kernel, which runs
#     jump/move_disk.sh of the checkout
#
# The checkout is only read. Needs Python with `requests` for the first two. The last line is
# `N passed, N failed, N skipped`; fails if anything did.
#
# usage: acceptance.sh [--mib N] [--kills N] [--signals N] [--real DIR] [--root ROOT] [--only PART] CHECKOUT
#
# The parts are python, copies, kills, boots, outcomes, resume and disk. The kills are of each command.

# shellcheck disable=SC2034 # the parts use these variables
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)

parts="python copies kills boots outcomes resume disk"
usage() {
	echo "usage: acceptance.sh [--mib N] [--kills N] [--signals N] [--real DIR] [--root ROOT] [--only PART] CHECKOUT" >&2
	echo "parts: $parts" >&2
	exit 2
}
mib=60
kills=10
signals=3
real=""
root=""
while [ $# -gt 1 ]; do
	case $1 in
		--mib) mib=$2 ;;
		--kills) kills=$2 ;;
		--real) real=$(cd "$2" && pwd) ;;
		--root) root=$(cd "$2" && pwd) ;;
		--signals) signals=$2 ;;
		--only)
			case $2 in python | copies | kills | boots | outcomes | resume | disk) parts=$2 ;; *) usage ;; esac
			;;
		*) usage ;;
	esac
	shift 2
done
[ $# -eq 1 ] || usage
if [ ! -f "$1/rootfs.py" ]; then
	echo "acceptance: $1 is not a checkout: it has no rootfs.py" >&2
	exit 2
fi
checkout=$(cd "$1" && pwd)

sh "$home/scripts/setup.sh" acceptance
sh "$home/scripts/build.sh"

umask 022
work=$(mktemp -d)
# Another kind of file system lists a directory in another order.
other=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
chmod 755 "$work" "$other"
trap 'rm -rf "$work" "$other"' EXIT
trap 'exit 1' HUP INT TERM
export NO_COLOR=1 XDG_CACHE_HOME="$work/cache" XDG_STATE_HOME="$work/state"
# A copy, so that a new build of the binary meanwhile does not matter.
cp "$home/dist/seedstrap" "$work/seedstrap"
seedstrap=$work/seedstrap

# shellcheck source=scripts/count.sh
. "$home/scripts/count.sh"
# run WHAT COMMAND...: runs it, and shows its output if it fails.
run() {
	what=$1
	shift
	"$@" >"$work/log" 2>&1 </dev/null && return 0
	echo "$what failed:"
	sed 's/^/    /' "$work/log"
	return 1
}
build() { # TREE TARGET OPTION...
	build_tree=$1
	build_target=$2
	shift 2
	"$seedstrap" build --bare-metal --external-sources -m "$mirror" --tree "$build_tree" \
		--distfiles "$build_target.store" -t "$build_target" "$@"
}

run "making synthetic inputs" "$home/node_modules/.bin/bun" "$home/scripts/bench/synthetic.ts" \
	"$checkout" "$work/inputs" "$mib" ${real:+"$real"}
tree=$work/inputs/tree
mirror=file://$work/inputs/mirror
cat "$work/log"

for part in $parts; do
	# shellcheck source=/dev/null # each part is checked on its own
	. "$home/scripts/acceptance/$part.sh"
done

echo
finish
