"""`python -m chart`: write what follows from the values' model and from nginx/ into the chart."""

from __future__ import annotations

import shutil
from pathlib import Path

from chart.written import schema_json, table, values_yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "auth-service"
BEGIN, END = "<!-- values: written by scripts/generate-docs -->\n", "<!-- end of values -->\n"


def written() -> dict[Path, str]:
    """Every file of the chart that is written, and what must stand in it."""
    readme = CHART / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    files = {
        CHART / "values.yaml": values_yaml(),
        CHART / "values.schema.json": schema_json(),
        readme: before + BEGIN + table() + END + rest.partition(END)[2],
    }
    return files | {CHART / "files" / file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "nginx").glob("*.conf"))}


def main() -> None:
    """Write them."""
    shutil.rmtree(CHART / "files", ignore_errors=True)
    (CHART / "files").mkdir()
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
