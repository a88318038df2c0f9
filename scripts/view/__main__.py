"""The command line of `scripts/top`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from authsvc.commands.cluster import at_cluster
from authsvc.errors import OperatorError
from localstack.errors import StackError
from localstack.layout import ROOT
from view.display import shown, trouble
from view.figures import figures
from view.local import LocalStack
from view.rates import Tracks
from view.samples import Look

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)

Looking = Callable[[], Look]


@app.command()
def top(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of a release in a cluster (KUBECONFIG).")] = None,
    release: Annotated[str | None, typer.Option(help="The release; auth if only a namespace is given.")] = None,
    run_dir: Annotated[Path, typer.Option(envvar="STACK_RUN_DIR", help="Folder of the local stack.")] = ROOT / ".run",
    interval_seconds: Annotated[float, typer.Option(min=0.1, help="Time from one look to the next.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Two looks, one interval apart, and what they amount to.")] = False,
) -> None:
    """Show how the local stack does, or a release in a cluster: rates, times, errors, tokens, backlog, processes. Ctrl-C ends it.

    Where the output is no terminal it is as with --once.
    """
    # A closed terminal or a SIGTERM must give the cursor back, too; and Ctrl-C ends it even where the shell that started it ignores that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with _place(namespace, release, run_dir) as look:
            if once or not console.is_terminal:
                _show_once(look, interval_seconds)
            else:
                _show_always(look, interval_seconds)
    except KeyboardInterrupt:
        raise typer.Exit from None


@contextmanager
def _place(namespace: str | None, release: str | None, run_dir: Path) -> Iterator[Looking]:
    if namespace is None and release is None:
        yield LocalStack(run_dir).look
        return
    # The client of Kubernetes takes its time to import; the local stack needs none of it.
    from view.cluster import Release

    with at_cluster(namespace) as cluster:
        yield Release(cluster, release or "auth").look


def _show_once(look: Looking, interval_seconds: float) -> None:
    tracks = Tracks()
    tracks.add(look())
    time.sleep(interval_seconds)
    last = look()
    console.print(shown(figures(last, tracks.add(last))))


def _show_always(look: Looking, interval_seconds: float) -> None:
    """The first look must succeed. Later it may be that the stack or the API server is away: that is shown until it is back."""
    tracks = Tracks()
    first = look()
    with Live(shown(figures(first, tracks.add(first))), console=console, auto_refresh=False) as live:
        live.refresh()
        due = time.monotonic()
        while True:
            due = max(due + interval_seconds, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                seen = look()
            except (StackError, OperatorError) as error:
                live.update(trouble(str(error)), refresh=True)
                continue
            live.update(shown(figures(seen, tracks.add(seen))), refresh=True)


def main() -> None:
    """Run it; one sentence instead of a traceback for what a person can mend."""
    try:
        app(prog_name="scripts/top")
    except (StackError, OperatorError) as error:
        Console(stderr=True).print(str(error), soft_wrap=True, markup=False, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
