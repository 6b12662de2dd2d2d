"""Makes the helper scripts of this folder, and those of tests/node and tests/analyses, importable by the tests beside them."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), *(str(Path(__file__).parents[1] / name) for name in ("node", "analyses"))]
