"""A short run of the fuzzing script; `python -m tests.foreign.fuzz` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="Windows counts memory otherwise")

from tests.foreign.fuzz import COUNTS

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"pictures": 40, "exif": 80, "predictions": 30, "entries": 60, "results": 12}


@pytest.mark.parametrize("kind", SHORT)
def test_every_file_is_accounted_for(kind):
    """In a process of its own: a child counts the memory of the one that it is forked from as its own."""
    command = [sys.executable, "-m", "tests.foreign.fuzz", kind, "--times", str(SHORT[kind] / COUNTS[kind])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{kind}: {SHORT[kind]}: " in done.stdout, done.stderr[-3000:]
