"""Presets: demands with a name, and the chart's values for each, written into charts/auth-service/sizes."""

from __future__ import annotations

from pathlib import Path

import yaml

from outcome import baseline
from sizing.costs import costs
from sizing.demand import Demand
from sizing.footprint import kept_footprint
from sizing.size import Sizing, size

BASELINE = "two-cores"
FOLDER = Path(__file__).resolve().parents[2] / "charts" / "auth-service" / "sizes"
_GUIDE = Demand(validate_=30_000, token=15_000, ott=5_000, revoke=30_000, health=50_000)
"""What the original guide wants of four instances."""


def _times(factor: float) -> Demand:
    return _GUIDE.model_copy(update={name: getattr(_GUIDE, name) * factor for name in ("validate_", "token", "ott", "revoke", "health")})


PRESETS = {
    "dev": Demand(validate_=100, token=20, ott=5, revoke=5, headroom=1, outage_minutes=10, connections=100, store="embedded"),
    "1x": _times(0.25),
    "4x": _GUIDE,
    "10x": _times(2.5),
}
"""1x, 4x and 10x are in instances of the guide, with Oracle: its URL and Secret are for whoever installs them to say."""


def values_file(demand: Demand, found: Sizing, source: str) -> str:
    """A values file that says what it is for, and where the costs of a request come from."""
    asked = ", ".join(f"{endpoint} {rate:,.0f}" for endpoint, rate in demand.rates().items() if rate)
    head = [
        f"Sized by scripts/size from {source} for requests/s of {asked}; headroom {demand.headroom:g}.",
        f"First to give out: {found.bottleneck}",
    ]
    if demand.store == "oracle":
        head.append(
            "Say oracle.url beside it: without, the chart refuses this. The password is in the Secret oracle, or say oracle.existingSecret."
        )
    head += found.advice
    return "".join(f"# {line}\n" for line in head) + str(yaml.safe_dump(found.values, sort_keys=False))


def written() -> dict[Path, str]:
    """Every preset's file."""
    each, footprint = costs(baseline.baseline(BASELINE)), kept_footprint()
    return {
        FOLDER / f"{name}.yaml": values_file(demand, size(demand, each, footprint), f"the baseline {BASELINE}")
        for name, demand in PRESETS.items()
    }


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
