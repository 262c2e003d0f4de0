#!/bin/sh
# Installs the Debian packages whose commands are missing. Arguments are command:package.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=
for need; do
	command=${need%%:*} package=${need#*:}
	case $package in
	*-dev|lib*|python3-*) dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package" ;;
	*) command -v "$command" >/dev/null 2>&1 || missing="$missing $package" ;;
	esac
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
	echo "these packages are needed; install them or run as root:$missing" >&2
	exit 1
fi
echo "installing:$missing"
# No service may start by itself: the tests run their own, on loopback.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # the list is meant to be split
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
