"""docs/settings.md, written from the settings themselves: every variable, its default and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from authsvc.settings import PREFIX, SECRETS, Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"

_INTRODUCTION = f"""\
# Settings

<!-- Written by scripts/generate-docs from service/authsvc/settings.py: change it there. -->

Every setting is an environment variable that is read once, at the start. An unknown `{PREFIX}*` variable or a bad value stops
the start with one sentence that names it.

A variable with a `_FILE` form may instead be read from the file that `{PREFIX}..._FILE` names, white space around the value
ignored; setting both is refused. `{PREFIX}TOKEN_KEY` has no default and `serve` does not start without it.

| variable | default | meaning |
|---|---|---|
"""

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most"}


def render() -> str:
    """The page as it must stand in docs/settings.md."""
    return _INTRODUCTION + "".join(_row(name.upper(), field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    variable = f"`{PREFIX}{name}`"
    if name in SECRETS:
        variable += f" or `{PREFIX}{name}_FILE`"
    meaning = " ".join(filter(None, (field.description, _values(field))))
    return f"| {variable} | {_default(field.default)} | {meaning} |\n"


def _default(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(field: FieldInfo) -> str:
    """The values that are taken, where they are a range or a choice."""
    if get_origin(field.annotation) is Literal:
        return f"One of {', '.join(f'`{choice}`' for choice in get_args(field.annotation))}."
    bounds = {word: getattr(part, bound) for part in field.metadata for bound, word in _BOUNDS.items() if hasattr(part, bound)}
    if set(bounds) == {"at least", "at most"}:
        return f"{bounds['at least']} to {bounds['at most']}."
    return ", ".join(f"{word} {bound}" for word, bound in bounds.items()).capitalize() + "." if bounds else ""


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
