#!/bin/sh
# The folder that the image is built from: context.sh PROGRAMS FOLDER ARCH puts the root of one architecture into FOLDER.
set -eu
umask 022
root=$2/$3
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/tmp" "$2/state"
cp "$1"/* "$root/usr/bin/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo acmed:x:65532:65532::/var/lib/acmed:/sbin/nologin >"$root/etc/passwd"
echo acmed:x:65532: >"$root/etc/group"
chmod 1777 "$root/tmp"
