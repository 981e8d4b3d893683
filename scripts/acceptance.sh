#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Holds seedstrap against a real live-bootstrap checkout, with synthetic distfiles of small size:
#
#   - `seedstrap sources` prints what the checkout's source_manifest.py prints
#   - the boot image holds what the image of the checkout's rootfs.py holds, but for what
#     seedstrap announces: bootstrap.cfg and its overlay
#   - builds from two copies of the checkout in another file order, under another umask, time
#     zone, locale and user, are identical
#   - kill -9 at random moments leaves nothing but whole images under their final names, and the
#     next run succeeds
#   - the preflight boots that take too long for scripts/test.sh
#
# The checkout is only read. Needs Python with `requests` for the first two. The last line is
# `N passed, N failed, N skipped`; fails if anything did.
#
# usage: acceptance.sh [--mib N] [--kills N] CHECKOUT

set -eu
home=$(cd "$(dirname "$0")/.." && pwd)

usage() {
	echo "usage: acceptance.sh [--mib N] [--kills N] CHECKOUT" >&2
	exit 2
}
mib=60
kills=20
while [ $# -gt 1 ]; do
	case $1 in
		--mib) mib=$2 ;;
		--kills) kills=$2 ;;
		*) usage ;;
	esac
	shift 2
done
[ $# -eq 1 ] || usage
if [ ! -f "$1/rootfs.py" ]; then
	echo "acceptance: $1 is no checkout: it has no rootfs.py" >&2
	exit 2
fi
checkout=$(cd "$1" && pwd)

sh "$home/scripts/setup.sh" acceptance
sh "$home/scripts/build.sh"

umask 022
work=$(mktemp -d)
# A file system of another kind lists a directory in another order.
other=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
chmod 755 "$work" "$other"
child=""
cleanup() {
	[ -z "$child" ] || kill -9 "$child" 2>/dev/null || true
	rm -rf "$work" "$other"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
export NO_COLOR=1 XDG_CACHE_HOME="$work/cache"
# A build that is made meanwhile does not change what is looked at.
cp "$home/dist/seedstrap" "$work/seedstrap"
seedstrap=$work/seedstrap

passed=0
failed=0
skipped=0
pass() {
	passed=$((passed + 1))
	echo "PASS  $1"
}
fail() {
	failed=$((failed + 1))
	echo "FAIL  $1"
}
skip() {
	skipped=$((skipped + 1))
	echo "skipped: $1: $2"
}
# run WHAT COMMAND...: what it prints is shown if it fails.
run() {
	what=$1
	shift
	"$@" >"$work/log" 2>&1 </dev/null && return 0
	echo "$what failed:"
	sed 's/^/    /' "$work/log"
	return 1
}
differ() { # shows how two files differ
	diff "$1" "$2" | head -n 20 | sed 's/^/    /'
}

run "making synthetic inputs" "$home/node_modules/.bin/bun" "$home/scripts/bench/synthetic.ts" \
	"$checkout" "$work/inputs" "$mib"
tree=$work/inputs/tree
mirror=file://$work/inputs/mirror
cat "$work/log"

echo
echo "== Against the checkout's own Python"
python=""
for candidate in python3 /usr/bin/python3; do
	if [ -z "$python" ] && "$candidate" -c "import requests" 2>/dev/null; then
		python=$candidate
	fi
done

# Lines "command TEXT" in their order, then "SIZE SHA-256 PATH" sorted.
entries() {
	"$seedstrap" image ls --long "$1" >"$work/entries" || return 1
	sed -n 's/^ *command  //p' "$work/entries" | sed 's/^/command /'
	sed -n 's/^ *\([0-9]\{1,\}\)  *[0-9]\{1,\}  \([-0-9a-f]\{64\}\)  /\1 \2 /p' "$work/entries" |
		LC_ALL=C sort -k 3
}

compare_sources() {
	(cd "$checkout" && PYTHONDONTWRITEBYTECODE=1 "$python" source_manifest.py) \
		>"$work/sources.theirs" || return 1
	"$seedstrap" sources --tree "$checkout" >"$work/sources.ours" || return 1
	echo "$(wc -l <"$work/sources.theirs") sources"
	cmp "$work/sources.theirs" "$work/sources.ours"
}

compare_images() {
	# rootfs.py writes into its checkout.
	cp -R "$tree" "$work/copy"
	(cd "$work/copy" && run rootfs.py "$python" rootfs.py --bare-metal -m "$mirror" \
		-t "$work/theirs") || return 1
	run "seedstrap build" "$seedstrap" build --bare-metal -m "$mirror" --tree "$tree" \
		-t "$work/ours" || return 1
	"$seedstrap" plan --bare-metal -m "$mirror" --tree "$tree" --json >"$work/plan" || return 1
	node -e 'const { overlay } = JSON.parse(require("fs").readFileSync(process.argv[1]));
		const paths = overlay.files.map((file) => file.path ?? file);
		if (overlay.manifestLines.length > 0) paths.push("steps/manifest");
		for (const path of new Set(paths)) console.log(path.replace(/^\.\//, ""));' \
		"$work/plan" >"$work/announced" || return 1
	entries "$work/theirs/init.img" >"$work/entries.theirs" || return 1
	entries "$work/ours/init.img" >"$work/entries.ours" || return 1
	echo "$(wc -l <"$work/entries.theirs") entries and commands in the image of rootfs.py," \
		"$(wc -l <"$work/entries.ours") in that of seedstrap"
	[ -s "$work/entries.theirs" ] || return 1
	echo "announced: $(tr '\n' ' ' <"$work/announced")"
	for side in theirs ours; do
		# A path stands behind its size and digest, as it is in the image: with "./" before it.
		awk 'NR == FNR { announced["./" $0]; next }
			$1 == "command" || !(substr($0, length($1 " " $2 " ") + 1) in announced)' \
			"$work/announced" "$work/entries.$side" >"$work/compared.$side"
	done
	echo "$(wc -l <"$work/compared.theirs") compared"
	cmp -s "$work/compared.theirs" "$work/compared.ours" && return 0
	differ "$work/compared.theirs" "$work/compared.ours"
	return 1
}

compare_config() {
	for side in theirs ours; do
		"$seedstrap" image cat "$work/$side/init.img" ./steps/bootstrap.cfg \
			>"$work/config.$side" || return 1
	done
	echo "bootstrap.cfg of rootfs.py (<) and seedstrap (>):"
	differ "$work/config.theirs" "$work/config.ours"
	for side in theirs ours; do
		grep -vE '^(MIRRORS|MIRRORS_LEN|PAYLOAD_REQUIRED)=' "$work/config.$side" \
			>"$work/config.$side.rest" || return 1
	done
	cmp "$work/config.theirs.rest" "$work/config.ours.rest"
}

against() { # NAME FUNCTION
	if [ -z "$python" ]; then
		skip "$1" "there is no Python with requests here"
	elif "$2"; then
		pass "$1"
	else
		fail "$1"
	fi
}
against "seedstrap sources prints what source_manifest.py prints" compare_sources
against "the boot image has the entries of that of rootfs.py, but for what is announced" \
	compare_images
against "bootstrap.cfg differs only in MIRRORS, MIRRORS_LEN and PAYLOAD_REQUIRED" compare_config

echo
echo "== Two copies of the checkout"
build() { # TREE TARGET OPTION...
	build_tree=$1
	build_target=$2
	shift 2
	"$seedstrap" build --bare-metal --external-sources -m "$mirror" --tree "$build_tree" \
		--distfiles "$build_target.store" -t "$build_target" "$@"
}
(cd "$tree" && find . ! -type d | LC_ALL=C sort) >"$work/files"
mkdir "$work/first" "$other/tree"
tar -C "$tree" -cf - -T "$work/files" | tar -C "$work/first" -xf -
LC_ALL=C sort -r "$work/files" >"$work/reversed"
tar -C "$tree" -cf - -T "$work/reversed" | tar -C "$other/tree" -xf -
(cd "$work/first/steps" && find .) >"$work/order.first"
(cd "$other/tree/steps" && find .) >"$work/order.second"
if cmp -s "$work/order.first" "$work/order.second"; then
	echo "note: this file system lists both copies in the same order"
else
	echo "the copies list their files in different orders"
fi
two_copies() {
	run "the first build" build "$work/first" "$work/one" || return 1
	set -- env TZ=Pacific/Chatham LC_ALL=tr_TR.UTF-8 HOME=/nonexistent \
		sh -c 'umask 077 && exec "$@"' sh "$seedstrap" build --bare-metal --external-sources \
		-m "$mirror" --tree "$other/tree" --distfiles "$other/store" -t "$other/two"
	if [ "$(id -u)" -eq 0 ]; then
		chown -R 65534:65534 "$other"
		set -- setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
	else
		echo "note: not root, so both are built by the same user"
	fi
	cd /
	run "the second build" "$@" || return 1
	for image in init.img payload.img; do
		sha256sum "$work/one/$image" "$other/two/$image" | cut -c 1-64 | sed "s/\$/  $image/"
		cmp "$work/one/$image" "$other/two/$image" || return 1
	done
}
if two_copies; then
	pass "builds from two copies are identical"
else
	fail "builds from two copies are identical"
fi

echo
echo "== kill -9 at $kills moments"
# What may lie in a target: the images of one build (A) or of another (B), each of them whole.
run "build A" build "$tree" "$work/A" --cores 2
run "build B" build "$tree" "$work/B" --cores 3
if cmp -s "$work/A/init.img" "$work/B/init.img"; then
	fail "two builds with different options differ"
fi
now() { date +%s%N; }
began=$(now)
rm -rf "$work/T"
run "a timed build" build "$tree" "$work/T" --cores 2
span=$((($(now) - began) / 1000000))
# The moments cover a whole run: one at random in each of its N parts.
moment() { # N: in seconds
	random=$(od -An -N2 -tu2 /dev/urandom)
	awk -v n="$1" -v of="$kills" -v span="$span" -v random="$random" \
		'BEGIN { printf "%.3f", (n + random / 65536) / of * span / 1000 }'
}
whole() { # every file under a final name is that of A or B
	for image in init.img payload.img sbom.cdx.json seedstrap.json; do
		[ ! -e "$work/T/$image" ] || cmp -s "$work/T/$image" "$work/A/$image" ||
			cmp -s "$work/T/$image" "$work/B/$image" || return 1
	done
}
left() { (cd "$work/T" && find . -type f) 2>/dev/null | tr '\n' ' '; }
torn=0
stuck=0
hits=0
round=0
while [ "$round" -lt "$kills" ]; do
	rm -rf "$work/T"
	# Every other time the target holds an earlier build already.
	[ $((round % 2)) -eq 0 ] || cp -R "$work/B" "$work/T"
	delay=$(moment "$round")
	# Started without a shell between, so that it is the build that is killed.
	"$seedstrap" build --bare-metal --external-sources -m "$mirror" --tree "$tree" \
		--distfiles "$work/T.store" -t "$work/T" --cores 2 >/dev/null 2>&1 </dev/null &
	child=$!
	sleep "$delay"
	kill -9 "$child" 2>/dev/null || true
	status=0
	wait "$child" 2>/dev/null || status=$?
	[ "$status" -ne 137 ] || hits=$((hits + 1))
	child=""
	if ! whole; then
		torn=$((torn + 1))
		echo "killed after $delay s, left: $(left)"
	fi
	if ! run "the next run" build "$tree" "$work/T" --cores 2 ||
		! cmp "$work/T/init.img" "$work/A/init.img" ||
		! cmp "$work/T/payload.img" "$work/A/payload.img"; then
		stuck=$((stuck + 1))
	fi
	if find "$work/T" -name '*.part' | grep -q .; then
		stuck=$((stuck + 1))
		echo "half-written files are left after the next run: $(left)"
	fi
	round=$((round + 1))
done
echo "$hits of $kills runs, of about $span ms each, were killed before their end"
if [ "$torn" -eq 0 ]; then
	pass "after kill -9 there is nothing but whole images under their final names"
else
	fail "after kill -9 there is nothing but whole images under their final names ($torn times)"
fi
if [ "$stuck" -eq 0 ]; then
	pass "the next run succeeds, and clears away what was half-written"
else
	fail "the next run succeeds, and clears away what was half-written ($stuck times)"
fi

echo
echo "== Slow boots of the preflight program"
if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
	skip "the slow boots of the preflight program" "there is no qemu-system-x86_64 here"
elif (cd "$home" && SEEDSTRAP_ACCEPTANCE=1 node_modules/.bin/bun test --timeout 120000 \
	tests/preflight/verdict.test.ts) >"$work/boots" 2>&1; then
	grep -E '^ *[0-9]+ (pass|fail|skip)' "$work/boots"
	pass "the preflight program says what is right of every machine"
else
	grep -E '^\(fail\)|^error' "$work/boots" || tail -n 5 "$work/boots"
	fail "the preflight program says what is right of every machine"
fi

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
