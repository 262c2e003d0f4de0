#!/bin/sh
# Runs a command on a machine as few developers have it: a host name and a search domain with a wildcard below it, another
# language, a time zone with odd minutes, and a narrow umask. An open umask would also open the directories of the test binaries,
# which acmed refuses to run; TestModes of pkg/store has those. Needs root, for namespaces.
set -eu
if [ "${1:-}" != --inside ]; then
	exec unshare --uts --mount sh "$0" --inside "$@"
fi
shift
hostname web1.example.com
conf=$(mktemp)
trap 'rm -f "$conf"' EXIT
{ cat /etc/resolv.conf; echo 'search example.com'; } >"$conf"
chmod 644 "$conf"
mount --bind "$conf" /etc/resolv.conf
failed=0
for odd in "077 Asia/Kathmandu de_DE.UTF-8" "027 Pacific/Chatham tr_TR.UTF-8"; do
	set -- "$odd" "$@"
	umask "${odd%% *}"
	rest=${odd#* }
	shift
	echo "== umask ${odd%% *}, TZ=${rest% *}, LANG=${rest#* }"
	TZ=${rest% *} LANG=${rest#* } LC_ALL=${rest#* } "$@" || failed=1
done
exit "$failed"
