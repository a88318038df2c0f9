"""`scripts/simulate-autoscaler`: what the rendered autoscaler would do under a load, as lines, a verdict and a chart."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from autoscaling.manifest import Autoscaler, cores, read_autoscaler
from autoscaling.simulation import Clocks, Moment, Pods, judge, simulate
from outcome.chart import time_chart
from outcome.command import run_command
from outcome.page import STYLE
from outcome.run import RunError, write_text
from outcome.series import Line, TimeChart

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


@app.command()
def simulate_autoscaler(
    manifests: Annotated[
        Path, typer.Argument(help="YAML, or a folder of it, with an autoscaler and its Deployment; - for standard input.")
    ],
    load: Annotated[str, typer.Option(help="Cores that the load needs, from which second on: 0:0.5,60:4.5,1200:0.5")],
    seconds: Annotated[int, typer.Option(min=60, max=86_400, help="Length.")] = 3600,
    replicas: Annotated[int | None, typer.Option(min=1, help="Pods at the beginning; else the fewest.")] = None,
    start_seconds: Annotated[int, typer.Option(min=0, help="From a new pod to its readiness.")] = Clocks().start,
    found_seconds: Annotated[int, typer.Option(min=0, help="From there until nginx sends to it (nginx.dnsTtlSeconds).")] = Clocks().found,
    component: Annotated[str, typer.Option(help="Whose autoscaler: the last part of its name, auth or nginx.")] = "auth",
    per_core: Annotated[
        list[str] | None,
        typer.Option(help="Of a metric of the pods, for every core in use: auth_service_requests_per_second=20000. Else it is missing."),
    ] = None,
    chart: Annotated[Path | None, typer.Option(help="Write a chart of load and replicas to this HTML file.")] = None,
) -> None:
    """Exit 1 where the load is more than the pods can do for longer than two minutes at a time, or they go to and fro by themselves."""
    autoscaler, pods = read_manifests(sys.stdin.read() if str(manifests) == "-" else _text(manifests), component)
    pods = pods._replace(per_core=read_per_core(per_core or ()))
    for name in missing(autoscaler, pods):
        console.print(f"{name} is missing, so no pod is taken away: say --per-core {name}=... to have it.", highlight=False)
    clocks = Clocks()._replace(start=start_seconds, found=found_seconds)
    moments = simulate(autoscaler, pods, read_load(load), seconds, replicas=replicas, clocks=clocks)
    for line in _lines(moments):
        console.print(line, highlight=False)
    verdict = judge(moments)
    capacity = "never" if verdict.seconds_to_capacity is None else f"{verdict.seconds_to_capacity} s"
    console.print(
        f"Too little for {verdict.short_seconds} s, at longest enough again after {capacity}; {verdict.turns} changes of direction, "
        f"{verdict.flaps} of them up again without more load; "
        f"at most {verdict.most_removed_in_a_minute:.0%} of the pods removed in a minute.",
        highlight=False,
    )
    if chart is not None:
        write_text(chart, page(moments))
    if verdict.seconds_to_capacity is None or verdict.seconds_to_capacity > 120 or verdict.flaps:
        raise typer.Exit(1)


def missing(autoscaler: Autoscaler, pods: Pods) -> list[str]:
    """Metrics of which nothing is known."""
    return [each.name for each in autoscaler.metrics if each.kind == "AverageValue" and each.name not in pods.per_core]


def read_per_core(words: Sequence[str]) -> dict[str, float]:
    """`NAME=VALUE` each."""
    try:
        return {name: float(value) for name, _, value in (word.partition("=") for word in words)}
    except ValueError:
        raise RunError(f"A metric is not of the form NAME=VALUE: {', '.join(words)}.") from None


def read_manifests(text: str, component: str = "auth") -> tuple[Autoscaler, Pods]:
    """The autoscaler of a component and what its pods may use; RunError where one of the two is missing."""
    try:
        objects = [each for each in yaml.safe_load_all(text) if isinstance(each, dict)]
    except yaml.YAMLError as error:
        raise RunError(f"The manifests are no YAML: {' '.join(str(error).split())}") from error
    scalers = [each for each in objects if each.get("kind") == "HorizontalPodAutoscaler"]
    found = next((each for each in scalers if each["metadata"]["name"].endswith(f"-{component}")), None)
    if found is None:
        raise RunError(f"The manifests hold no HorizontalPodAutoscaler of {component}: render them with {component}.autoscaling.enabled.")
    target = found["spec"]["scaleTargetRef"]
    wanted = (target["kind"], target["name"])
    matching = [each for each in objects if (each.get("kind"), each.get("metadata", {}).get("name")) == wanted]
    if not matching:
        raise RunError(f"The manifests hold no {target['kind']} {target['name']}, which the autoscaler scales.")
    resources = matching[0]["spec"]["template"]["spec"]["containers"][0].get("resources", {})
    request, limit = ((resources.get(part) or {}).get("cpu") for part in ("requests", "limits"))
    if limit is None:
        raise RunError(f"The {target['kind']} {target['name']} has no CPU limit, so what a pod can do is not known.")
    # Kubernetes, too, takes the limit where no request is said.
    return read_autoscaler(found), Pods(cores(limit if request is None else request), cores(limit))


def read_load(words: str) -> Callable[[int], float]:
    """`second:cores,...`, each from its second on."""
    try:
        steps = sorted((int(second), float(amount)) for second, _, amount in (word.partition(":") for word in words.split(",")))
    except ValueError:
        raise RunError(f"The load {words!r} is not of the form 0:0.5,60:4.5.") from None
    if steps[0][0] != 0:
        raise RunError(f"The load {words!r} does not begin at second 0.")
    return lambda now: next(amount for second, amount in reversed(steps) if second <= now)


def page(moments: list[Moment]) -> str:
    """The chart by itself."""
    demand = [Line("load", [each.demand_cores for each in moments]), Line("capacity", [each.capacity_cores for each in moments], True)]
    pods = [Line("pods", [each.replicas for each in moments]), Line("serving", [each.serving for each in moments], True)]
    at = [float(each.at) for each in moments]
    charts = [
        TimeChart(what, unit, at, lines, at[-1] + 1, 0.0, True) for what, unit, lines in (("Load", "cores", demand), ("Pods", "pods", pods))
    ]
    title = html.escape("What the autoscaler would do")
    head = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"{head}<body><main><h1>{title}</h1>{''.join(time_chart(each) for each in charts)}</main></body></html>\n"


def _lines(moments: list[Moment]) -> list[str]:
    changes = [moments[0], *(later for earlier, later in pairwise(moments) if later[1:4] != earlier[1:4])]
    return [f"{each.at:>6} s  load {each.demand_cores:.2f} cores, {each.replicas} pods, {each.serving} serving" for each in changes]


def _text(file: Path) -> str:
    try:
        files = sorted(file.glob("*.yaml")) if file.is_dir() else [file]
        return "\n---\n".join(each.read_text(encoding="utf-8") for each in files)
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from error


def main() -> None:
    """Run it."""
    run_command(app, "scripts/simulate-autoscaler")


if __name__ == "__main__":
    main()
