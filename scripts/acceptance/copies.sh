# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# shellcheck disable=SC2154 # acceptance.sh, which sources this, sets them
#
# Builds from two copies of the checkout.

echo
echo "== Two copies of the checkout"
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
