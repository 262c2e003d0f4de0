#!/bin/sh
# A deployment as operators write it: copies the live files to the directory in $1, all or nothing, and notes the call.
set -eu
if test -e "$1/broken"; then echo "cannot copy" >&2; exit 1; fi
if test -e "$1/busy"; then echo "another deployment runs" >&2; exit 75; fi
env | sort >"$1/env"
cp "$ACMED_FULLCHAIN" "$1/site/fullchain.new"
cp "$ACMED_KEY" "$1/site/key.new"
mv "$1/site/fullchain.new" "$1/site/fullchain.pem"
mv "$1/site/key.new" "$1/site/key.pem"
echo call >>"$1/calls"
