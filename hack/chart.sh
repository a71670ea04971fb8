#!/bin/sh
# Renders the chart with each test/chart/*/values.yaml.
#   hack/chart.sh render   writes render.yaml beside the values
#   hack/chart.sh verify   lints the chart and compares with what is there
set -eu
cd "$(dirname "$0")/.."

chart=charts/keda-kaito-scaler
helm="go tool -modfile=tools/helm/go.mod helm"

render() {
    ${helm} template keda-kaito-scaler ${chart} --namespace keda --values "$1"
}

case ${1:-} in
render)
    for values in test/chart/*/values.yaml; do
        render "${values}" >"${values%/*}/render.yaml"
    done
    ;;
verify)
    fresh=$(mktemp)
    trap 'rm -f "${fresh}"' EXIT
    for values in test/chart/*/values.yaml; do
        ${helm} lint --strict --quiet ${chart} --values "${values}"
        render "${values}" >"${fresh}"
        golden=${values%/*}/render.yaml
        if ! diff -u "${golden}" "${fresh}"; then
            echo "${golden} is not what the chart renders: see whether that is right, then run make generate" >&2
            exit 1
        fi
        echo "${golden} is up to date"
    done
    ;;
*)
    echo "usage: $0 render|verify" >&2
    exit 2
    ;;
esac
