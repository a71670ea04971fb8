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

# The figures, one a line, come at the very end.
go build -o bin/fleet ./test/bench
{
    go test ./internal/scrape -run '^TestFigures$' -figures -v -count=1
    # Thresholds by themselves, and as annotations have them: with what the guard
    # learns from.
    bin/fleet -guarded=false
    bin/fleet -guarded -pods 2000,10000 -alone 45s | sed -E 's/^figure ([a-z0-9_]+) /figure \1_guarded /'
} | tee bin/figures.txt | grep --line-buffered -v '^figure '
grep '^figure ' bin/figures.txt
