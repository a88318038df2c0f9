"""The figures as text: a head line, and a table each for endpoints, what is shared, and processes; whole at 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from view.figures import EndpointFigures, Figures, ProcessFigures, Shared

_MIB = 1 << 20
_SMALLEST_SHOWN = 0.05


def shown(figures: Figures) -> RenderableType:
    """All of it. Processes come last, because there may be more of them than the terminal has lines."""
    return Group(
        _head(figures),
        Text(),
        _endpoints(figures.endpoints),
        Text(),
        _shared(figures.shared),
        Text(),
        _processes(figures.processes),
    )


def trouble(sentence: str) -> RenderableType:
    """Instead of the figures, while there are none."""
    return Text(sentence, "red")


def _head(figures: Figures) -> Text:
    well = all(fact.well for fact in figures.facts)
    rates = "no rates yet" if figures.seconds is None else f"rates and times of the last {figures.seconds:.0f} s"
    head = Text(f"{figures.place}; {rates}\n")
    head.append("well: " if well else "NOT WELL: ", "bold green" if well else "bold red")
    amiss = ", ".join(fact.text for fact in figures.facts if not fact.well)
    rest = ", ".join(fact.text for fact in figures.facts if fact.well)
    return head.append(amiss, "red").append("; " if amiss and rest else "").append(rest)


def _endpoints(rows: list[EndpointFigures]) -> Table:
    table = _table("endpoint", "requests/s", "p50 ms", "p99 ms", "4xx/s", "429/s", "5xx/s")
    for row in rows:
        table.add_row(
            row.name,
            _rate(row.requests),
            _milliseconds(row.p50_seconds),
            _milliseconds(row.p99_seconds),
            _rate(row.refused),
            _bad(row.shed),
            _bad(row.failed),
            style="bold" if row.name == "all" else "",
        )
    return table


def _processes(rows: list[ProcessFigures]) -> Table:
    # Names of pods are long: what is beside them is narrow.
    table = _table("process", "req/s", "in flight", "cores", "Redis", gap=1)
    table.add_column("")
    for row in rows:
        redis = Text("-") if row.redis_up is None else Text("up") if row.redis_up else Text("down", "red")
        cores = "-" if row.cpu_cores is None else f"{row.cpu_cores:.2f}"
        table.add_row(row.name, _rate(row.requests), _count(row.in_flight), cores, redis, Text(row.state, "red"))
    return table


def _shared(shared: Shared) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    used, most = shared.memory_bytes, shared.memory_max_bytes
    share = f" ({100 * used / most:.0f} %)" if used is not None and most else ""
    connections = (shared.connections_open, shared.connections_idle, shared.connections_waiting)
    table.add_row("live tokens", _count(shared.live_tokens))
    table.add_row("Redis memory", f"{_mebibytes(used)} of {_mebibytes(most)} MiB{share}")
    entries, limit = _count(shared.backlog_entries), _count(shared.backlog_limit_entries)
    table.add_row("backlog", f"{entries} of {limit} entries, the oldest {_seconds(shared.backlog_age_seconds)}")
    table.add_row("records", f"{_rate(shared.rows)} rows/s written, {_count(shared.poison_entries)} set aside as poison")
    table.add_row("DB connections", "{} open, {} idle, {} waiting".format(*map(_count, connections)))
    return table


def _table(first: str, *others: str, gap: int = 2) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    for other in others:
        table.add_column(other, justify="right", no_wrap=True)
    return table


def _rate(value: float | None) -> str:
    """Never 0 for what is not nothing."""
    if value is None:
        return "-"
    return "<0.1" if 0 < value < _SMALLEST_SHOWN else f"{value:,.1f}"


def _bad(value: float | None) -> Text:
    return Text(_rate(value), "red" if value else "")


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:,.1f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} s"


def _mebibytes(value: float | None) -> str:
    return "-" if value is None else f"{value / _MIB:,.0f}"
