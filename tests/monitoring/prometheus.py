"""Prometheus's programs, from PATH: a test that needs one that is not there is left out and says so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*words: str | Path) -> str:
    """What `promtool` prints; the test fails with it where promtool does, and is left out where there is none."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("no promtool on PATH")
    done = subprocess.run([path, *words], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
