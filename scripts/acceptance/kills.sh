# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# Kills builds and checks what they leave.

echo
echo "== kill -9 at $kills moments"
# A target may contain the images of one build (A) or of another (B), all of them complete.
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
# The moments cover a whole run: a random one in each of its N parts.
moment() { # N: in seconds
	random=$(od -An -N2 -tu2 /dev/urandom)
	awk -v n="$1" -v of="$kills" -v span="$span" -v random="$random" \
		'BEGIN { printf "%.3f", (n + random / 65536) / of * span / 1000 }'
}
whole() { # whether every file under a final name is that of A or B
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
	# Every other time the target already has an earlier build.
	[ $((round % 2)) -eq 0 ] || cp -R "$work/B" "$work/T"
	delay=$(moment "$round")
	# Started without a shell between, so that the build itself is killed.
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
	if find "$work/T" -path '*/.seedstrap/parts*' -o -path '*/.seedstrap/scratch*' | grep -q .; then
		stuck=$((stuck + 1))
		echo "half-written files are left after the next run: $(left)"
	fi
	round=$((round + 1))
done
echo "$hits of $kills runs, of about $span ms each, were killed before their end"
if [ "$torn" -eq 0 ]; then
	pass "after kill -9 there is nothing but whole images under their final names"
else
	fail "after kill -9 there are only complete images under their final names ($torn times)"
fi
if [ "$stuck" -eq 0 ]; then
	pass "the next run succeeds, and clears away what was half-written"
else
	fail "the next run succeeds, and removes half-written files ($stuck times)"
fi
