#!/usr/bin/env bash
# Runs every fuzz target for a while, one after the other: go test takes only
# one at a time.
#   hack/fuzz.sh TIME
set -euo pipefail
cd "$(dirname "$0")/.."

# Found in the source, because go test -list would compile every package first.
# Grep's 1 is "none".
targets=$(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' cmd internal || [ $? -eq 1 ])
while IFS=: read -r file target; do
    [ -n "${file}" ] || continue
    target=${target#func }
    echo "== ${file%/*} ${target} for $1"
    # Minimising an input of some kilobytes would take the whole time.
    go test -run '^$' -fuzz "^${target}\$" -fuzztime "$1" -fuzzminimizetime 10x "./${file%/*}"
done <<<"${targets}"
