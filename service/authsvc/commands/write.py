"""`authsvc write`: the writer process: drains the backlog, keeps the mirror complete, purges old records."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from secrets import token_hex

import structlog
import uvicorn
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from redis.exceptions import RedisError

from authsvc.commands.clients_file import ClientsFile
from authsvc.errors import OperatorError, Unavailable
from authsvc.http.management import Management
from authsvc.live.backlog import Backlog
from authsvc.live.connect import connect_redis, link_of
from authsvc.live.directory import Directory
from authsvc.live.mirror import Mirror
from authsvc.live.survey import Survey, take_survey
from authsvc.live.troubles import Trouble, Troubles
from authsvc.logs import LogLevel
from authsvc.profiling import Profiling
from authsvc.reconcile import Reconciler
from authsvc.records.connect import store_of
from authsvc.records.contract import RecordStore
from authsvc.settings import Settings
from authsvc.vitals import Vitals
from authsvc.writer import Batching, Writer

TICK_SECONDS = 1.0
CLIENTS_FILE_SECONDS = 3.0
PURGE_ROWS = 5000
STARTING = " at its start"
"""Ends the name of a writer that did not come so far as to have one."""
IDLE_CONSUMER_SECONDS = 3600

log = structlog.get_logger(__name__)


class WriterMetrics:
    """The writer's registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.rows = Counter("record_writer_rows", "Rows written to the record store.", registry=registry)
        self.poison = Counter("record_writer_poison", "Entries set aside as unwritable.", registry=registry)
        self.batch_seconds = Histogram("record_writer_batch_seconds", "Time of one batch, with its commit.", registry=registry)
        self.backlog_entries = Gauge("record_backlog_entries", "Entries of the streams not written yet.", registry=registry)
        self.backlog_age_seconds = Gauge("record_backlog_age_seconds", "Age of the oldest entry not written yet.", registry=registry)
        self.poison_entries = Gauge("record_poison_entries", "Entries set aside that are still kept in Redis.", registry=registry)
        self.connections_open = Gauge("db_connections_open", "Connections to the record store.", registry=registry)
        self.connections_idle = Gauge("db_connections_idle", "Connections to the record store that nobody uses now.", registry=registry)
        self.connections_waiting = Gauge("db_connections_waiting", "Calls that wait for such a connection.", registry=registry)
        self.connections_lost = Counter("db_connections_lost", "Connections to the record store that broke in use.", registry=registry)
        self.vitals = Vitals(registry)

    def show(self, survey: Survey) -> None:
        """Take over what a look at Redis showed."""
        self.backlog_entries.set(survey.backlog_entries)
        self.backlog_age_seconds.set(survey.backlog_age_seconds)
        self.poison_entries.set(survey.poison_entries)
        self.vitals.redis_up.set(1)
        self.vitals.show(survey)

    def render(self) -> bytes:
        """The text format."""
        self.vitals.fold()
        return generate_latest(self.registry)


async def write(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; then finish the batches at hand."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    listener = _listen(settings.management_host, settings.management_port)
    store = store_of(settings)
    redis = connect_redis(settings)
    troubles = Troubles(redis)
    await _open(store, troubles)
    holder = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
    backlog = Backlog(redis, holder)
    directory = Directory(redis)
    metrics = WriterMetrics()
    claim_after = settings.writer_call_timeout_seconds + settings.batch_seconds + TICK_SECONDS
    batching = Batching(settings.batch_rows, settings.batch_seconds, claim_after)
    writer = Writer(backlog, store, batching, settings.writer_workers, metrics.batch_seconds.observe)
    pipeline = link_of(settings)
    pipeline.start()

    async def survey(beats: Mapping[str, int] | None = None) -> Survey:
        found = await take_survey(pipeline.masters, beats=beats)
        metrics.vitals.certificate_expiry.set(pipeline.certificate_expiry or 0)
        return found

    reconciler = Reconciler(store, Mirror(redis), directory, survey, holder)
    housekeeping = Housekeeping(settings, store, backlog, troubles, reconciler, writer, survey, metrics, holder)
    log_level = LogLevel(settings.log_level)
    profiling = Profiling()
    server = _management_server(Management(housekeeping.not_ready, metrics.render, settings.management_secret, profiling, log_level))
    log.info("writing", consumer=holder, rows=batching.rows, seconds=batching.seconds)
    # The writer itself makes them when they are missing, but not on a full Redis; so this part is over when Redis is in reach.
    await housekeeping.try_once("backlog", backlog.make_groups)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    tasks = [asyncio.create_task(task) for task in (*housekeeping.loops(stopping), _follow(log_level, stopping))]
    draining = asyncio.create_task(writer.run())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([draining, stopped, serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.set()
        profiling.end()
        writer.stop()
        await asyncio.gather(draining, *tasks)
        await housekeeping.leave()
        server.should_exit = True
        await serving
        await directory.close()
        await pipeline.close()
        await store.close()
        await redis.aclose()
    log.info("stopped")


async def _open(store: RecordStore, troubles: Troubles) -> None:
    """Open the store, or tell `authsvc writer status` why not: whoever starts this again and again may not show what it printed."""
    try:
        await store.open()
        await store.check_budget()
    except OperatorError as error:
        await store.close()
        with contextlib.suppress(RedisError, OSError, TimeoutError, Unavailable):
            await troubles.note(Trouble(f"{socket.gethostname()}{STARTING}", int(time.time() * 1000), str(error)))
        raise
    with contextlib.suppress(RedisError, OSError, TimeoutError, Unavailable):
        # Those of others, too, whose names may never come back: whoever still cannot start tells it again.
        for trouble in await troubles.all():
            if trouble.writer.endswith(STARTING):
                await troubles.forget(trouble.writer)


async def _follow(log_level: LogLevel, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        log_level.follow()
        await _pause(stopping, TICK_SECONDS)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


class _QuietServer(uvicorn.Server):
    """uvicorn's server without its signal handlers: the writer decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _management_server(management: Management) -> uvicorn.Server:
    return _QuietServer(uvicorn.Config(management, log_config=None, access_log=False, lifespan="off", server_header=False))


def _listen(host: str, port: int) -> socket.socket:
    """Opened before anything else: uvicorn would end the process in the middle of its work."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OperatorError(f"The management port {host}:{port} cannot be opened: {error.strerror}.") from error


class Housekeeping:
    """What a writer does beside draining: the mirror pass, the marks, the backlog's depth, the purge, and the file of clients."""

    def __init__(
        self,
        settings: Settings,
        store: RecordStore,
        backlog: Backlog,
        troubles: Troubles,
        reconciler: Reconciler,
        writer: Writer,
        survey: Callable[[], Awaitable[Survey]],
        metrics: WriterMetrics,
        holder: str,
    ) -> None:
        self._settings = settings
        self._store = store
        self._backlog = backlog
        self._troubles = troubles
        self._reconciler = reconciler
        self._writer = writer
        self._survey = survey
        self._metrics = metrics
        self._holder = holder
        self._failing: dict[str, str] = {}
        self._troubled = False
        self._folded_rows = self._folded_poison = self._folded_lost = 0

    def not_ready(self) -> str | None:
        """What keeps the writer from its work now."""
        if self._writer.failing is not None:
            return f"records: {self._writer.failing}"
        return next(iter(self._failing.values()), None)

    def loops(self, stopping: asyncio.Event) -> list[Coroutine[None, None, None]]:
        """The periodic parts."""
        settings = self._settings
        loops = [
            self._every(stopping, settings.mirror_interval_seconds, "mirror", self._reconciler.run_once),
            self._every(stopping, TICK_SECONDS, "marks", self._reconciler.keep_marks),
            self._every(stopping, TICK_SECONDS, "backlog", self._measure),
            self._every(stopping, TICK_SECONDS, "troubles", self._tell),
            self._every(stopping, settings.purge_interval_seconds, "purge", self._purge),
        ]
        if settings.clients_file is not None:
            clients = ClientsFile(settings.clients_file, self._store)
            loops.append(self._every(stopping, CLIENTS_FILE_SECONDS, "clients", clients.look))
        return loops

    async def _every(self, stopping: asyncio.Event, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while not stopping.is_set():
            done = await self.try_once(name, work)
            # What failed makes the writer unready, so it is tried again soon, however long its own interval.
            await _pause(stopping, seconds if done else min(seconds, TICK_SECONDS))

    async def try_once(self, name: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do one part and say whether it went well; an error is logged once and makes the writer not ready until it is over."""
        try:
            await work()
        except Exception as error:
            # Whatever it is, the other parts go on and this one is tried again: a loop that ended unseen would never be missed.
            sentence = f"{name}: {str(error) or type(error).__name__}"
            if self._failing.get(name) != sentence:
                expected = isinstance(error, (RedisError, OSError, TimeoutError, OperatorError, Unavailable))
                log.log(
                    logging.WARNING if expected else logging.ERROR,
                    "a part of the writer fails",
                    part=name,
                    exc_info=not expected,
                    error=str(error),
                )
            self._failing[name] = sentence
            if name == "backlog":
                self._metrics.vitals.redis_up.set(0)
            return False
        self._failing.pop(name, None)
        return True

    async def _measure(self) -> None:
        counts, metrics = self._writer.counts, self._metrics
        metrics.rows.inc(counts.rows - self._folded_rows)
        metrics.poison.inc(counts.poison - self._folded_poison)
        self._folded_rows, self._folded_poison = counts.rows, counts.poison
        connections = self._store.connections()
        metrics.connections_open.set(connections.open)
        metrics.connections_idle.set(connections.idle)
        metrics.connections_waiting.set(connections.waiting)
        metrics.connections_lost.inc(connections.lost - self._folded_lost)
        self._folded_lost = connections.lost
        metrics.show(await self._survey())

    async def _tell(self) -> None:
        """Let `authsvc writer status` know how it stands. Where Redis cannot take it nobody is told, and that is no trouble more."""
        sentence = self.not_ready()
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            if sentence is not None:
                self._troubled = True
                await self._troubles.note(Trouble(self._holder, int(time.time() * 1000), sentence))
            elif self._troubled:
                await self._troubles.forget(self._holder)
                self._troubled = False

    async def leave(self) -> None:
        """What this writer complained of ends with it."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await self._troubles.forget(self._holder)

    async def _purge(self) -> None:
        if not await self._store.take_lease("purge", self._holder, self._settings.purge_interval_seconds):
            return
        before_ms = int((time.time() - self._settings.retention_days * 86400) * 1000)
        while (purged := await self._store.purge_records(before_ms, PURGE_ROWS)) > 0:
            log.info("records purged", rows=purged)
            if not await self._store.take_lease("purge", self._holder, self._settings.purge_interval_seconds):
                return
        await self._backlog.drop_idle_consumers(IDLE_CONSUMER_SECONDS * 1000)
        await self._troubles.forget_before(int((time.time() - IDLE_CONSUMER_SECONDS) * 1000))
