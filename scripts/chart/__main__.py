"""`python -m chart`: write what follows from the values' models and from nginx/ into the charts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from chart.load import LoadValues
from chart.values import ChartValues
from chart.written import schema_json, table, values_yaml

ROOT = Path(__file__).resolve().parents[2]
CHART, LOAD_CHART = ROOT / "charts" / "auth-service", ROOT / "charts" / "loadtest"
BEGIN, END = "<!-- values: written by scripts/generate-docs -->\n", "<!-- end of values -->\n"


def written() -> dict[Path, str]:
    """Every file of the charts that is written, and what must stand in it."""
    files = _of_values(CHART, ChartValues()) | _of_values(LOAD_CHART, LoadValues())
    return files | {CHART / "files" / file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "nginx").glob("*.conf"))}


def _of_values(chart: Path, root: BaseModel) -> dict[Path, str]:
    readme = chart / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    return {
        chart / "values.yaml": values_yaml(root),
        chart / "values.schema.json": schema_json(root),
        readme: before + BEGIN + table(root) + END + rest.partition(END)[2],
    }


def main() -> None:
    """Write them."""
    for copy in (CHART / "files").glob("*.conf"):
        copy.unlink()
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
