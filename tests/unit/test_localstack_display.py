"""What `up` shows."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from localstack.display import curl_lines, show
from localstack.layout import Layout
from localstack.statefile import Pids, write_state

SECRET = "pN3-[bold]x_8dZ-Sid-P_7_Vk3MOeJ3YrwXFlEF9Mh"


def shown(tmp_path: Path) -> tuple[str, list[str]]:
    pids: Pids = {"nginx": 1111111, "redis": 1111112, "writer": 1111113, "instances": [1, 2, 3, 4]}
    state = write_state(Layout(tmp_path, 10080, 4), "demo", SECRET, lambda: pids)
    out = io.StringIO()
    show(Console(file=out, width=80), state, tmp_path)
    return out.getvalue(), curl_lines(state)


def test_the_lines_to_paste_are_not_wrapped_or_changed(tmp_path: Path) -> None:
    text, lines = shown(tmp_path)
    assert len(lines) == 3
    assert [line for line in text.splitlines() if "curl" in line] == lines
    assert SECRET in lines[0]


def test_the_table_shows_every_address_whole_on_80_columns(tmp_path: Path) -> None:
    text, _ = shown(tmp_path)
    for port in (10080, 10081, 10084, 10180, 10181, 10184):
        assert f"http://127.0.0.1:{port} " in text
    assert "redis://127.0.0.1:10280/0 " in text
    assert "1111113" in text
    assert max(len(line) for line in text.splitlines() if line.startswith("│")) <= 80
