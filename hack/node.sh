#!/bin/sh
# A place for a Kubernetes node on this machine, of which the machine notices
# nothing: namespaces of its own for network, mounts and processes, a folder and
# a cgroup of its own. All of it goes when the command ends, however it ends.
#   hack/node.sh packages         makes sure of what a node needs
#   hack/node.sh run COMMAND...   runs a command in such a place, as root
set -eu

# The node's address, on a network that nobody else is in.
address=10.245.0.1

wanted='containerd ctr runc iptables conntrack ip unshare setpriv'
debian='containerd runc containernetworking-plugins iptables conntrack iproute2 util-linux'

# Debian has the CNI plugins in one place, everybody else in the other.
plugins() { ls -d /usr/lib/cni/ptp /opt/cni/bin/ptp 2>/dev/null | head -n 1; }

missing() {
    for program in ${wanted}; do
        command -v "${program}" >/dev/null || echo "${program}"
    done
    [ -n "$(plugins)" ] || echo "CNI plugins"
}

packages() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "a node needs root: its network, its mounts and its cgroups are made" >&2
        exit 1
    fi
    [ -n "$(missing)" ] || return 0
    if command -v apt-get >/dev/null; then
        echo "a node needs" $(missing)": installing ${debian}" >&2
        apt-get update -q
        # Nobody is to start a containerd of the machine's for it.
        keep_stopped
        # shellcheck disable=SC2086 # a list
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends ${debian} ||
            { let_start; exit 1; }
        let_start
    fi
    [ -z "$(missing)" ] && return 0
    echo "A node needs" $(missing)". Debian and Ubuntu have them in: ${debian}" >&2
    exit 1
}

policy=/usr/sbin/policy-rc.d
keep_stopped() {
    [ -e ${policy} ] && return 0
    made=yes
    printf '#!/bin/sh\nexit 101\n' >${policy}
    chmod 755 ${policy}
}
let_start() { [ -z "${made:-}" ] || rm -f ${policy}; }

# The roots of the machine's cgroups: one for each controller, or one for all.
hierarchies() {
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        echo /sys/fs/cgroup
    else
        find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d
    fi
}

prefix=keda-kaito-scaler-node-

# forget PID removes what the run of that process has left.
forget() {
    for root in $(hierarchies); do
        if [ -d "${root}/${prefix}$1" ]; then
            find "${root}/${prefix}$1" -depth -type d -exec rmdir {} \; || true
        fi
    done
    rm -rf "${TMPDIR:-/tmp}/${prefix}$1"
}

# Runs that were killed have left a folder and empty cgroups.
sweep() {
    for left in "${TMPDIR:-/tmp}/${prefix}"*; do
        pid=${left##*"${prefix}"}
        if [ -d "${left}" ] && [ ! -d "/proc/${pid}" ]; then
            forget "${pid}"
        fi
    done
}

run() {
    sweep
    mkdir -m 700 "${TMPDIR:-/tmp}/${prefix}$$"
    for root in $(hierarchies); do
        mkdir -p "${root}/${prefix}$$"
    done
    # A cpuset without processors takes no process.
    for file in cpuset.cpus cpuset.mems; do
        if [ -e "/sys/fs/cgroup/cpuset/${file}" ]; then
            cat "/sys/fs/cgroup/cpuset/${file}" >"/sys/fs/cgroup/cpuset/${prefix}$$/${file}"
        fi
    done
    trap 'forget $$' EXIT
    # Ctrl-C is for the command: this shell stays to tidy up after it.
    trap : INT TERM
    export NODE_DIR="${TMPDIR:-/tmp}/${prefix}$$" NODE_CGROUP="/${prefix}$$" NODE_IP="${address}"
    NODE_PLUGINS=$(dirname "$(plugins)")
    export NODE_PLUGINS
    status=0
    # The first process of a PID namespace takes all others with it when it ends,
    # and it ends with this shell, even if that is killed.
    setpriv --pdeathsig KILL unshare --net --mount --ipc --pid --fork --kill-child --mount-proc --propagation private \
        -- /bin/sh "$0" inside "$@" || status=$?
    exit "${status}"
}

# inside is run where the namespaces are new.
inside() {
    # What a node writes to at fixed places, empty or seen through a copy.
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir /run/lock /run/netns /run/var-lib /run/var-lib.work /run/sysctl
    mount -t tmpfs -o mode=755 tmpfs /var/log
    mount -t overlay -o lowerdir=/var/lib,upperdir=/run/var-lib,workdir=/run/var-lib.work overlay /var/lib
    # The kubelet wants these settings, which are the whole machine's: it gets
    # to see them, and the machine keeps its own.
    for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
        file=/run/sysctl/$(echo "${setting%=*}" | tr / .)
        echo "${setting#*=}" >"${file}"
        mount --bind "${file}" "/proc/sys/${setting%=*}"
    done
    ip link set lo up
    ip address add "${address}/32" dev lo
    # Services' addresses lead anywhere at all: kube-proxy turns them round.
    ip route add 10.0.0.0/24 dev lo src "${address}"
    echo 1 >/proc/sys/net/ipv4/ip_forward
    # Not exec: a shell as the first process reaps the orphans.
    status=0
    "$@" || status=$?
    exit "${status}"
}

case ${1:-} in
packages)
    packages
    ;;
run | inside)
    action=$1
    shift
    "${action}" "$@"
    ;;
*)
    echo "usage: $0 packages|run COMMAND..." >&2
    exit 2
    ;;
esac
