#!/usr/bin/env bash
# Print the newest Python that really runs here: 3.13, 3.12, 3.11, else a python3 that is new enough.
#
# A command of that name proves nothing (a version manager leaves shims that cannot run), so each
# candidate has to run and say its version. PYTHON= names one and is taken at its word.
set -euo pipefail

runs() {
    "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    runs "$PYTHON" || { echo "PYTHON=$PYTHON is no Python 3.11 or later that runs" >&2; exit 1; }
    echo "$PYTHON"
    exit 0
fi

for version in 3.13 3.12 3.11; do
    if runs "python$version"; then
        echo "python$version"
        exit 0
    fi
    if command -v pyenv >/dev/null 2>&1; then
        prefix=$(pyenv prefix "$version" 2>/dev/null) || continue
        if runs "$prefix/bin/python"; then
            echo "$prefix/bin/python"
            exit 0
        fi
    fi
done

if runs python3; then
    echo python3
    exit 0
fi
echo "no Python 3.11 or later was found; install one, or name it: make PYTHON=/path/to/python3" >&2
exit 1
