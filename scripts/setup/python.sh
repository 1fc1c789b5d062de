#!/usr/bin/env bash
# Print the Python to make an environment with: of those here, the newest that was built with profile-guided
# optimisation, which saves about a sixth of the processor time of a call; else the newest, with a line that says so.
#
# A command of that name proves nothing (a version manager leaves shims that cannot run, and hides what the system
# has), so each of them is run and asked how it was built. One that lacks pip for a new environment, or Python's
# headers where there is a C compiler to use them, stands behind those that do not. PYTHON= names one and is taken
# at its word.
set -euo pipefail
here=${BASH_SOURCE[0]%/*}
tried="3.13 3.12 3.11"

if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1 ||
        { echo "PYTHON=$PYTHON is no Python 3.11 or later that runs" >&2; exit 1; }
    echo "$PYTHON"
    exit 0
fi

pyenv=${PYENV_ROOT:-${HOME:-}/.pyenv}
candidates=()

# A file by several names is one candidate; behind pyenv's shims are those that its folder has.
add() {
    local path=$1 known
    [ -x "$path" ] && [ "${path%/*}" != "$pyenv/shims" ] || return 0
    for known in ${candidates[@]+"${candidates[@]}"}; do
        [ "$path" -ef "$known" ] && return
    done
    candidates+=("$path")
}

for version in $tried; do
    while IFS= read -r path; do add "$path"; done < <(type -aP "python$version" || true)
    for path in "$pyenv/versions/$version."*[0-9]/bin/python; do add "$path"; done
done
while IFS= read -r path; do add "$path"; done < <(type -aP python3 || true)

compiler=
if [ -n "${CC:-}" ] || command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null; then
    compiler=yes
fi

best=
highest=-1
passed_over=
for path in ${candidates[@]+"${candidates[@]}"}; do
    facts=$("$path" -I -S "$here/../../sidecar/interpreter.py" 2>/dev/null) || continue
    read -r venv headers optimised major minor micro path <<<"$facts" || continue
    [ -n "$path" ] && [ "$major" = 3 ] && [ "$minor" -ge 11 ] || continue
    known=0
    case " $tried " in *" $major.$minor "*) known=1 ;; esac
    [ "$optimised$known" = 11 ] && passed_over=${passed_over:-$path}
    [ -n "$compiler" ] || headers=1
    score=$((((((venv * 2 + known) * 2 + headers) * 2 + optimised) * 1000 + minor) * 1000 + micro))
    if [ "$score" -gt "$highest" ]; then
        highest=$score
        best=$path
        version=$major.$minor.$micro
        best_optimised=$optimised
    fi
done

if [ -z "$best" ]; then
    echo "no Python 3.11 or later was found; install one, or name it: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if [ "$best_optimised" != 1 ]; then
    echo "[setup] Python $version was built without profile-guided optimisation: a call costs about a fifth more" \
        "of a processor${passed_over:+ than with $passed_over, which lacks its venv or headers}" >&2
fi
echo "$best"
