#!/bin/sh
# Runs every fuzz target of the tree for the given time, one after the other, and ends with a line for each.
set -eu
time=${1:-60s}
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT
failed=0
for file in $(grep -rl --include='*_test.go' '^func Fuzz' pkg internal cmd | sort); do
	dir=./$(dirname "$file")
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file"); do
		echo "== $dir $target"
		result=ok
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 50x "$dir" || result=FAILED
		[ "$result" = ok ] || failed=$((failed + 1))
		echo "$result $dir $target" >>"$summary"
	done
done
echo "== $(grep -c . "$summary") targets, $time each, $failed failed"
cat "$summary"
[ "$failed" -eq 0 ]
