"""A process that has imported all of `authsvc` and forks a command for each line of orders that it reads."""

from __future__ import annotations

import gc
import json
import os
import sys

import authsvc.commands.main
import authsvc.records.migrate


def main() -> None:
    """An order has the command's words, its environment, and the base of the names of its standard streams' files."""
    # Else every command would visit all that was imported once more at its end: half a second.
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            become(order["environ"], order["base"])
            sys.argv = ["authsvc", *order["words"]]
            authsvc.commands.main.run()
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(environ: dict[str, str], base: str) -> None:
    """Take this environment and these standard streams."""
    os.environ.clear()
    os.environ.update(environ)
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, end, flags in ((0, "in", os.O_RDONLY), (1, "out", writing), (2, "err", writing)):
        opened = os.open(f"{base}.{end}", flags)
        os.dup2(opened, number)
        os.close(opened)
    # The buffer of the old one holds orders.
    sys.stdin = os.fdopen(0, closefd=False, encoding="utf-8")


if __name__ == "__main__":
    main()
