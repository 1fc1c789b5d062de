#!/usr/bin/env bash
# Install the Debian programs that tests or benchmarks start themselves; only those that are missing.
#
# usage: services.sh test|bench
#
# Nothing is started: Debian would start a server as it is installed, so that is forbidden for the
# time of the installation, by the policy that Debian defines for it (invoke-rc.d).
set -euo pipefail

# a command to find on PATH : the Debian package that brings it
test_programs="chromium:chromium openssl:openssl promtool:prometheus amtool:prometheus-alertmanager
    redis-server:redis-server nginx:nginx-light"
bench_programs="cc:gcc nginx:nginx-light taskset:util-linux"

case "${1:-}" in
test) programs=$test_programs ;;
bench) programs=$bench_programs ;;
*) echo "usage: services.sh test|bench" >&2; exit 2 ;;
esac

export PATH="$PATH:/usr/sbin:/sbin"
missing=()
for entry in $programs; do
    command -v "${entry%%:*}" >/dev/null 2>&1 || missing+=("${entry##*:}")
done
# A compiler without the C library's headers compiles nothing.
if [ "$1" = bench ] && ! [ -e /usr/include/stdio.h ]; then
    missing+=(libc6-dev)
fi
[ ${#missing[@]} = 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "[setup] not a Debian-like machine; install by hand: ${missing[*]}" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    root=()
elif sudo -n true 2>/dev/null; then
    root=(sudo -n)
else
    echo "[setup] these Debian packages are missing, and this needs root: apt-get install ${missing[*]}" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
if ! [ -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
    trap '"${root[@]}" rm -f "$policy"' EXIT
fi

apt() {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"
}
echo "[setup] installing Debian packages: ${missing[*]}"
log=$(mktemp)
if ! { apt update && apt install -y --no-install-recommends "${missing[@]}" </dev/null; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    echo "[setup] could not install: ${missing[*]}" >&2
    exit 1
fi
rm -f "$log"
