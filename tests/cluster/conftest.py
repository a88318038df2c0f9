"""What the suite needs of any cluster: KUBECONFIG, the image in it, and volumes that who is not root may write."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from release import Namespace, Release
from volumes import open_volumes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failure prints what went on in the namespaces that are open."""
    report = yield
    if report.failed and item.get_closest_marker("cluster"):
        report.sections += [(f"namespace {namespace.name}", namespace.describe()) for namespace in Namespace.open]
    return report


UNTIL = "TEST_CLUSTER_UNTIL"
"""Unix seconds after which no further test begins, for a run that must have an end however slow the machine is."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before a release is made for it."""
    if time.time() > float(os.environ.get(UNTIL, "inf")):
        pytest.skip("the time of this run is over: run `scripts/test cluster`")


@pytest.fixture(scope="module")
def volumes() -> None:
    """Volumes that who is not root may write."""
    if "KUBECONFIG" in os.environ:
        open_volumes()


@pytest.fixture(scope="module")
def release(volumes: None) -> Iterator[Release]:
    """A namespace for a release; the module's first test installs it."""
    made = Release()
    yield made
    made.delete()
