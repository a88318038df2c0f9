"""The pages of docs/runbooks as a shell and Prometheus read them: commands, with the first line's variables put in, and queries."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from alert_rules import PAGES

ALL = sorted(PAGES.glob("*.md"))
FIRST = "NAMESPACE=auth RELEASE=auth WRITER=statefulset   # WRITER=deployment where Oracle is the record store"


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of a page; what stands behind a pipe or `;` is a command of its own."""
    first, *others = [line for block in _blocks(page, "sh") for line in _lines(block)]
    assert first == FIRST, f"{page.name} begins with other variables"
    variables = dict(word.split("=") for word in FIRST.partition("#")[0].split())
    for line in others:
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        assert "$" not in line, f"{page.name}: {line} has a variable that the first line does not set"
        yield from _split(shlex.split(line, comments=True))


def queries(page: Path) -> list[str]:
    """Its PromQL."""
    return [line for block in _blocks(page, "promql") for line in block.splitlines()]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def _lines(block: str) -> Iterator[str]:
    """Whole commands: one that quotes a program goes on until the quote ends."""
    begun = ""
    for line in block.splitlines():
        begun += line
        try:
            shlex.split(begun, comments=True)
        except ValueError:
            begun = (begun + "\n").replace("\\\n", " ")
            continue
        yield begun
        begun = ""
    assert not begun, f"a quote is not closed: {begun}"


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in words:
        if word == "|" or word.endswith(";"):
            yield [*command, word.removesuffix(";")] if word != "|" else command
            command = []
        else:
            command.append(word)
    yield command
