#!/bin/sh
# Runs every step, also after one that failed, and ends with a line for each. Arguments are the steps, as "NAME: COMMAND".
set -u
summary=
failed=0
for step; do
	name=${step%%: *}
	echo "== $name"
	if sh -c "${step#*: }"; then
		summary="$summary
ok      $name"
	else
		failed=$((failed + 1))
		summary="$summary
FAILED  $name"
	fi
done
echo "== $# steps, $failed failed$summary"
[ "$failed" -eq 0 ]
