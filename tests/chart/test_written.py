"""What the chart's model and nginx/ are written into is as they would write it now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from authsvc import __version__
from chart.__main__ import CHART, written

FILES = written()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_written_file_is_as_it_would_be_written(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == FILES[file], "run scripts/generate-docs"


def test_no_other_copies_are_left() -> None:
    assert {file for file in FILES if file.parent.name == "files"} == set((CHART / "files").glob("*.conf"))


def test_the_chart_installs_this_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    [label] = re.findall(r'image\.version="(.+?)"', (CHART.parents[1] / "service" / "Dockerfile").read_text())
    assert label == __version__
