"""Side-by-side measurements. They print figures and assert none."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # networks and Node come from tests/support
