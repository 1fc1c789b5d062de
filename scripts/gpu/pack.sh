#!/usr/bin/env bash
# Pack a vLLM for a bare machine with an NVIDIA GPU and no network, in parts that can be carried over one by one.
#
# usage: pack.sh UV FOLDER
#
# The machine has Python 3.12 with torch 2.11 for CUDA 13, transformers and numpy: what it has is left out, and
# so are the parts of vLLM that a dense model on Hopper needs not (of 2.8 GB, under 200 MB are left). With it goes what
# Bursar itself and the tests need. There: scripts/gpu/unpack.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

uv=$1
folder=$2
vllm=0.26.0 # the newest that asks for torch 2.11
python=3.12
platform=x86_64-manylinux_2_31
there=(transformers==5.17.0 tokenizers==0.23.2 huggingface_hub==1.33.0)
has='torch|torchvision|torchaudio|numpy|triton|transformers|tokenizers|huggingface[-_]hub|safetensors|setuptools'
heavy='vllm|flashinfer.*|nvidia-.*|cuda-.*|tilelang|quack.*|humming.*|tokenspeed.*|pynvvideocodec|torchcodec'
idle='fastsafetensors|z3-solver|torch-c-dlpack-ext|nvtx|pyelftools|sentry.*|fastapi-cli|fastapi-cloud-cli'
idle+='|agent-detector|rignore|rich-toolkit|detect-installer|fastar'

mkdir -p "$folder/tree"
printf 'vllm==%s\n' "$vllm" >"$folder/vllm.in"
printf '%s\n' "${there[@]}" >"$folder/there.txt"
"$uv" pip compile "$folder/vllm.in" --quiet --no-config --constraints "$folder/there.txt" \
    --python-version "$python" --python-platform "$platform" --no-header --no-annotate --output-file "$folder/all.txt"
grep -viE "^($has|$heavy|$idle)[=[ ]" "$folder/all.txt" >"$folder/light.txt"

# Copies: files that are linked to uv's cache change under tar when another uv is at work.
into=(--no-config --no-deps --link-mode copy --only-binary :all:)
into+=(--python-version "$python" --python-platform "$platform")
"$uv" pip install --quiet "${into[@]}" --target "$folder/tree" -r "$folder/light.txt"
# Ours, and what the tests need; the same pins as everywhere, vLLM's where both have one.
"$uv" pip compile pyproject.toml --quiet --no-config --extra gpu --group dev --constraints "$folder/light.txt" \
    --python-version "$python" --python-platform "$platform" --no-header --no-annotate --output-file "$folder/own.txt"
own='duckdb|pyarrow|hiredis|lupa|msgspec|uvloop|opentelemetry.*|prometheus-client|starlette|uvicorn|httpx|httpcore|h11|anyio'
own+='|httptools|rich|pyyaml|protobuf|googleapis-common-protos|nvidia-ml-py|pytest.*|iniconfig|pluggy|execnet|hypothesis'
own+='|sortedcontainers|openai|anthropic|certifi|idna|sniffio|typing-extensions|pygments|packaging|markdown-it-py|mdurl'
grep -iE "^($own)[=[ ]" "$folder/own.txt" >"$folder/some.txt"
"$uv" pip install --quiet "${into[@]}" --target "$folder/tree" -r "$folder/some.txt"

wheel=$("$uv" pip install --quiet "${into[@]}" --target "$folder/wheel" "vllm==$vllm" && echo "$folder/wheel")
tar cf - -C "$wheel" --exclude='*.hpp' --exclude='*.cuh' --exclude='*.h' --exclude='vllm/vllm-rs' \
    --exclude='*fa2_C*' --exclude='vllm/_moe_C*' --exclude='vllm/_flashmla*' --exclude='vllm/_qutlass*' \
    --exclude='vllm/third_party/deep_gemm' --exclude='vllm/third_party/fmha_sm100' --exclude='*/configs/*.json' \
    --exclude='./bin' . | tar xf - -C "$folder/tree"
mkdir -p "$folder/tree/bin"
cat >"$folder/tree/bin/vllm" <<'PY'
#!/usr/bin/env python3
"""vLLM from the folder above this file."""
import os
import sys
from pathlib import Path

folder = str(Path(__file__).resolve().parent.parent)
sys.path.insert(0, folder)
os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
for name in ("VLLM_USE_FLASHINFER_SAMPLER", "VLLM_USE_DEEP_GEMM"):
    os.environ.setdefault(name, "0")
from vllm.entrypoints.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
PY
chmod +x "$folder/tree/bin/vllm"
tar cf - -C "$folder/tree" . | xz -T0 -6 >"$folder/gpu.txz"
split -b 50m -d "$folder/gpu.txz" "$folder/part."
ls -l "$folder"/part.*
