"""`authsvc` commands by the dozen: processes forked off one that has imported everything, instead of a start of Python each.

A command has its own words, environment and standard streams, and ends with its own exit code, as from a shell.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from servers import service_environ

FORKS = Path(__file__).with_name("forked_commands.py")


class CommandLine:
    """Runs commands with the settings of `environ`. What they print is kept in `folder`."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.environ = {**service_environ(), "COLUMNS": "200", **environ}
        self._folder = folder
        self._numbers = itertools.count()
        self._forks = subprocess.Popen(
            [sys.executable, "-P", str(FORKS)], env=service_environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *words: str, stdin: str = "", without: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `authsvc WORDS` with these settings besides; whatever happens, there is no traceback."""
        base = self._folder / f"command-{next(self._numbers)}"
        Path(f"{base}.in").write_text(stdin, encoding="utf-8")
        changed = {f"AUTH_{name.upper()}": value for name, value in settings.items()}
        environ = {name: value for name, value in {**self.environ, **changed}.items() if name != without}
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        self._forks.stdin.write(json.dumps({"words": words, "environ": environ, "base": str(base)}) + "\n")
        self._forks.stdin.flush()
        code = int(self._forks.stdout.readline())
        out, err = (Path(f"{base}.{end}").read_text(encoding="utf-8") for end in ("out", "err"))
        assert "Traceback" not in out + err, out + err
        return subprocess.CompletedProcess(words, code, out, err)

    def good(self, *words: str, **more: str) -> str:
        """What a command prints that succeeds and has nothing to complain of."""
        done = self.run(*words, **more)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def json(self, *words: str, **more: str) -> Any:
        """What such a command prints with `--json`: one line."""
        text = self.good(*words, "--json", **more)
        assert text.count("\n") == 1
        return json.loads(text)

    def refused(self, *words: str, **more: str) -> str:
        """The one sentence of a command that fails, and prints nothing else."""
        done = self.run(*words, **more)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.endswith("\n")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.rstrip("\n")

    def close(self) -> None:
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        self._forks.stdin.close()
        self._forks.stdout.close()
        self._forks.wait()
