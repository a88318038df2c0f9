"""The programs, fetched before any test's time runs, and the renders that hold for any values."""

from __future__ import annotations

from pathlib import Path

import pytest
from manifests import Object
from rendering import render
from tools import PROGRAMS, ToolError, path_of
from value_sets import API_VERSIONS, VALUE_SETS


def pytest_collection_finish(session: pytest.Session) -> None:
    """A fetch belongs to no test, and its line must be seen; who needs a program that cannot be had fails with the reason."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.option.collectonly or not any(Path(__file__).parent in item.path.parents for item in session.items):
        return
    for program in PROGRAMS:
        try:
            path_of(program, reporter.write_line if reporter else print)
        except ToolError as error:
            if reporter:
                reporter.write_line(str(error))


@pytest.fixture(params=list(VALUE_SETS))
def value_set(request: pytest.FixtureRequest) -> str:
    """The name of each set of values in turn."""
    name: str = request.param
    return name


@pytest.fixture
def objects(value_set: str) -> list[Object]:
    """What each set of values renders, in a cluster that has all kinds."""
    return render(VALUE_SETS[value_set], apis=API_VERSIONS)
