#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Compares `seedstrap serve` with nginx on the same files, in alternating rounds: many small answers,
# a large file, and small answers while a thousand connections are idle and one client reads slowly.
# Needs nginx and wrk. Prints requests and bytes a second, and peak memory of the servers.
#
# usage: serve.sh [--rounds N] [--seconds N]

set -eu
home=$(cd "$(dirname "$0")/../.." && pwd)
rounds=3
seconds=5
while [ $# -gt 0 ]; do
	case $1 in
		--rounds) rounds=$2 ;;
		--seconds) seconds=$2 ;;
		*)
			echo "usage: serve.sh [--rounds N] [--seconds N]" >&2
			exit 2
			;;
	esac
	shift 2
done
PATH=$PATH:/usr/sbin
for program in nginx wrk; do
	command -v "$program" >/dev/null 2>&1 || {
		echo "serve.sh: $program is not installed" >&2
		exit 1
	}
done
[ -x "$home/dist/seedstrap" ] || sh "$home/scripts/build.sh"

work=$(mktemp -d)
ours=""
idle=""
cleanup() {
	[ -z "$ours" ] || kill "$ours" 2>/dev/null || true
	[ -z "$idle" ] || kill "$idle" 2>/dev/null || true
	[ ! -f "$work/nginx.pid" ] || kill "$(cat "$work/nginx.pid")" 2>/dev/null || true
	sleep 1
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

mkdir "$work/mirror"
head -c 1024 /dev/urandom >"$work/mirror/small"
head -c 67108864 /dev/urandom >"$work/mirror/large"
chmod -R a+rX "$work"
cat >"$work/nginx.conf" <<END
user root;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/nginx.log;
events { worker_connections 4096; }
http {
	access_log $work/access.log;
	sendfile on;
	server { listen 127.0.0.1:8362; root $work/mirror; }
}
END
nginx -c "$work/nginx.conf" -p "$work"
"$home/dist/seedstrap" serve "$work/mirror" --listen 127.0.0.1:8361 --log "$work/our.log" 2>/dev/null &
ours=$!
sleep 1

# measure PORT PATH CONNECTIONS: requests and megabytes a second.
measure() {
	wrk -t 2 -c "$3" -d "${seconds}s" "http://127.0.0.1:$1/$2" | awk '
		/^Requests\/sec/ { requests = $2 }
		/^Transfer\/sec/ { bytes = $2 }
		/Socket errors|Non-2xx/ { errors = " " $0 }
		END { printf "%s requests/s, %s/s%s", requests, bytes, errors }'
}
peak() { awk '/^VmHWM/ { print int($2 / 1024) " MiB" }' "/proc/$1/status"; }

for what in "small 50" "large 4"; do
	# shellcheck disable=SC2086 # two words
	set -- $what
	round=0
	while [ "$round" -lt "$rounds" ]; do
		round=$((round + 1))
		echo "$1: seedstrap $(measure 8361 "$1" "$2")"
		echo "$1: nginx     $(measure 8362 "$1" "$2")"
	done
done
"$home/node_modules/.bin/bun" -e '
	const { connect } = require("node:net");
	for (const port of [8361, 8362]) {
		for (let n = 0; n < 1000; n++) connect(port, "127.0.0.1").on("error", () => {});
		const slow = connect(port, "127.0.0.1", () =>
			slow.write("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
		slow.pause();
		slow.on("error", () => {});
	}
	setTimeout(() => {}, 1e6);
' &
idle=$!
sleep 2
echo "small, 1,000 idle connections and a slow client: seedstrap $(measure 8361 small 50)"
echo "small, 1,000 idle connections and a slow client: nginx     $(measure 8362 small 50)"
echo "peak memory: seedstrap $(peak "$ours"), nginx's worker $(peak "$(pgrep -P "$(cat "$work/nginx.pid")" | head -1)")"
