"""Lets tests import start.py and datasets/download.py, and keeps the home folder clean."""
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "datasets"), str(ROOT / "models")]

import start

os.environ.update(start.environment())    # as under `start.py test`; notebooks inherit it
