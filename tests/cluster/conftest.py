"""What the suite needs of any cluster: KUBECONFIG, the image in it, and volumes that who is not root may write."""

from __future__ import annotations

import os
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
