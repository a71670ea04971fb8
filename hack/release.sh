#!/usr/bin/env bash
# Makes a release: make release-dry-run and the release workflow run the same.
#   hack/release.sh build VERSION   writes build/release, all that is published of it:
#       bin/            programs, an SBOM for each
#       image/oci       the container image for all platforms; tarballs and SBOMs beside it
#       pages/charts/kaito-project   the chart repository: chart and index
#       notes.md        what CHANGELOG.md says
#       checksums.txt   of the programs, their SBOMs and the chart
#   hack/release.sh chart VERSION   writes pages alone
#   hack/release.sh push REGISTRY   puts image and chart into a registry, such as ghcr.io/kaito-project
#   hack/release.sh push-chart REGISTRY   the chart alone
#   hack/release.sh try             serves build/release on loopback, and takes image and chart from there
#   hack/release.sh tool            builds bin/release, which does the parts that bash doesn't
# PREVIOUS=FILE is the chart repository's index so far: its versions stay. With
# DRY_RUN=1 the changelog needs no section of the version yet, and changes that
# aren't committed are no obstacle; without PREVIOUS the index is then that of the
# branch gh-pages, if there is one. RELEASE_DIR is another folder than build/release,
# RELEASE_PLATFORMS are others than all, for a quick look.
set -euo pipefail
cd "$(dirname "$0")/.."

release=${RELEASE_DIR:-build/release}
charts=${release}/pages/charts/kaito-project
helm() { go tool -modfile=tools/helm/go.mod helm "$@"; }

tool() { (cd tools/release && CGO_ENABLED=0 GOWORK=off go build -o ../../bin/release .); }

# previous writes the index so far to a file, or nothing if there is none.
previous() {
    if [ -n "${PREVIOUS:-}" ]; then
        cat "${PREVIOUS}"
    elif git cat-file -e origin/gh-pages:charts/kaito-project/index.yaml 2>/dev/null; then
        git show origin/gh-pages:charts/kaito-project/index.yaml
    fi >"$1"
    [ -s "$1" ] && return 0
    # Published, it would take the earlier versions from those who have them.
    echo "there is no index of earlier versions" >&2
    [ -n "${DRY_RUN:-}" ]
}

# index INDEX writes the index of the chart that is there, with what the
# index so far has.
index() {
    local merge=()
    [ ! -s "$1" ] || merge=(--merge "$1")
    helm repo index "${charts}" ${merge[@]+"${merge[@]}"}
    # A version that is gone is an upgrade or a rollback that fails.
    local lost
    lost=$(comm -23 <(versions "$1") <(versions "${charts}/index.yaml"))
    if [ -n "${lost}" ]; then
        echo "the index has lost versions:" ${lost} >&2
        exit 1
    fi
}

versions() { sed -nE 's/^    version: "?([^"]+)"?$/\1/p' "$1" | sort; }

checksums() {
    if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi
}

# begin VERSION refuses what must not be published, before anything is built.
lenient=()
begin() {
    tool
    before=$(mktemp)
    trap 'rm -f "${before}"' EXIT
    if [ -n "${DRY_RUN:-}" ]; then
        lenient=(-unreleased)
    elif [ -n "$(git status --porcelain)" ]; then
        echo "there are changes that aren't committed" >&2
        exit 1
    fi
    previous "${before}"
    bin/release check ${lenient[@]+"${lenient[@]}"} -index "${before}" "v$1"
    rm -rf "${release}"
    mkdir -p "${charts}"
    echo "$1" >"${release}/version"
}

chart() {
    helm package charts/keda-kaito-scaler --destination "${charts}"
    index "${before}"
}

build() {
    local version=$1
    begin "${version}"
    chart
    bin/release image -into "${release}/image" -bin "${release}/bin" -version "${version}" \
        -platforms "${RELEASE_PLATFORMS:-linux/amd64,linux/arm64,darwin/amd64,darwin/arm64}"
    bin/release notes ${lenient[@]+"${lenient[@]}"} "${version}" >"${release}/notes.md"
    { (cd "${release}/bin" && checksums -- *) && (cd "${charts}" && checksums -- *.tgz); } >"${release}/checksums.txt"
    echo "${release} has version ${version}"
}

# push REGISTRY prints the digests of what it pushed.
push() {
    local image
    # Assigned first: a failure within an argument of echo would go unnoticed.
    image=$(bin/release push "${release}/image/oci" "$1/keda-kaito-scaler:$(cat "${release}/version")")
    echo "image=${image}"
    push_chart "$1"
}

push_chart() {
    local version chart plain=()
    version=$(cat "${release}/version")
    case $1 in 127.0.0.1:* | localhost:*) plain=(--plain-http) ;; esac
    helm push ${plain[@]+"${plain[@]}"} "${charts}/keda-kaito-scaler-${version}.tgz" "oci://$1/charts" >&2
    chart=$(bin/release digest "$1/charts/keda-kaito-scaler:${version}")
    echo "chart=${chart}"
}

# served does what the README says, but for the hosts, with what bin/release
# serves at RELEASE_ADDRESS.
served() {
    local version image devel=()
    version=$(cat "${release}/version")
    # Helm takes a pre-release only if it is told to.
    case ${version} in *-*) devel=(--devel) ;; esac
    scratch=$(mktemp -d)
    trap 'rm -rf "${scratch}"' EXIT
    export HELM_CACHE_HOME=${scratch}/cache HELM_CONFIG_HOME=${scratch}/config HELM_DATA_HOME=${scratch}/data
    push "${RELEASE_ADDRESS}/kaito-project"

    helm repo add keda-kaito-scaler "http://${RELEASE_ADDRESS}/keda-kaito-scaler/charts/kaito-project"
    helm template keda-kaito-scaler --namespace keda charts/keda-kaito-scaler >"${scratch}/checkout.yaml"
    helm template keda-kaito-scaler --namespace keda ${devel[@]+"${devel[@]}"} \
        keda-kaito-scaler/keda-kaito-scaler >"${scratch}/repository.yaml"
    helm template keda-kaito-scaler --namespace keda ${devel[@]+"${devel[@]}"} --plain-http \
        "oci://${RELEASE_ADDRESS}/kaito-project/charts/keda-kaito-scaler" >"${scratch}/oci.yaml"
    diff "${scratch}/checkout.yaml" "${scratch}/repository.yaml"
    diff "${scratch}/checkout.yaml" "${scratch}/oci.yaml"

    # What the chart names is there, for each platform.
    image=$(sed -nE 's/^ +image: "?(ghcr.io[^"]+)"?$/\1/p' "${scratch}/repository.yaml" | sort -u)
    if [ "${image}" != "ghcr.io/kaito-project/keda-kaito-scaler:${version}" ]; then
        echo "the chart names the image ${image:-of none}" >&2
        exit 1
    fi
    for platform in linux/amd64 linux/arm64; do
        bin/release digest -platform "${platform}" "${RELEASE_ADDRESS}/${image#ghcr.io/}" >/dev/null
    done
}

# says sees what the program for this machine says of itself, if there is one.
says() {
    local version program said
    version=$(cat "${release}/version")
    program=${release}/bin/keda-kaito-scaler-$(go env GOOS)-$(go env GOARCH)
    [ -x "${program}" ] || return 0
    said=$("${program}" --version)
    case ${said} in
    "keda-kaito-scaler version ${version} "* | "keda-kaito-scaler version ${version}+dirty "*) echo "${said}" ;;
    *)
        echo "${program} says \"${said}\" of itself, want ${version}" >&2
        exit 1
        ;;
    esac
}

case ${1:-} in
build)
    build "${2:?the version, such as 0.7.0}"
    ;;
push)
    tool
    push "${2:?the registry, such as ghcr.io/kaito-project}"
    ;;
chart)
    begin "${2:?the version, such as 0.7.0}"
    chart
    ;;
push-chart)
    tool
    push_chart "${2:?the registry, such as ghcr.io/kaito-project}"
    ;;
try)
    tool
    says
    # Helm is built before its first minute counts.
    helm version >/dev/null
    bin/release serve "${release}" hack/release.sh served
    echo "chart and image are as they should be"
    ;;
served)
    served
    ;;
tool)
    tool
    ;;
*)
    echo "usage: $0 build VERSION | chart VERSION | push REGISTRY | push-chart REGISTRY | try | tool" >&2
    exit 2
    ;;
esac
