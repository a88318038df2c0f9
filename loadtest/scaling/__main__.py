"""`scripts/scale-test`: one release with 1, 2 and 4 pods, driven to saturation; its record, its page, and nothing left in the cluster."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from authsvc import __version__
from authsvc.commands.cluster import Cluster, at_cluster
from authsvc.errors import OperatorError
from localstack.layout import ROOT
from outcome.command import run_command
from outcome.plan import plan_fault
from outcome.run import RunError
from scaling import measure, page
from scaling.load import Load
from scaling.plan import ScalePlan
from scaling.record import Record, open_record, write_record
from scaling.release import Release
from swarm import helm

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()
_PLAN = ScalePlan()


def _named(namespace: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", namespace):
        raise typer.BadParameter(f"{namespace!r} is no name for a namespace.")
    return namespace


@app.command()
def scale_test(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Made for the test, and deleted.", callback=_named)] = "auth-scaling",
    image: Annotated[str, typer.Option(help="The service, as the nodes find it.")] = f"docker.io/library/auth-service:{__version__}",
    load_image: Annotated[
        str, typer.Option(help="The generator (loadtest/Dockerfile).")
    ] = f"docker.io/library/auth-service-load:{__version__}",
    rounds: Annotated[int, typer.Option(min=1, help="Over all numbers of pods; each takes some fifteen minutes.")] = _PLAN.rounds,
    seconds: Annotated[int, typer.Option(help="Of a row, warm-up included.")] = _PLAN.seconds,
    endpoints: Annotated[list[str], typer.Option("--only", help="Measure this endpoint alone; may be given again.")] = [],  # noqa: B006 - typer's form
    users: Annotated[int, typer.Option(min=1, help="Users that ask at once, for each pod.")] = _PLAN.users,
    auth_millicores: Annotated[int, typer.Option(min=20, help="Limit of each pod of auth.")] = _PLAN.auth_millicores,
    step_seconds: Annotated[int, typer.Option(min=10, help="Length of the load while pods come and go.")] = _PLAN.step_seconds,
    autoscaled_seconds: Annotated[
        int, typer.Option(min=0, help="Length of the load under the autoscaler; 0: without it.")
    ] = _PLAN.autoscaled_seconds,
    folder: Annotated[Path, typer.Option(help="Where the record is kept.")] = ROOT / ".run" / "scaling",
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever the folder has.")] = False,
    note: Annotated[str, typer.Option(help="A sentence for the page: what else went on, say.")] = "",
    publish: Annotated[bool, typer.Option("--publish", help="Write docs/scaling.json, its page and plots, too.")] = False,
) -> None:
    """Measure how the rate grows with pods. Cut off, it goes on where it stopped. Exit 1 where an answer was wrong."""
    try:
        plan = ScalePlan.model_validate(
            {
                "rounds": rounds,
                "seconds": seconds,
                "endpoints": endpoints or _PLAN.endpoints,
                "users": users,
                "auth_millicores": auth_millicores,
                "step_seconds": step_seconds,
                "autoscaled_seconds": autoscaled_seconds,
            }
        )
    except ValidationError as error:
        raise RunError(plan_fault(error)) from error
    kept = folder / "record.json"
    if fresh:
        kept.unlink(missing_ok=True)
    record = open_record(kept, plan, datetime.now(UTC))
    record.note = note or record.note
    if not is_whole(record):
        try:
            with at_cluster(namespace) as cluster, _released(cluster, plan, helm.image(image)) as release:
                complete(record, kept, cluster, release, helm.image(load_image))
        except KeyboardInterrupt:
            console.print("\nCut off, and the namespace is gone; the same command goes on where it stopped.")
            raise typer.Exit(130) from None
    for name, text in page.files(record).items():
        (folder / name).write_text(text, encoding="utf-8")
    console.print(f"Record and page: {folder}", highlight=False, soft_wrap=True)
    if faults := record.faults():
        raise RunError("\n".join([*faults, "--fresh begins anew."]))
    if publish:
        console.print(f"Published: {', '.join(str(file) for file in page.publish(record))}", highlight=False, soft_wrap=True)


def is_whole(record: Record) -> bool:
    """Whether nothing is left to be measured."""
    return not record.missing() and bool(record.steps) and (record.autoscaled is not None or not record.plan.autoscaled_seconds)


def complete(record: Record, kept: Path, cluster: Cluster, release: Release, load_image: dict[str, str]) -> None:
    """Measure what the record lacks; it is kept after each part."""
    plan = record.plan
    load = Load(cluster, plan, load_image)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(list(plan.in_order())) + 2, completed=len(record.rows))

        def note(words: str, advance: int = 0) -> None:
            progress.update(task, description=words, advance=advance)
            if not console.is_terminal:
                console.print(words, highlight=False, soft_wrap=True)

        load.make_clients()
        record.be_of(load.place() | {"service": __version__})
        if not record.idle:
            note("At rest")
            record.idle = measure.idle(cluster)
        pods = 0
        for key in record.missing():
            if key.pods != pods:
                note(f"Bringing the release to {key.pods} pods")
                release.scale(key.pods)
                release.hold()
                pods = key.pods
            row = measure.row(cluster, load, release, plan, key)
            record.rows.append(row)
            write_record(record, kept)
            note(f"Round {key.round}, {key.pods} pods, {key.endpoint}: {row.rate:,.0f} requests/s", 1)
        if not record.steps:
            note("Bringing the release to one new pod")
            release.scale(0)
            release.scale(1)
            record.steps = measure.steps(load, release, plan, note)
            write_record(record, kept)
        progress.advance(task)
        if record.autoscaled is None and plan.autoscaled_seconds:
            note("Under the autoscaler")
            record.autoscaled = measure.autoscaled(load, release, plan)
            write_record(record, kept)


@contextmanager
def _released(cluster: Cluster, plan: ScalePlan, image: dict[str, str]) -> Iterator[Release]:
    release = Release(cluster, plan, image)
    try:
        with console.status(f"Installing the release in {cluster.namespace} ..."):
            release.install()
        yield release
    finally:
        # A second Ctrl-C must not leave half of it behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with console.status(f"Deleting the namespace {cluster.namespace} ..."):
                release.delete()
        finally:
            signal.signal(signal.SIGINT, before)


def main() -> None:
    """Run it."""
    run_command(app, "scripts/scale-test", OperatorError)


if __name__ == "__main__":
    main()
