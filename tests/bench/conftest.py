"""The benchmark's modules, importable as its own program sees them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
