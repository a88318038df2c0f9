"""`stack.json` and its process IDs."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from localstack.layout import Layout
from localstack.statefile import Pids, read_state, refresh_pids, write_state

PIDS: Pids = {"nginx": 1, "redis": 2, "writer": 3, "instances": [4, 5]}


def test_it_holds_what_the_contract_says(tmp_path: Path) -> None:
    layout = Layout(tmp_path, 9000, 2)
    written = write_state(layout, "demo", "secret", lambda: PIDS)
    assert json.loads(layout.state_file.read_text()) == written
    assert written == {
        "base_url": "http://127.0.0.1:9000",
        "balancer": "http",
        "instances": ["http://127.0.0.1:9001", "http://127.0.0.1:9002"],
        "management": ["http://127.0.0.1:9101", "http://127.0.0.1:9102", "http://127.0.0.1:9100"],
        "redis_url": "redis://127.0.0.1:9200/0",
        "records_url": f"sqlite:///{tmp_path}/data/records.db",
        "client_id": "demo",
        "client_secret": "secret",
        "pids": PIDS,
    }
    assert stat.S_IMODE(layout.state_file.stat().st_mode) == 0o600


def test_new_pids_change_nothing_else(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    before = write_state(layout, "demo", "secret", lambda: PIDS)
    refresh_pids(layout.state_file, lambda: {**PIDS, "nginx": 9})
    assert read_state(layout.state_file) == {**before, "pids": {**PIDS, "nginx": 9}}


def test_before_the_stack_is_complete_there_is_no_file_to_refresh(tmp_path: Path) -> None:
    refresh_pids(tmp_path / "stack.json", lambda: PIDS)
    assert read_state(tmp_path / "stack.json") is None


def test_the_last_pids_asked_for_are_the_last_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_state(layout, "demo", "secret", lambda: PIDS)
    asked = count(1)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(refresh_pids, layout.state_file, lambda: {**PIDS, "nginx": next(asked)}) for _ in range(200)]:
            done.result()
    state = read_state(layout.state_file)
    assert state is not None
    assert state["pids"]["nginx"] == 200
