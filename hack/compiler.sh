#!/bin/sh
# Makes sure of a C compiler, which the race detector links with. As root on
# Debian or Ubuntu it installs one; elsewhere it says what to install.
set -eu

compiler=$(go env CC)

works() {
    # The headers count too: a compiler without libc's is no use.
    echo '#include <stdlib.h>' | ${compiler} -E - >/dev/null 2>&1
}

if works; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "no C compiler for the race detector: installing gcc" >&2
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends gcc libc6-dev
    works && exit 0
fi
cat >&2 <<EOF
The race detector needs a C compiler, and "${compiler}" doesn't work. Install one:
  Debian, Ubuntu   apt-get install gcc libc6-dev
  Fedora, RHEL     dnf install gcc
  Alpine           apk add gcc musl-dev
  macOS            xcode-select --install
or test without the race detector: make test RACE=
EOF
exit 1
