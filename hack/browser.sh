#!/bin/sh
# Makes sure of a browser, in which the test of the simulation's report looks at
# its page. As root on Debian or Ubuntu it installs one; elsewhere it says what
# to install.
set -eu

found() {
    for name in "${BROWSER_PROGRAM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        if [ -n "${name}" ] && command -v "${name}" >/dev/null 2>&1; then
            return 0
        fi
    done
    return 1
}

if found; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "no browser to look at the simulation's report in: installing chromium" >&2
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core
    found && exit 0
fi
cat >&2 <<EOF
A test looks at the simulation's report in Chromium, and there is none. Install it:
  Debian           apt-get install chromium
  Fedora           dnf install chromium
  Alpine           apk add chromium
  macOS            brew install --cask google-chrome
and name it with BROWSER_PROGRAM=/path/to/it if it is called otherwise.
EOF
exit 1
