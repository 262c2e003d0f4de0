#!/bin/sh
# Sign the checksums of a release: sign.sh KEY [DIRECTORY]. KEY is a private key of OpenSSH, also one in an agent or a
# token, whose public key is in allowed_signers. It writes SHA256SUMS.sig beside SHA256SUMS, after a look at every file.
set -eu
key=${1:?usage: sign.sh KEY [DIRECTORY]} dir=${2:-dist}
signers=${SIGNERS:-$(dirname "$0")/allowed_signers}
[ -s "$dir/SHA256SUMS" ] || {
	echo "sign: $dir/SHA256SUMS is missing: run make dist first" >&2
	exit 1
}
(cd "$dir" && sha256sum --quiet --check --strict SHA256SUMS)
rm -f "$dir/SHA256SUMS.sig"
ssh-keygen -q -Y sign -n acmed -f "$key" "$dir/SHA256SUMS"
if ! ssh-keygen -q -Y verify -n acmed -I acmed-releases -f "$signers" -s "$dir/SHA256SUMS.sig" <"$dir/SHA256SUMS"; then
	rm -f "$dir/SHA256SUMS.sig"
	echo "sign: the public key of $key is not in $signers, so nobody could verify the signature; none is kept" >&2
	exit 1
fi
echo "sign: $dir/SHA256SUMS.sig"
