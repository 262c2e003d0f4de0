#!/usr/bin/env bash
# The main job end to end, on loopback: a private CA, a real nginx, the daemon. Everything lives in one temporary
# directory and ends with the script, however it ends.
#
#	demo.sh ACMED TESTCA
set -euo pipefail
acmed=$(realpath "$1") testca=$(realpath "$2")
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/acmed-demo.XXXXXX")
chmod 755 "$work"
children=()

cleanup() {
	status=$?
	trap - EXIT
	[ "${#children[@]}" -gt 0 ] && kill "${children[@]}" 2>/dev/null
	[ -s "$work/nginx/nginx.pid" ] && kill "$(cat "$work/nginx/nginx.pid")" 2>/dev/null
	wait 2>/dev/null || true
	if [ "$status" -ne 0 ]; then
		echo "demo failed (exit $status); the daemon's log:" >&2
		tail -n 30 "$work/acmed.log" >&2 2>/dev/null || true
	fi
	rm -rf "$work"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

# until_true SECONDS COMMAND...: tries until the command succeeds.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || { echo "gave up waiting for: $*" >&2; return 1; }
		sleep 0.1
	done
}

# free_port: a port nobody listens on.
free_port() {
	local port
	while port=$((RANDOM % 20000 + 20000)); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
	done
}

ca=$(free_port) http01=$(free_port) plain=$(free_port) tls=$(free_port)
names=(demo.test www.demo.test)

say "a certificate authority that speaks ACME, on 127.0.0.1:$ca"
"$testca" -listen "127.0.0.1:$ca" -http-port "$http01" -root "$work/ca.pem" -issuing-root "$work/issuing-root.pem" >"$work/ca.out" 2>"$work/ca.log" &
children+=($!)
until_true 20 grep -q https "$work/ca.out"
directory=$(grep -m1 -o 'https://.*' "$work/ca.out")
echo "$directory"

say "an ordinary nginx: plain HTTP for ${names[*]}, no TLS at all"
mkdir "$work/nginx" "$work/state" "$work/run"
chmod 750 "$work/state"
cat >"$work/nginx/nginx.conf" <<EOF
worker_processes 2;
pid $work/nginx/nginx.pid;
error_log $work/nginx/error.log;
events {}
http {
	access_log off;
	server {
		listen 127.0.0.1:$plain;
		server_name ${names[*]};
		location / { return 200 "hello from \$host over \$scheme\n"; }
	}
}
EOF
nginx -p "$work/nginx" -c "$work/nginx/nginx.conf" -e "$work/nginx/error.log" 2>/dev/null
curl -s --resolve "${names[0]}:$plain:127.0.0.1" "http://${names[0]}:$plain/"

say "the configuration of acmed"
cat >"$work/acmed.yaml" <<EOF
email: ops@demo.test
state_dir: $work/state
socket: $work/run/acmed.sock
issuers:
  - { name: demo-ca, directory: "$directory", ca_file: $work/ca.pem, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:$http01" } }
defaults: { issuers: [demo-ca], solvers: [standalone] }
certificates:
  - name: demo
    names: [${names[0]}, ${names[1]}]
    install:
      - nginx: { config: $work/nginx/nginx.conf, prefix: $work/nginx, pid_file: $work/nginx/nginx.pid, listen: $tls }
EOF
cat "$work/acmed.yaml"
"$acmed" -c "$work/acmed.yaml" check

say "the daemon starts: it obtains, installs and verifies"
"$acmed" -c "$work/acmed.yaml" run 2>"$work/acmed.log" &
children+=($!)
until_true 30 "$acmed" -c "$work/acmed.yaml" status
cat "$work/acmed.log"
echo "--- what changed in nginx.conf:"
grep -n 'ssl' "$work/nginx/nginx.conf"

say "the proof: curl trusts it"
fetch() { curl -sS --fail --max-time 5 --cacert "$work/issuing-root.pem" --resolve "$1:$tls:127.0.0.1" "https://$1:$tls/"; }
for name in "${names[@]}"; do fetch "$name"; done
serial() {
	openssl s_client -connect "127.0.0.1:$tls" -servername "${names[0]}" </dev/null 2>/dev/null | openssl x509 -noout -serial
}
before=$(serial)

say "a forced renewal while clients keep asking"
load() {
	local ok=0 failed=0
	while [ ! -e "$work/enough" ]; do
		if fetch "${names[0]}" >/dev/null 2>>"$work/load.log"; then ok=$((ok + 1)); else failed=$((failed + 1)); fi
	done
	echo "$ok $failed" >"$work/load.$1"
}
for i in 1 2 3; do load "$i" & loads[i]=$!; done
sleep 0.5
"$acmed" -c "$work/acmed.yaml" renew --force demo
sleep 0.5
touch "$work/enough"
wait "${loads[@]}"
after=$(serial)
read -r ok failed < <(cat "$work"/load.? | awk '{ ok += $1; failed += $2 } END { print ok, failed }')
echo "before: $before"
echo "after:  $after"
echo "requests meanwhile: $ok answered, $failed failed"
[ "$before" != "$after" ] || { echo "the served certificate did not change" >&2; exit 1; }
[ "$failed" = 0 ] && [ "$ok" -gt 0 ] || { cat "$work/load.log" >&2; exit 1; }

say "acmed status"
"$acmed" -c "$work/acmed.yaml" status

say "done; everything that was started is stopped now"
