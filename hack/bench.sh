#!/usr/bin/env bash
# Runs benchmarks and sums them up, beside an older result if there is one, and
# then measures the figures that the product is held to. Some seven minutes; the
# machine should have nothing else to do.
#   hack/bench.sh REGEXP COUNT [OLDER.txt]
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p bin
# Packages without a benchmark would be built for nothing. Those under
# test/cluster are another module's.
packages=$(git grep -l '^func Benchmark' -- '*_test.go' ':!test/cluster' | xargs -n1 dirname | sort -u | sed 's|^|./|')
# shellcheck disable=SC2086 # one word each
go test -run '^$' -bench "$1" -benchmem -count "$2" ${packages} | tee bin/bench.txt
go tool -modfile=tools/benchstat/go.mod benchstat "${@:3}" bin/bench.txt

# The figures, one a line, come at the very end. Those of automatic mode have budgets,
# which are told as an error where one is beyond its own.
go build -o bin/fleet ./test/bench
failed=0
{
    beyond=0
    go test ./internal/scrape -run '^TestFigures$' -figures -v -count=1 || beyond=1
    # Thresholds by themselves, and as annotations have them: with what the guard
    # learns from.
    bin/fleet -guarded=false || beyond=1
    bin/fleet -guarded -held -pods 2000,10000 -alone 45s | sed -E 's/^figure ([a-z0-9_]+) /figure \1_guarded /' || beyond=1
    exit "${beyond}"
} | tee bin/figures.txt | grep --line-buffered -v '^figure ' || failed=$?
grep '^figure ' bin/figures.txt
exit "${failed}"
