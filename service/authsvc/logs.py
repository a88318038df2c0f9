"""Logs: JSON lines on standard error, for our own events and for those of the libraries below us."""

from __future__ import annotations

import logging
import mmap
import struct
import sys
import time
from typing import Any, get_args

import structlog

from authsvc.settings import LevelName

LEVELS: tuple[LevelName, ...] = get_args(LevelName)
MOST_LEVEL_SECONDS = 3600
"""A level that was asked for ends by itself, at the latest after so long."""
NOISY = ("alembic", "asyncio", "sqlalchemy")
"""Libraries that tell at level info what interests nobody here."""
SERVERS = ("gunicorn.error", "uvicorn.error")
"""Their loggers have a level of their own."""
_ASKED_FOR = struct.Struct("=Id")

log = structlog.get_logger(__name__)


def _processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]


def handler() -> logging.Handler:
    """A handler that writes one JSON object a line to standard error."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_processors(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        )
    )
    return stream


def configure(level: str) -> None:
    """Send everything from `level` up to standard error as JSON lines."""
    root = logging.getLogger()
    root.handlers = [handler()]
    _set(level)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _set(level: str) -> None:
    root = logging.getLogger()
    root.setLevel(level.upper())
    for server in SERVERS:
        logging.getLogger(server).setLevel(root.level)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


class LogLevel:
    """The level from which the processes of one instance log: the configured one, or for a while another.

    What is asked for lies in memory that forked processes share; each follows it by itself.
    """

    def __init__(self, configured: LevelName) -> None:
        self._configured = configured
        self._shared = mmap.mmap(-1, _ASKED_FOR.size)
        self.name = configured
        """The level in force; to be read only."""

    def ask_for(self, level: LevelName, seconds: float) -> None:
        """Log from this level for so long."""
        # CLOCK_MONOTONIC is the same for all processes of a machine.
        self._shared[:] = _ASKED_FOR.pack(1 + LEVELS.index(level), time.monotonic() + seconds)
        self.follow()

    def follow(self) -> LevelName:
        """Log from what is asked for now, and say which level that is; to be called once a second."""
        number, until = _ASKED_FOR.unpack(self._shared[:])
        level = LEVELS[number - 1] if number and time.monotonic() < until else self._configured
        if level != self.name:
            self.name = level
            _set(level)
            if level == self._configured:
                log.warning("the configured log level is in force again", level_in_force=level)
        return level
