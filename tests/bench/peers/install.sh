#!/usr/bin/env bash
# Install the gateways to compare with, each in an environment of its own under .venvs/.
#
# usage: install.sh UV [NAME...]       names: vllm-router tensorzero litellm-proxy portkey
#
# Pins with hashes: requirements/peers/*.txt, and portkey/package-lock.json here. nginx comes from Debian.
# One that cannot be installed is left out of the benchmark, and said so.
set -uo pipefail
cd "$(dirname "$0")/../../.."

uv=$1
shift
names=${*:-vllm-router tensorzero litellm-proxy portkey}
python=$(scripts/setup/python.sh) || exit 1
failed=()

install_python() {
    local venv=.venvs/$1
    [ -x "$venv/bin/python" ] || "$uv" venv --quiet --python "$python" "$venv" &&
        "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "requirements/peers/$1.txt"
}

install_portkey() {
    if ! command -v npm >/dev/null 2>&1; then
        echo "[peers] portkey needs Node.js and npm" >&2
        return 1
    fi
    mkdir -p .venvs/portkey
    cp tests/bench/peers/portkey/package.json tests/bench/peers/portkey/package-lock.json .venvs/portkey/
    # No package may run a script of its own while it is installed.
    (cd .venvs/portkey && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

for name in $names; do
    case $name in
    portkey) install_portkey ;;
    *) install_python "$name" ;;
    esac && echo "[peers] $name is ready" || failed+=("$name")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "[peers] could not be installed: ${failed[*]}" >&2
    exit 1
fi
