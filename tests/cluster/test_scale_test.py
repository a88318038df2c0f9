"""`scripts/scale-test` in a real cluster: cut off and gone on with, no wrong answer while pods come and go, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from secrets import token_hex

import pytest
from release import IMAGE, run
from test_swarm import HEEDS_CTRL_C, environment
from test_swarm import IMAGE as LOAD_IMAGE
from tools import KUBECTL

from scaling.record import read_record

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster"),
]
TINY = ["--rounds", "1", "--only", "health", "--seconds", "23", "--users", "8", "--step-seconds", "120", "--autoscaled-seconds", "0"]


def test_it_goes_on_where_it_was_cut_off_and_leaves_nothing(volumes: None, tmp_path: Path) -> None:
    namespace = f"scaling-{token_hex(3)}"
    images = ["--image", IMAGE, "--load-image", LOAD_IMAGE]
    words = [sys.executable, "-m", "scaling", *TINY, *images, "--namespace", namespace, "--folder", str(tmp_path)]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True, preexec_fn=HEEDS_CTRL_C) as process:
        assert process.stdout is not None
        assert any(line.startswith("Round 1, 1 pods, health: ") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(200) == 130
    assert "the same command goes on where it stopped" in rest
    assert namespace not in run(KUBECTL, "get", "namespaces", "-o", "name")
    [first] = read_record(tmp_path / "record.json").rows
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Round 1, 1 pods" not in done.stdout
    assert namespace not in run(KUBECTL, "get", "namespaces", "-o", "name")
    record = read_record(tmp_path / "record.json")
    assert record.rows[0] == first
    assert [row.pods for row in record.rows] == [1, 2, 4]
    assert all(row.rate > 0 for row in record.rows)
    assert [(step.before, step.after, step.wrong) for step in record.steps] == [(1, 2, 0), (2, 4, 0), (4, 2, 0), (2, 1, 0)]
    assert all(step.requests > 0 for step in record.steps)
    assert (tmp_path / "scaling.md").exists()
