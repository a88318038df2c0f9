"""What `scripts/up` shows: a table of what runs where, and three commands to paste."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from localstack.statefile import StackState


def curl_lines(state: StackState) -> list[str]:
    """Get a token, validate it, revoke it; for any shell that has curl and sed."""
    base_url, client = state["base_url"], f"{state['client_id']}:{state['client_secret']}"
    extract = r"""sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p'"""
    return [
        f"TOKEN=$(curl -s -u {client} -d grant_type=client_credentials {base_url}/token | {extract}); echo $TOKEN",
        f"curl -s -d token=$TOKEN {base_url}/validate; echo",
        f"curl -s -u {client} -d token=$TOKEN {base_url}/revoke; echo",
    ]


def show(console: Console, state: StackState, run_dir: Path) -> None:
    """Print the table and the commands. The commands are never wrapped, so that they can be pasted."""
    pids, management = state["pids"], state["management"]
    table = Table("process", "address", "management", "pid", title="The local stack", title_justify="left")
    table.add_row(f"nginx ({state['balancer']})", state["base_url"], "", str(pids["nginx"]))
    for number, (url, inside, pid) in enumerate(zip(state["instances"], management, pids["instances"], strict=False), 1):
        table.add_row(f"instance {number}", url, inside, str(pid))
    table.add_row("writer", "", management[-1], str(pids["writer"]))
    table.add_row("redis", state["redis_url"], "", str(pids["redis"]))
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)
    where = f"Logs are in {run_dir / 'log'}; programs find all of this in {run_dir / 'stack.json'}."
    for line in (where, "", "Get a token, validate it, revoke it:", *curl_lines(state), ""):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
