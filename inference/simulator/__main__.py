"""Run the simulator: ``python -m inference.simulator --port 9000``."""

import sys

from inference.simulator.app import main

sys.exit(main(sys.argv[1:]))
