"""Makes the benchmarks' rooms importable: ``from bench import shapes``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
