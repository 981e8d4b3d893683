# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# Compares seedstrap with the Python tools of the checkout.

echo
echo "== Compared with the Python tools of the checkout"
python=""
for candidate in python3 /usr/bin/python3; do
	if [ -z "$python" ] && "$candidate" -c "import requests" 2>/dev/null; then
		python=$candidate
	fi
done

compare_sources() {
	(cd "$checkout" && PYTHONDONTWRITEBYTECODE=1 "$python" source_manifest.py) \
		>"$work/sources.theirs" || return 1
	"$seedstrap" sources --tree "$checkout" >"$work/sources.ours" || return 1
	echo "$(wc -l <"$work/sources.theirs") sources"
	cmp "$work/sources.theirs" "$work/sources.ours"
}

sources="seedstrap sources prints what source_manifest.py prints"
modes="every mode prepares and starts what rootfs.py does"
if [ -z "$python" ]; then
	skip "$sources" "there is no Python with requests here"
	skip "$modes" "there is no Python with requests here"
else
	if compare_sources; then
		pass "$sources"
	else
		fail "$sources"
	fi
	"$home/node_modules/.bin/bun" "$home/scripts/acceptance/modes.ts" \
		"$seedstrap" "$python" "$work/inputs" "$work/modes" | tee "$work/modes.log" || true
	# Each case counts as passed, failed or skipped.
	counts=$(tail -n 1 "$work/modes.log")
	case $counts in
		*" passed, "*" failed, "*" skipped")
			passed=$((passed + ${counts%% passed*}))
			counts=${counts#* passed, }
			failed=$((failed + ${counts%% failed*}))
			counts=${counts#* failed, }
			skipped=$((skipped + ${counts% skipped}))
			;;
		*) fail "$modes: it did not finish" ;;
	esac
fi
