"""`LOAD_*`: what a launcher writes is read back, and what is wrong is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from outcome.plan import Plan
from outcome.run import RunError
from traffic.settings import read_settings, to_environment

CLIENTS = '{"client_id": "a", "client_secret": "b", "brief_client_id": "c", "brief_client_secret": "d"}'


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    file = tmp_path / "clients.json"
    file.write_text(CLIENTS)
    for name, value in to_environment(Plan(), url="http://127.0.0.1:8080", clients_file=file).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_plan_and_its_surroundings_are_read_back(given: pytest.MonkeyPatch) -> None:
    plan = Plan(
        endpoint="revoke", shape="spike", arrival="closed", users=7, rate=12.5, seconds=99, warm_up_seconds=0, tokens=11, bad_share=0.5
    )
    for name, value in to_environment(plan, environment={"instances": 4, "machine": "m"}, workers=3).items():
        given.setenv(name, value)
    settings = read_settings()
    assert settings.plan == plan
    assert (settings.environment, settings.workers) == ({"instances": 4, "machine": "m"}, 3)
    assert settings.credentials().brief_client_id == "c"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("LOAD_ENDPOINT", "login", r"LOAD_ENDPOINT: Input should be 'health', .*"),
        ("LOAD_RATE", "0", r"LOAD_RATE: Input should be greater than 0\."),
        ("LOAD_URL", "127.0.0.1:8080", r"LOAD_URL: String should match pattern .*"),
        ("LOAD_NAME", "A B", r"LOAD_NAME: String should match pattern .*"),
    ],
)
def test_a_wrong_variable_is_named(given: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    given.setenv(name, value)
    with pytest.raises(RunError, match=sentence):
        read_settings()


def test_credentials_that_are_none_are_one_sentence(given: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "clients.json").write_text("{}")
    with pytest.raises(RunError, match="does not hold the credentials of the two clients of a run"):
        read_settings().credentials()
    (tmp_path / "clients.json").unlink()
    with pytest.raises(RunError, match="cannot be read: No such file or directory"):
        read_settings().credentials()
