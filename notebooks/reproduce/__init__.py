"""The papers' figures and tables: frozen descriptions and the rows that they make (``figure``), and how they are drawn."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # notebooks see their own folder only, and rows are kept by what the benchmarks use too
    sys.path.append(str(ROOT))
