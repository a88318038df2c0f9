"""A baseline: results that were found good, as a page for people, gates for later runs and values for alerts; one folder an environment."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from outcome import objectives
from outcome.noise import FALL
from outcome.results import Results, read_results, write_results
from outcome.run import RunError

BASELINES = Path(__file__).resolve().parents[1] / "baselines"
REPORT, GATES, MONITORING = "BASELINE_REPORT.md", "gates.toml", "monitoring.yaml"
P99_GROWTH = 1.5
"""What a gate allows of the baseline's p99: single runs differ more in it than medians of repeats."""


def keep(results: Results, name: str) -> Path:
    """Write the baseline's folder; RunError for results that are none, and where the baseline of this name is of another place."""
    check_name(name)
    if faults := results.faults():
        raise RunError(f"These results are no baseline. {' '.join(faults)}")
    if name in names() and baseline(name).environment != results.environment:
        raise RunError(f"The baseline {name} is of another environment: keep these under another name.")
    folder = BASELINES / name
    folder.mkdir(parents=True, exist_ok=True)
    write_results(results, folder)
    for file, text in derived(results, name).items():
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def check_name(name: str) -> None:
    """RunError for what is no name."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise RunError(f"{name!r} is no name for a baseline: a to z, 0 to 9 and -, 40 characters at most.")


def names() -> list[str]:
    """Of all baselines."""
    return sorted(folder.name for folder in BASELINES.iterdir() if folder.is_dir()) if BASELINES.exists() else []


def baseline(name: str) -> Results:
    """One of them."""
    return read_results(BASELINES / name)


def derived(results: Results, name: str) -> dict[str, str]:
    """The files that follow from the results."""
    files = {REPORT: report(results, name), GATES: gates(results, name)}
    # Where the CPU of the instances was not seen the alerts have nothing to compare with; report and gates stand without it.
    if objectives.can_tell(results):
        files[MONITORING] = objectives.values_file(results, name)
    return files


def report(results: Results, name: str) -> str:
    """BASELINE_REPORT.md."""
    lines = [
        f"# Baseline: {name}",
        "",
        f"Written by `loadtest/run_all_tests --size {results.size} --baseline {name}` on {results.started:%Y-%m-%d}.",
        "Only right answers count; each figure is the median of its repeats, with the lowest and highest.",
        "",
        "| plan | right answers/s | p50 ms | p99 ms | cores: " + ", ".join(_parts(results)) + " | |",
        "|---|---|---|---|---|---|",
    ]
    for row, repeats in results.rows.items():
        rates = sorted(each.rate for each in repeats)
        floor = "generator at its limit: a floor" if any(each.is_generator_limit for each in repeats) else ""
        p50, p99 = (_spread([getattr(each, field) for each in repeats]) for field in ("p50_ms", "p99_ms"))
        cores = ", ".join(f"{_middle([each.cpu_cores.get(part, 0.0) for each in repeats]):.2f}" for part in _parts(results))
        lines.append(f"| {row} | {_middle(rates):,.0f} ({rates[0]:,.0f}-{rates[-1]:,.0f}) | {p50} | {p99} | {cores} | {floor} |")
    lines += ["", "| environment | |", "|---|---|", f"| service | {results.version or 'unknown'} |"]
    lines += [f"| {key} | {value} |" for key, value in results.environment.items()]
    if results.left_out:
        lines += ["", *(f"Not measured: {each}" for each in results.left_out)]
    return "\n".join(lines) + "\n"


def gates(results: Results, name: str) -> str:
    """Thresholds that a run in the same environment must reach: a fifth below the rate, half above the p99."""
    lines = [f"# Written from the baseline {name}: {FALL:.0%} of its rates, {P99_GROWTH:.0%} of its p99.", "wrong_share_at_most = 0.0"]
    for row in results.rows:
        endpoint, _, arrival = row.partition(", ")
        own = endpoint != "mix"
        rate = results.median(row, "own_rate" if own else "rate")
        p99 = results.median(row, "own_p99_ms" if own else "p99_ms")
        if arrival == "closed" and rate is not None and p99 is not None:
            lines += ["", f"[endpoints.{endpoint}]", f"rate_at_least = {rate * FALL:.0f}"]
            lines.append(f"p99_ms_at_most = {p99 * P99_GROWTH:.1f}")
    return "\n".join(lines) + "\n"


def _parts(results: Results) -> list[str]:
    return sorted({part for repeats in results.rows.values() for each in repeats for part in each.cpu_cores})


def _middle(values: list[float]) -> float:
    return statistics.median(values)


def _spread(values: list[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return f"{_middle(known):.2f} ({known[0]:.2f}-{known[-1]:.2f})" if known else ""


def main() -> None:
    """Write what follows from each baseline's results, and from one of them the alerts' objectives."""
    for name in names():
        for file, text in derived(baseline(name), name).items():
            (BASELINES / name / file).write_text(text, encoding="utf-8")
    objectives.FILE.write_text(objectives.rules_file(baseline(objectives.BASELINE), objectives.BASELINE), encoding="utf-8")


if __name__ == "__main__":
    main()
