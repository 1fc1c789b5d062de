#!/usr/bin/env bash
# Unpack what pack.sh packed and run the suite with it, on the machine with the GPU, in the project's folder.
#
# usage: unpack.sh FOLDER [PYTEST ARGUMENTS]
#
# FOLDER has all parts. It is unpacked once; the figures are printed, and written to bench-results/gpu.json.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=$(cd "$1" && pwd)
shift
if [ ! -x "$folder/tree/bin/vllm" ]; then
    mkdir -p "$folder/tree"
    cat "$folder"/part.* | tar xJf - -C "$folder/tree"
fi
export PYTHONPATH="$folder/tree" VLLM_BIN="$folder/tree/bin/vllm" HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
exec python3 -m pytest -m gpu --timeout 1800 -p no:cacheprovider "${@:-tests/gpu}"
