"""docs/scaling.md and its plots, written from docs/scaling.json: what `scripts/scale-test --publish` kept there."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from outcome import baseline, scale, words
from outcome.run import read_kept
from scaling.findings import Cell, Prediction, cells, costs_of_rows, predictions
from scaling.plan import COMPONENTS
from scaling.plot import Curve, Panel, draw
from scaling.record import Record, Timeline
from sizing.costs import costs, costs_text
from sizing.presets import BASELINE

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECORD, PAGE, PLOT, AUTOSCALER = (DOCS / name for name in ("scaling.json", "scaling.md", "scaling.svg", "scaling-autoscaler.svg"))
COSTS = DOCS / "scaling-costs.json"
TO_REACH = {"validate": 0.95, "token": 0.90}
"""Efficiency with the most pods."""
NEAR = 0.15
"""A prediction this far off is still good."""


def files(record: Record) -> dict[str, str]:
    """Every file that follows from a record, by its name in docs/."""
    found = {PAGE.name: page(record), PLOT.name: plot(record)}
    if own := costs_of_rows(record, record.plan.pods[-1]):
        found[COSTS.name] = costs_text(own)
    return found if record.autoscaled is None else found | {AUTOSCALER.name: autoscaler_plot(record.autoscaled)}


def page(record: Record) -> str:
    """The page as it must stand in docs/."""
    found = cells(record)
    most = record.plan.pods[-1]
    parts = [
        _head(record, found, most),
        _rates(record, found),
        _limits(found, most),
        _costs(record, found, most),
        _sizes(record, most),
        _steps(record),
        _autoscaled(record),
        _again(record),
    ]
    return "\n".join(part for part in parts if part)


def _head(record: Record, found: Mapping[str, Mapping[int, Cell]], most: int) -> str:
    plan = record.plan
    said = []
    for endpoint, wanted in TO_REACH.items():
        cell = found.get(endpoint, {}).get(most)
        if cell is not None:
            reached = "reached" if cell.efficiency >= wanted else "missed"
            said.append(f"{endpoint} {cell.efficiency:.2f} (to reach: {wanted:.2f}, {reached})")
    wrong = sum(row.wrong_count for row in record.rows) + sum(step.wrong for step in record.steps)
    wrong += sum(record.autoscaled.wrong) if record.autoscaled else 0
    counts = ", ".join(str(each) for each in plan.pods)
    place = ", ".join(f"{key} {value}" for key, value in record.environment.items())
    limits = f"nginx ({plan.nginx_millicores}), Redis ({plan.redis_millicores}) and the generator ({plan.generator_millicores})"
    note = f"\n**{record.note}**\n" if record.note else ""
    return f"""# Scaling

Written by `scripts/scale-test --publish` from its record of {record.started:%Y-%m-%d}: change nothing here.
{note}
One release in a cluster ({place}) with {counts} pods of auth. Each pod may use {plan.auth_millicores} millicores: so little
that {most} pods, {limits} fit the node together and auth is what gives out.
For each pod {plan.users} users ask again as soon as they were answered,
for {plan.seconds} s of which {plan.warm_up_seconds} are not counted;
{plan.rounds} rounds over all numbers of pods. Only right answers count, status and content; wrong ones in the whole test: {wrong}.

Efficiency is the rate of n pods over n times that of one. With {most} pods: {"; ".join(said) or "not measured"}.
"""


def _rates(record: Record, found: Mapping[str, Mapping[int, Cell]]) -> str:
    pods = record.plan.pods
    heads = [f"{number} pod{'s' if number > 1 else ''}" for number in pods]
    counts = ", ".join(str(number) for number in pods)
    efficiencies = [f"efficiency at {number}" for number in pods[1:]]
    lines = [
        "![Rate by pods, in rates of one pod](scaling.svg)",
        "",
        f"| requests/s | {' | '.join([*heads, *efficiencies, f'p99 ms at {counts}'])} |",
        f"|---|{'---:|' * (len(heads) + len(efficiencies) + 1)}",
    ]
    for endpoint, by_pods in found.items():
        known = [by_pods.get(number) for number in pods]
        rates = ["" if cell is None else f"{cell.rate.middle:,.0f} ({cell.rate.low:,.0f}-{cell.rate.high:,.0f})" for cell in known]
        parts = ["" if cell is None else f"{cell.efficiency:.2f}" for cell in known[1:]]
        times = ", ".join("" if cell is None else words.milliseconds(cell.p99_ms) for cell in known)
        lines.append(f"| {endpoint} | {' | '.join([*rates, *parts, times])} |")
    period_ms = record.plan.auth_millicores / 10
    note = f"""
In brackets the slowest and the fastest round. A row has every request that its plan needs: `ott` uses each token and tries it
again, `revoke` asks for a token first ([loadtest/](../loadtest/README.md#plans)). The p99 is that of a full house: a pod that has
used its {period_ms:g} ms of a period of 100 ms stands still until the next, and its users wait.
So `AUTH_QUEUE_WAIT_MS`, after which an instance refuses what waits, is 3000 here instead of 100.
"""
    return "\n".join(lines) + "\n" + note


def _limits(found: Mapping[str, Mapping[int, Cell]], most: int) -> str:
    lines = [
        "## What held the rate",
        "",
        f"Use of each one's limit with {most} pods, and the one that had nothing left.",
        "",
        f"| | {' | '.join(COMPONENTS)} | at its limit |",
        f"|---|{'---:|' * len(COMPONENTS)}---|",
    ]
    for endpoint, by_pods in found.items():
        if cell := by_pods.get(most):
            used = [f"{cell.used[name]:.0%}" if name in cell.used else words.UNKNOWN for name in COMPONENTS]
            lines.append(f"| {endpoint} | {' | '.join(used)} | {cell.bottleneck} |")
    return "\n".join(lines) + "\n"


def _costs(record: Record, found: Mapping[str, Mapping[int, Cell]], most: int) -> str:
    lines = [
        "## CPU of a request",
        "",
        f"Microseconds, with 1 and with {most} pods: what grows with pods would show here.",
        "",
        f"| | {' | '.join(COMPONENTS)} |",
        f"|---|{'---:|' * len(COMPONENTS)}",
    ]
    for endpoint, by_pods in found.items():
        ends = [by_pods[number].cost_us for number in (1, most) if number in by_pods]
        each = [", ".join(f"{cost[name]:.0f}" if name in cost else words.UNKNOWN for cost in ends) for name in COMPONENTS]
        lines.append(f"| {endpoint} | {' | '.join(each)} |")
    if record.idle:
        idle = ", ".join(f"{name} {cores * 1000:.1f}" for name, cores in record.idle.items())
        lines += ["", f"While nobody asks, one pod of each uses millicores: {idle}. That is in the figures above,"]
        lines += ["and weighs the more the smaller the limit is: " + _idle_share(record)]
    return "\n".join(lines) + "\n"


def _idle_share(record: Record) -> str:
    share = record.idle.get("auth", 0.0) * 1000 / record.plan.auth_millicores
    return f"of auth's {record.plan.auth_millicores} millicores it is {share:.0%}, of a whole core {record.idle.get('auth', 0.0):.1%}."


def _sizes(record: Record, most: int) -> str:
    own = costs_of_rows(record, most)
    by_own = predictions(record, own, most)
    by_baseline = predictions(record, costs(baseline.baseline(BASELINE)), most)
    if not by_baseline:
        return ""
    lines = [
        "## What `scripts/size` would have said",
        "",
        f"Cores in use under the mix that {most} pods answered: as they were, as `scripts/size --costs docs/scaling-costs.json`",
        f"reckons from what single endpoints cost in this very cluster with {most} pods and how much more than their sum a mix cost",
        "with fewer, and as it reckons from a baseline of other circumstances.",
        "",
        "| | measured | from these costs | off by | from the baseline " + BASELINE + " | off by |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for number, each in enumerate(by_baseline):
        mine = _prediction(by_own[number]) if by_own else f"{words.UNKNOWN} | {words.UNKNOWN}"
        lines.append(f"| {each.component} | {each.measured:.3f} | {mine} | {_prediction(each)} |")
    return "\n".join(lines) + "\n\n" + _why(by_own, by_baseline)


def _prediction(each: Prediction) -> str:
    return f"{each.predicted:.3f} | {words.change(1 + each.error)}"


def _why(by_own: list[Prediction], by_baseline: list[Prediction]) -> str:
    said = ""
    if by_own:
        off = [each.component for each in by_own if abs(each.error) > NEAR]
        said = (
            "These costs give the mix within 15 %.\n" if not off else f"These costs do not give the mix within 15 % for {', '.join(off)}.\n"
        )
    off = [each.component for each in by_baseline if abs(each.error) > NEAR]
    if off:
        said += f"The baseline, of instances, nginx and Redis that wrk drives without pause on whole cores, is off for {', '.join(off)}.\n"
    if dearer := [each.component for each in by_baseline if each.error < -NEAR]:
        said += f"""There one wake-up serves many requests; here fewer meet at a time, and what a pod uses at rest is a greater part.
So at a low rate a request costs more CPU than `scripts/size` says for {", ".join(dearer)}.
"""
    cheaper = [each.component for each in by_baseline if each.error > NEAR]
    return said + (f"A request costs less CPU than `scripts/size` says for {', '.join(cheaper)}.\n" if cheaper else "")


def _steps(record: Record) -> str:
    if not record.steps:
        return ""
    lines = [
        "## Pods that come and go",
        "",
        f"A mix of {record.plan.step_rate:g} requests/s that are not held back by slow answers, while the number of pods is changed.",
        _started(record),
        "",
        "| pods | took s | requests | wrong | longest p99 of a second, ms |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {step.before} to {step.after} | {step.seconds:.0f} | {step.requests:,} | {step.wrong} | {words.milliseconds(step.p99_ms)} |"
        for step in record.steps
    ]
    return "\n".join(lines) + "\n"


def _autoscaled(record: Record) -> str:
    line = record.autoscaled
    if line is None:
        return ""
    low = record.plan.autoscaled_rate / 5
    lines = [
        "## The autoscaler",
        "",
        f"A mix of {low:g} requests/s, {record.plan.autoscaled_rate:g} for the fifth of the time in the middle, and {low:g} again;",
        "one pod at least, four at most, each requests 50 millicores (the target is 60 % of them). On the way down the test waits for",
        "20 s, where the chart waits for five minutes.",
        _started(record),
        "",
        "![Load, answers and pods over time](scaling-autoscaler.svg)",
        "",
        "| second | pods | offered/s | answered/s | wrong so far | p99 ms |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for number in _changes(line):
        offered, pods = line.offered[number], line.pods[number]
        lines.append(
            f"| {line.at_seconds[number]} | {pods} | {words.UNKNOWN if offered is None else f'{offered:,.0f}'} | {line.answered[number]:,} "
            f"| {sum(line.wrong[: number + 1])} | {words.milliseconds(line.p99_ms[number])} |"
        )
    lines += ["", f"{sum(line.answered):,} right answers, {sum(line.wrong)} wrong."]
    return "\n".join(lines) + "\n"


def _started(record: Record) -> str:
    rows = record.plan.auth_millicores
    return f"Each pod of auth may use {record.plan.start_millicores} millicores here, not {rows} as in the rows above: it has to start."


def _changes(line: Timeline) -> list[int]:
    """Seconds at which another number of pods was seen, the first and the last that were looked at included."""
    looked = [number for number, pods in enumerate(line.pods) if pods is not None]
    changed = [now for before, now in pairwise(looked) if line.pods[before] != line.pods[now]]
    return sorted({*looked[:1], *changed, *looked[-1:]})


def _again(record: Record) -> str:
    return """## Again

    scripts/scale-test --publish       # in the cluster of KUBECONFIG; --help tells of images, rounds and limits

    scripts/size --costs .run/scaling/scaling-costs.json --validate 300 ...      # sizes from what your cluster showed

It makes a namespace, and deletes it whatever happens. Cut off, it goes on where it stopped when it is started again.
"""


def plot(record: Record) -> str:
    """Rate over that of one pod, by endpoint, beside what would be ideal."""
    pods = [float(number) for number in record.plan.pods]
    curves = [Curve("ideal", pods, is_dashed=True)]
    for endpoint, by_pods in cells(record).items():
        curves.append(Curve(endpoint, [cell.efficiency * number if (cell := by_pods.get(number)) else None for number in record.plan.pods]))
    return draw([Panel("Rate, in rates of one pod", pods, pods, "pods", curves)])


def autoscaler_plot(line: Timeline) -> str:
    """Load and answers above, pods below."""
    at = [float(each) for each in line.at_seconds]
    ticks = scale.clock_ticks(at[-1])
    offered = Curve("offered", line.offered, is_dashed=True)
    rates = [offered, Curve("answered", [float(each) for each in line.answered]), Curve("wrong", [float(each) for each in line.wrong])]
    pods = [Curve("ready pods", [None if each is None else float(each) for each in line.pods], has_steps=True)]
    return draw([Panel("Requests/s", at, ticks, "s", rates), Panel("Pods of auth", at, ticks, "s", pods)])


def publish(record: Record) -> list[Path]:
    """Keep the record in docs/ and write what follows from it."""
    RECORD.write_text(record.model_dump_json() + "\n", encoding="utf-8")
    for name, text in files(record).items():
        (DOCS / name).write_text(text, encoding="utf-8")
    return [DOCS / name for name in files(record)]


def main() -> None:
    """Write what follows from the record in docs/, where there is one."""
    if not RECORD.exists():
        return
    for name, text in files(read_kept(Record, RECORD, "is no record of a scale test")).items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
