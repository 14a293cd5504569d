# shellcheck shell=bash
# What a demo stands on: hosts made of network namespaces, daemons and others in the background, a voice, and that nothing
# of it is left at the end. To be sourced by scripts/demo and scripts/demo-fleet.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for whoever sources this
stage=xdrop-demo-$$ # how the names of all namespaces begin
folder=
children=()
namespaces=()
export PYTHONPATH=$root/src PYTHONDONTWRITEBYTECODE=1

bold='' plain=''
if [[ -t 1 && -z ${NO_COLOR-} ]]; then
    bold=$'\e[1m' plain=$'\e[0m'
fi

# usage WRONG: print the head of the script, and leave.
usage() {
    sed -n '2,/^set/ { s/^# \{0,1\}//p }' "$0"
    [[ $1 == -h || $1 == --help ]] && exit 0
    exit 2
}

# set_up PURPOSE: root's powers, the packages, a folder; from now on all of it goes with this process.
set_up() {
    if ((EUID != 0)); then
        echo "scripts/demo makes network namespaces and loads a BPF program; run it as root: sudo scripts/demo" >&2
        exit 77
    fi
    "$root/scripts/packages" --install "$1"
    folder=$(mktemp --directory --tmpdir xdrop-demo.XXXXXX)
    trap tidy_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

tidy_up() {
    trap '' INT TERM
    if ((${#children[@]})); then
        kill "${children[@]}" 2>/dev/null || true
        wait "${children[@]}" 2>/dev/null || true
    fi
    for namespace in "${namespaces[@]}"; do
        ip netns delete "$namespace" 2>/dev/null || true
    done
    rm -rf "$folder"
}

# ---- hosts ----

add_host() {
    namespaces+=("$1")
    ip netns add "$1"
}

# in_background LOG COMMAND...: start a command, and end it at the end at the latest.
in_background() {
    local log=$1
    shift
    "$@" >>"$log" 2>&1 &
    children+=($!)
}

# start_daemon HOST FOLDER: xdropd for eth0, with its blocklist and all that is its own in a folder.
start_daemon() {
    printf 'interfaces: [eth0]\n' >"$2/xdropd.yaml"
    STATE_DIRECTORY=$2/state RUNTIME_DIRECTORY=$2 in_background "$2/log" \
        ip netns exec "$1" /usr/bin/python3 -m xdropd.commands.xdropd \
        --settings "$2/xdropd.yaml" --blocklist "$2/blocklist.yaml" --socket "$2/control.sock"
}

# ---- what the reader sees ----

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# Show a command as the reader would type it, and run it.
show() {
    printf '$ %s\n' "$*"
    "$@"
}

fail() {
    local log
    printf 'scripts/demo: %s\n' "$1" >&2
    while read -r log; do
        printf '\n%s:\n%s\n' "${log#"$folder/"}" "$(cat "$log")" >&2
    done < <(find "$folder" -name '*log' -type f)
    exit 1
}

# wait_until WHAT COMMAND...: until a command succeeds.
wait_until() {
    local child
    for _ in {1..200}; do
        if "${@:2}"; then return; fi
        for child in "${children[@]}"; do
            kill -0 "$child" 2>/dev/null || fail "a program has ended that should not"
        done
        sleep 0.1
    done
    fail "waited in vain for: $1"
}

# wait_for PATTERN LOG: until a line of a log says so.
wait_for() { wait_until "$1" grep --quiet --extended-regexp "$1" "$2"; }
