"""Lets tests import start.py and what lies in datasets/ and models/, and keeps the home folder
clean."""
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "datasets"), str(ROOT / "models")]

import start

os.environ.update(start.environment())    # as under `start.py test`; notebooks inherit it


def pytest_configure(config):
    """What can't run is listed with its reason at the end, as with pytest -rs."""
    config.option.reportchars += "s"
    config.addinivalue_line("markers", "runs(jobs): executions of a notebook that a test looks at")
