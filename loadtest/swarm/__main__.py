"""`scripts/swarm start | status | collect | stop`: its command line."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from kubernetes.client.exceptions import ApiException
from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.table import Table

from authsvc import __version__
from authsvc.commands.cluster import at_cluster
from authsvc.errors import OperatorError
from localstack.layout import ROOT
from outcome.command import run_command
from outcome.files import files_of
from outcome.plan import Arrival, EndpointName, Plan, ShapeName, plan_fault
from outcome.run import Run, RunError, read_run
from outcome.summary import summary
from outcome.thresholds import read_thresholds
from swarm import helm
from swarm.service import Service
from swarm.swarm import State, Swarm, names

POLL_SECONDS = 2.0
WORKER_CORES = "1"
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Runs of load in a cluster.")
console = Console()


def _checked(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,26}[a-z0-9])?", name):
        raise typer.BadParameter(f"{name!r} is no name for a run: a to z, 0 to 9 and -, 28 characters at most.")
    return name


Name = Annotated[str, typer.Argument(help="The run's name: a to z, 0 to 9 and -, 28 characters at most.", callback=_checked)]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of the release, instead of that of the context.")]
Thresholds = Annotated[Path | None, typer.Option(help="TOML file of gates (loadtest/profiles); a run fails where one is missed.")]
_PLAN = Plan()


@app.command()
def start(
    name: Name,
    namespace: Namespace = None,
    release: Annotated[str, typer.Option(help="The release of auth-service that is loaded.")] = "auth",
    endpoint: Annotated[EndpointName, typer.Option(help=Plan.model_fields["endpoint"].description)] = _PLAN.endpoint,
    shape: Annotated[ShapeName, typer.Option(help=Plan.model_fields["shape"].description)] = _PLAN.shape,
    arrival: Annotated[Arrival, typer.Option(help=Plan.model_fields["arrival"].description)] = _PLAN.arrival,
    users: Annotated[int, typer.Option(min=1, help=Plan.model_fields["users"].description)] = _PLAN.users,
    rate: Annotated[float, typer.Option(min=0.001, help=Plan.model_fields["rate"].description)] = _PLAN.rate,
    seconds: Annotated[int, typer.Option(min=2, help=Plan.model_fields["seconds"].description)] = 60,
    warm_up_seconds: Annotated[int, typer.Option(min=0, help=Plan.model_fields["warm_up_seconds"].description)] = 5,
    workers: Annotated[int, typer.Option(min=1, max=100, help="Pods that make load.")] = 2,
    worker_cpu: Annotated[str, typer.Option(help="CPU of each; it measures itself where it is throttled.")] = WORKER_CORES,
    thresholds: Thresholds = None,
    image: Annotated[str, typer.Option(help="Image built from loadtest/Dockerfile.")] = f"auth-service-load:{__version__}",
    detach: Annotated[bool, typer.Option("--detach", help="Return at once, instead of showing the run to its end.")] = False,
) -> None:
    """Begin a run, show it to its end, print its report. Ctrl-C ends it and cleans up."""
    try:
        plan = Plan(
            endpoint=endpoint, shape=shape, arrival=arrival, users=users, rate=rate, seconds=seconds, warm_up_seconds=warm_up_seconds
        )
    except ValidationError as error:
        raise RunError(plan_fault(error)) from error
    if thresholds is not None:
        read_thresholds(thresholds)
    with at_cluster(namespace) as cluster:
        swarm, service = Swarm(cluster, name), Service(cluster, release)
        values = {
            "image": helm.image(image),
            "target": {"url": service.url(), "release": release, "clientsSecret": swarm.secret_name},
            "plan": {to_camel(field): value for field, value in plan.model_dump().items()},
            "workers": workers,
            "workerResources": {kind: {"cpu": worker_cpu, "memory": "256Mi"} for kind in ("requests", "limits")},
            "thresholds": thresholds.read_text(encoding="utf-8") if thresholds is not None else "",
            "environment": service.place() | {"generators": f"{workers} with {worker_cpu} CPU"},
        }
        swarm.claim(release)
        console.print(f"{name} {plan.ceiling}.", highlight=False, soft_wrap=True)
        try:
            with console.status("Making the run's clients ..."):
                swarm.keep_clients(service.add_clients(_client_of(name)))
            helm.install(swarm.release_name, cluster.namespace, values)
            if detach:
                hint = f"`scripts/swarm status {name} -n {cluster.namespace}` shows it; its pods and clients stay until `stop`."
                console.print(f"It runs; {hint}", highlight=False, soft_wrap=True)
                return
            state = _follow(swarm)
            _report(swarm, state)
        except KeyboardInterrupt:
            console.print("\nEnding the run ...")
            _clean(swarm, service)
            has = (
                f"`scripts/swarm collect {name} -n {cluster.namespace}` has what it gave" if swarm.exists() else "it had not given anything"
            )
            console.print(f"The run was cut off and its pods and clients are gone; {has}.", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
        except BaseException:
            _clean(swarm, service)
            raise
        _clean(swarm, service)
    if state.phase != "complete":
        raise typer.Exit(1)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A run; without it all of them are listed.", callback=_checked)] = None,
    namespace: Namespace = None,
) -> None:
    """Show a run to its end, or list all of them."""
    with at_cluster(namespace) as cluster:
        if name is not None:
            swarm = Swarm(cluster, name)
            state = _follow(swarm)
            _report(swarm, state)
            if state.phase not in ("complete", "kept"):
                raise typer.Exit(1)
            return
        table = Table("run", "state", "right answers", "wrong", "began", box=None)
        for each in names(cluster):
            state = Swarm(cluster, each).state()
            counts = ("", "") if state.run is None else (f"{state.run.requests - state.run.wrong_count:,}", f"{state.run.wrong_count:,}")
            table.add_row(each, state.phase, *counts, "" if state.began is None else f"{state.began:%Y-%m-%d %H:%M}")
        console.print(table if table.row_count else "There are no runs in this namespace.")


@app.command()
def collect(
    name: Name,
    namespace: Namespace = None,
    to: Annotated[Path | None, typer.Option(help="Folder; by default .run/load/NAME.")] = None,
    thresholds: Thresholds = None,
    before: Annotated[Path | None, typer.Option(help="run.json of an earlier run of the same plan and place, to compare with.")] = None,
    single: Annotated[Path | None, typer.Option(help="run.json of the same plan with fewer instances: how the rate scales.")] = None,
) -> None:
    """Write what a run kept into a folder: the page, the summary, JSON and CSV. Its pods may be gone."""
    folder = to or ROOT / ".run" / "load" / name
    with at_cluster(namespace) as cluster:
        files = Swarm(cluster, name).files()
    if thresholds or before or single:
        run = Run.model_validate_json(files["run.json"])
        gates = read_thresholds(thresholds) if thresholds else None
        files = files_of(run, gates, *(read_run(file) if file else None for file in (before, single)))
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    console.print(f"{folder}: {', '.join(sorted(files))}", highlight=False, soft_wrap=True)


@app.command()
def stop(
    name: Name,
    namespace: Namespace = None,
    forget: Annotated[bool, typer.Option("--forget", help="Delete its results, too.")] = False,
) -> None:
    """End a run wherever it stands, and remove its pods and clients. What it gave stays."""
    with at_cluster(namespace) as cluster:
        swarm = Swarm(cluster, name)
        if not swarm.exists():
            raise RunError(f"There is no run {name} in the namespace {cluster.namespace}.")
        release = swarm.release()
        with console.status("Ending the run ..."):
            _clean(swarm, Service(cluster, release) if release is not None else None)
            if forget:
                swarm.forget_results()
    said = "It is gone." if forget else f"It has ended; `scripts/swarm collect {name} -n {cluster.namespace}` has what it gave."
    console.print(said, highlight=False, soft_wrap=True)


def _client_of(name: str) -> str:
    return f"loadtest-{name}"


def _clean(swarm: Swarm, service: Service | None) -> None:
    """Every step is tried, and the first that failed is told. Clients go last: what still runs must not be refused for want of them."""
    steps: list[Callable[[], None]] = [swarm.stop_pods, swarm.forget_clients]
    if service is not None:
        steps.insert(1, partial(service.delete_clients, _client_of(swarm.name)))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    failed: Exception | None = None
    try:
        for step in steps:
            try:
                step()
            except (RunError, OperatorError, ApiException) as error:
                failed = failed or error
    finally:
        signal.signal(signal.SIGINT, before)
    if failed is not None:
        raise failed


def _follow(swarm: Swarm) -> State:
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            state = swarm.state()
            if state.is_over:
                return state
            live.update(_shown(state), refresh=True)
            if not console.is_terminal:
                console.print(", ".join(f"{what} {value}" for what, value in _facts(state)), highlight=False, soft_wrap=True)
            time.sleep(POLL_SECONDS)


def _shown(state: State) -> RenderableType:
    table = Table("", "", box=None, show_header=False)
    for what, value in _facts(state):
        table.add_row(what, value)
    return table


def _facts(state: State) -> list[tuple[str, str]]:
    facts = [(state.name, state.phase), ("workers", str(state.workers))]
    if state.run is None or not state.run.points:
        return facts
    run, point = state.run, state.run.points[-1]
    whole = run.points[-2] if len(run.points) > 1 else point
    facts.append(("second", f"{point.at_seconds} of {run.plan.seconds}"))
    facts.append(
        ("requests/s", f"{sum(whole.requests.values()):,}" + ("" if whole.offered is None else f" of {whole.offered:,.0f} offered"))
    )
    facts.append(("p99", "" if whole.p99_ms is None else f"{whole.p99_ms:.1f} ms"))
    facts.append(("wrong", f"{run.wrong_count:,}"))
    replicas = _last_replicas(run)
    return facts if replicas is None else [*facts, ("auth pods ready", str(replicas))]


def _last_replicas(run: Run) -> int | None:
    return next((point.replicas for point in reversed(run.points) if point.replicas is not None), None)


def _report(swarm: Swarm, state: State) -> None:
    if state.run is None:
        raise RunError(f"The run {state.name} gave nothing: {state.reason or 'it has kept nothing'}. {swarm.last_words()}".rstrip())
    text = swarm.files().get("summary.md") or summary(state.run)
    console.print(Markdown(text))
    if state.reason:
        console.print(f"The run {state.phase}: {state.reason}.", style="red", highlight=False, soft_wrap=True)


def main() -> None:
    """Run it."""
    run_command(app, "scripts/swarm", OperatorError)


if __name__ == "__main__":
    main()
