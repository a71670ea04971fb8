#!/bin/sh
# The Helm chart: its renders with each test/chart/*/values.yaml, its README.
#   hack/chart.sh render         writes render.yaml beside the values, and the defaults that templates read
#   hack/chart.sh readme         writes the README of its values
#   hack/chart.sh verify         lints the chart and compares with what is there
#   hack/chart.sh package INTO   writes its tarball and a repository's index
set -eu
cd "$(dirname "$0")/.."

chart=charts/keda-kaito-scaler
helm="go tool -modfile=tools/helm/go.mod helm"

# render FOLDER; one with a Chart.yaml is a chart around this one
render() {
    if [ ! -f "$1/Chart.yaml" ]; then
        ${helm} template keda-kaito-scaler ${chart} --namespace keda --values "$1/values.yaml"
        return
    fi
    around=$(mktemp -d)
    mkdir "${around}/charts"
    cp "$1/Chart.yaml" "$1/values.yaml" "${around}"
    cp -r ${chart} "${around}/charts"
    ${helm} template production-stack "${around}" --namespace kaito-workspace
    rm -r "${around}"
}

# defaults FILE: values.yaml without comments; a template can't read that itself
defaults() {
    grep -v '^ *\(#\|$\)' ${chart}/values.yaml >"$1"
}

# readme FILE
readme() {
    go tool -modfile=tools/helmdocs/go.mod helm-docs --chart-search-root charts --sort-values-order file \
        --log-level warning --dry-run >"$1"
}

# same GOLDEN FRESH
same() {
    if ! diff -u "$1" "$2"; then
        echo "$1 is not what the chart gives: see whether that is right, then run make generate" >&2
        exit 1
    fi
    echo "$1 is up to date"
}

case ${1:-} in
render)
    defaults ${chart}/files/defaults.yaml
    for values in test/chart/*/values.yaml; do
        render "${values%/*}" >"${values%/*}/render.yaml"
    done
    ;;
readme)
    readme ${chart}/README.md
    ;;
verify)
    fresh=$(mktemp)
    trap 'rm -f "${fresh}"' EXIT
    defaults "${fresh}"
    same ${chart}/files/defaults.yaml "${fresh}"
    for values in test/chart/*/values.yaml; do
        [ -f "${values%/*}/Chart.yaml" ] || ${helm} lint --strict --quiet ${chart} --values "${values}"
        render "${values%/*}" >"${fresh}"
        same "${values%/*}/render.yaml" "${fresh}"
    done
    readme "${fresh}"
    same ${chart}/README.md "${fresh}"
    ;;
package)
    into=${2:?the folder to write to}
    mkdir -p "${into}"
    ${helm} package ${chart} --destination "${into}"
    ${helm} repo index "${into}"
    ;;
*)
    echo "usage: $0 render|readme|verify|package INTO" >&2
    exit 2
    ;;
esac
