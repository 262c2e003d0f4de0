#!/bin/sh
# Puts a certificate on an appliance that takes it by an HTTP API: a NAS, a router, a load balancer of a cloud.
#
#   run:   [/usr/local/bin/appliance, https://nas.example.com/api, /etc/acmed/secrets/nas]
#   check: [/usr/local/bin/appliance, https://nas.example.com/api, /etc/acmed/secrets/nas]
#
# The second argument is a file with the header that authenticates, such as "Authorization: Bearer ...". A secret in a file
# is visible to no other user; one on a command line is.
set -eu
api=$1
header=$2

case $ACMED_EVENT in
install)
	status=$(curl -sS --max-time 60 -o /dev/null -w '%{http_code}' -H "@$header" \
		-F "certificate=@$ACMED_FULLCHAIN" -F "key=@$ACMED_KEY" "$api/certificate")
	case $status in
	2??) ;;
	429 | 503) exit 75 ;; # busy: call again later
	*) echo "the appliance answers $status" >&2; exit 1 ;;
	esac
	;;
check)
	serial=$(curl -fsS --max-time 60 -H "@$header" "$api/certificate/serial")
	[ "$serial" = "$ACMED_SERIAL" ] || { echo "the appliance has serial $serial" >&2; exit 1; }
	;;
esac
