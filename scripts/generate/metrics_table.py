"""docs/metrics.md, written from the registries themselves: every metric of an instance and of the writer."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from authsvc.commands.write import WriterMetrics
from authsvc.metrics import ENDPOINTS, SECONDS_BUCKETS, SHED_REASONS, Counts, Metrics, described

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"

_INTRODUCTION = f"""\
# Metrics

<!-- Written by scripts/generate-docs from the registries in service/authsvc: change them there. -->

`GET /metrics` of the management port, in Prometheus's text format; the sum over all workers where an instance has several.
Hot paths add to plain integers that are moved into the registry once a second and at each scrape. Every label value is there from
the start, at zero. `endpoint` is one of {", ".join(f"`{name}`" for name in ENDPOINTS)}; `reason` of
`http_requests_shed_total` is {" or ".join(f"`{name}`" for name in SHED_REASONS)}. The buckets of a duration are powers of two
from {SECONDS_BUCKETS[0] * 1000:g} ms to {SECONDS_BUCKETS[-1]:g} s.

A worker that is killed takes up to a second of its counts with it; one that is stopped takes none. What instances and the writer
tell of the backlog and of Redis is at most a second old.
"""


def render() -> str:
    """The page as it must stand in docs/metrics.md."""
    return _INTRODUCTION + _table("Instance", Metrics(Counts()).registry) + _table("Writer", WriterMetrics().registry)


def _table(title: str, registry: CollectorRegistry) -> str:
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |\n"
        for name, kind, labels, meaning in described(registry)
    ]
    return f"\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n" + "".join(rows)


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
