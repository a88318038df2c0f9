"""`run_all_tests` and `compare_performance` as a person types them, against a real stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localstack.layout import ROOT
from localstack.stack import Stack
from outcome.results import Figures, read_results
from outcome.run import read_run
from servers import free_stack_port

SECONDS = 240


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    stack = Stack(tmp_path_factory.mktemp("load") / "run", port=free_stack_port(1), instances=1)
    stack.start()
    yield stack.layout.run_dir
    stack.stop()


def typed(module: str, *words: str, run_dir: Path | None = None, path: str | None = None) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("loadtest", "scripts", "service"))
    environment = os.environ | {"PYTHONPATH": paths, "COLUMNS": "140"} | ({"STACK_RUN_DIR": str(run_dir)} if run_dir else {})
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, env=environment | ({"PATH": path} if path else {}), capture_output=True, text=True, timeout=SECONDS)


@pytest.mark.timeout(SECONDS)
def test_every_plan_gives_right_answers_only(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    only = [
        word for name in ("token, closed", "ott, closed", "revoke, closed", "introspect, closed", "mix, open") for word in ("--only", name)
    ]
    # Without wrk on PATH, whatever the machine has.
    done = typed("suite.run_all", "--repeats", "1", "--seconds", "4", *only, "--output", str(out), run_dir=run_dir, path=str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    results = read_results(out)
    assert set(results.rows) == {"token, closed", "ott, closed", "revoke, closed", "introspect, closed", "mix, open"}
    assert results.faults() == []
    assert results.environment["instances"] == 1
    assert results.left_out == ["what wrk reaches (it is not on PATH: install your system's package wrk)"]
    assert all(row[0].rate > 0 and row[0].cpu_cores["auth"] > 0 for row in results.rows.values())
    mixed = read_run(out / "mix-open-1-run.json")
    assert {"validate refused", "validate used", "validate revoked", "introspect"} <= set(mixed.endpoints)
    assert (out / "mix-open-1-report.html").exists()
    assert not (out / "clients.json").exists()
    listed = json.loads(authsvc(run_dir, "client", "list", "--json"))
    assert {each["client_id"] for each in listed} == {"demo"}, "the run's clients are deleted"
    same = typed("suite.compare", str(out), str(out))
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "No worse than before.")


@pytest.mark.timeout(SECONDS)
def test_a_gate_that_is_missed_fails_the_suite(run_dir: Path, tmp_path: Path) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text("[endpoints.health]\nrate_at_least = 10000000\n")
    words = ("--repeats", "1", "--seconds", "3", "--only", "health, closed", "--thresholds", str(gates), "--output", str(tmp_path / "out"))
    done = typed("suite.run_all", *words, run_dir=run_dir)
    assert done.returncode == 1
    assert "health, closed, repeat 1: health: rate is " in done.stderr
    assert "not >= 10,000,000/s." in done.stderr


def authsvc(run_dir: Path, *words: str) -> str:
    settings = dict(line.split("=", 1) for line in (run_dir / "env").read_text().splitlines())
    environment = os.environ | {name: value.strip("'") for name, value in settings.items()} | {"PYTHONPATH": str(ROOT / "service")}
    command = [sys.executable, "-m", "authsvc", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_run_that_is_worse_fails_and_says_where(tmp_path: Path) -> None:
    kept = {"format": 1, "size": "light", "started": "2026-01-01T00:00:00Z", "environment": {"cores": 2}}
    for name, rate in (("before", 1000), ("worse", 700), ("noisy", 790)):
        repeats = [Figures(rate=rate * (1.6 if name == "noisy" and number == 2 else 1), p99_ms=5).model_dump() for number in range(3)]
        (tmp_path / f"{name}.json").write_text(json.dumps(kept | {"rows": {"validate, closed": repeats}}))
    worse = typed("suite.compare", str(tmp_path / "before.json"), str(tmp_path / "worse.json"))
    assert (worse.returncode, worse.stdout.splitlines()[-1]) == (1, "Worse: validate, closed (rate).")
    noisy = typed("suite.compare", str(tmp_path / "before.json"), str(tmp_path / "noisy.json"))
    assert noisy.returncode == 3
    assert "Not decided: validate, closed (rate) differ too much among repeats. Run longer." in noisy.stdout


@pytest.mark.parametrize(
    ("module", "words", "sentence"),
    [
        ("suite.run_all", ("--run-dir", "/nowhere"), "The stack is not up: start it with scripts/up"),
        ("suite.run_all", ("--url", "http://127.0.0.1:1"), "--url and --clients go together."),
        (
            "suite.run_all",
            ("--url", "http://127.0.0.1:1", "--clients", "/nowhere"),
            "/nowhere does not hold the credentials of two clients",
        ),
        ("suite.compare", ("nothing", "nowhere"), "nothing cannot be read: No such file or directory."),
    ],
)
def test_what_is_not_there_is_one_sentence(tmp_path: Path, module: str, words: tuple[str, ...], sentence: str) -> None:
    output = ("--output", str(tmp_path / "out")) if module == "suite.run_all" else ()
    done = typed(module, *words, *output)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
