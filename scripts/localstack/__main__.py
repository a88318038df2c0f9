"""The command line of the local stack; `scripts/up` and `scripts/down` call it."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from localstack import nginx
from localstack.display import show
from localstack.errors import StackError
from localstack.layout import DEFAULT_INSTANCES, DEFAULT_PORT, MAX_INSTANCES, ROOT, Balancer
from localstack.stack import Stack
from localstack.watch import watch as watch_events

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="The local stack.")
console = Console()

RunDir = Annotated[Path, typer.Option(envvar="STACK_RUN_DIR", help="Folder of the stack's data, keys, configuration and logs.")]


@app.command()
def up(
    port: Annotated[int, typer.Option(help="nginx's port; the 200 above it are used too.", min=1, max=65335)] = DEFAULT_PORT,
    instances: Annotated[int, typer.Option(help="Service instances.", min=1, max=MAX_INSTANCES)] = DEFAULT_INSTANCES,
    balancer: Annotated[Balancer, typer.Option(help="Whether nginx passes on requests or connections: docs/balancer.md.")] = Balancer.HTTP,
    run_dir: RunDir = ROOT / ".run",
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything is ready, instead of waiting for Ctrl-C.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget all data, keys and the demo client first.")] = False,
) -> None:
    """Start the stack, create a demo client and show what runs where."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("AUTH_")}
    stack = Stack(run_dir, port=port, instances=instances, balancer=balancer, env=settings)
    state = stack.state()
    if state is not None:
        if fresh:
            raise StackError("The stack is up: stop it with scripts/down before a fresh start.")
        console.print("The stack is up already.")
        if (state["base_url"], len(state["instances"]), state["balancer"]) != (stack.layout.base_url, instances, balancer):
            console.print("Its port, number of instances or balancer is not what was asked for: scripts/down first, to change that.")
        show(console, state, stack.layout.run_dir)
        return
    with _signals_interrupt():
        try:
            with _progress() as report:
                state = stack.start(fresh=fresh, report=report)
            show(console, state, stack.layout.run_dir)
            if detach:
                elsewhere = "" if run_dir == ROOT / ".run" else f" --run-dir {run_dir}"
                console.print(f"It runs in the background; scripts/down{elsewhere} stops it.", soft_wrap=True, highlight=False)
                return
            console.print("Ctrl-C stops it.")
            code = stack.wait()
        except KeyboardInterrupt:
            _ignore_signals()
            console.print("\nStopping ...")
            stack.stop()
            console.print("The stack is stopped.")
            raise typer.Exit(0 if state is not None else 130) from None
    if code != 0:
        stack.stop()
        log = stack.layout.log_dir / "supervisord.log"
        raise StackError(f"supervisord ended by itself with exit code {code}, and all that it had started was stopped: see {log}.")
    console.print("The stack was stopped.")


@app.command()
def down(run_dir: RunDir = ROOT / ".run") -> None:
    """Stop every process of the stack. Data and keys stay."""
    with console.status("Stopping ..."):
        stopped = Stack(run_dir).stop()
    console.print("The stack is stopped." if stopped else "Nothing is running.")


@app.command(hidden=True)
def watch(run_dir: Path) -> None:
    """Keep stack.json true; started by supervisord."""
    watch_events(run_dir)


@app.command(hidden=True)
def run_nginx(binary: Path, run_dir: Path, balancer: Balancer) -> None:
    """Become nginx; started by supervisord."""
    nginx.run(binary, run_dir, balancer)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """One line that tells the present step; on a terminal it goes away, else each step is a line."""
    if not console.is_terminal:
        yield lambda step: console.print(f"{step} ...", highlight=False)
        return
    with console.status("Starting ...") as status:
        yield lambda step: status.update(f"{step} ...")


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    yield


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """Run the command; one sentence instead of a traceback for what a person can mend."""
    errors = Console(stderr=True)
    try:
        app()
    except StackError as error:
        sentence = str(error)
    except OSError as error:
        # A write to a full disk names no file; any other error without one is a defect of ours.
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sentence = f"{error.strerror}: {error.filename or 'the disk of the run folder'}."
    else:
        return
    errors.print(sentence, soft_wrap=True, markup=False, highlight=False)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
