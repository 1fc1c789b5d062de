#!/usr/bin/env bash
# Make the virtual environment, install one set of pins into it, then the project itself.
#
# usage: environment.sh FOLDER SET        e.g. environment.sh .venv dev
#
# Every package is checked against its hash. uv does the work where it is to be had (itself
# installed by pip, by hash); plain pip does the same otherwise, only slower.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=$1
set_name=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1
python="$venv/bin/python"

say() { echo "[setup] $*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

make_venv() {
    local base
    base=$(scripts/setup/python.sh)
    say "environment $venv with $("$base" --version)"
    rm -rf "$venv"
    "$base" -m venv "$venv" >/dev/null 2>&1 && return
    # Debian keeps the pip that a new environment starts with in a package of its own.
    local version
    version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
        say "installing Debian's python$version-venv"
        export DEBIAN_FRONTEND=noninteractive
        as_root apt-get update -qq
        as_root apt-get install -y -qq --no-install-recommends "python$version-venv" >/dev/null
        rm -rf "$venv"
        "$base" -m venv "$venv"
    else
        echo "$base cannot make an environment: install Debian's python$version-venv and run make again" >&2
        exit 1
    fi
}

facts() { "$1" -I -S sidecar/interpreter.py; }

# An environment that works stays: something may run from it, and its packages may be out of reach today.
say_what_would_do_better() {
    local base optimised was_optimised major minor micro now was
    base=$(scripts/setup/python.sh 2>/dev/null) || return 0
    read -r _ _ optimised major minor micro _ <<<"$(facts "$base")"
    now="$major.$minor.$micro"
    read -r _ _ was_optimised major minor micro _ <<<"$(facts "$python")"
    was="$major.$minor.$micro"
    if [ -n "${PYTHON:-}" ] && [ "$now" != "$was" ]; then
        say "$venv stays with Python $was; to have it with $now: rm -rf $venv, and make again"
    elif [ "$optimised$was_optimised" = 10 ]; then
        say "$venv stays with Python $was; Python $now ($base) would take about a sixth less of a processor" \
            "for a call: rm -rf $venv, and make again"
    fi
}

if "$python" -c 'import sys' >/dev/null 2>&1; then
    say_what_would_do_better
else
    make_venv
fi

uv="$venv/bin/uv"
if ! "$uv" --version >/dev/null 2>&1; then
    "$python" -m pip install -qq --require-hashes -r requirements/tools.txt ||
        { echo "cannot install requirements/tools.txt: is a package index in reach?" >&2; exit 1; }
fi

# The packages with hashes; then the project, editable, with nothing left to resolve or to fetch
# (its build back end came with requirements/tools.txt).
if "$uv" --version >/dev/null 2>&1; then
    "$uv" pip install --quiet --python "$python" --require-hashes -r requirements/tools.txt -r "requirements/$set_name.txt"
    "$uv" pip install --quiet --python "$python" --no-deps --no-build-isolation --editable .
else
    say "uv does not run here; pip takes its place"
    "$python" -m pip install --quiet --require-hashes -r "requirements/$set_name.txt"
    "$python" -m pip install --quiet --no-deps --no-build-isolation --editable .
fi
# What a call passes through in C, where that can be built here.
"$python" scripts/setup/native.py
# Then all of it that Python has, where there is a compiler for that.
"$python" scripts/setup/ahead.py
"$python" -c 'import sidecar, collector'
# Compiled now rather than at the first start, whatever the caller's shell says of bytecode.
env -u PYTHONDONTWRITEBYTECODE "$python" scripts/setup/bytecode.py
say "ready: $("$python" --version) with requirements/$set_name.txt"
