"""One worker of the service, wired: the pipeline, the directory, the token rules and the ASGI front over them."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import structlog

from authsvc.admission import Admission
from authsvc.credentials import TokenKeys
from authsvc.errors import Unavailable
from authsvc.http.access_log import AccessLog
from authsvc.http.app import create_pages
from authsvc.http.asgi import Front, Receive, Scope, Send
from authsvc.http.endpoints import Endpoints
from authsvc.http.handlers import Handlers
from authsvc.http.heads import Heads
from authsvc.http.management import Management
from authsvc.http.protocol import WorkerState
from authsvc.live.connect import connect_redis, link_of
from authsvc.live.directory import Directory
from authsvc.live.history import History
from authsvc.live.survey import Survey
from authsvc.live.tokens import LiveTokens
from authsvc.logs import LogLevel
from authsvc.metrics import Counts, Metrics
from authsvc.profiling import Profiling
from authsvc.settings import Settings
from authsvc.tokens import Tokens

TICK_SECONDS = 1.0
POLL_SECONDS = 0.01
SECRETS_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Instance:
    """The ASGI application of one worker; connects in its lifespan, and answers 503 until Redis and the mirror are there."""

    def __init__(self, settings: Settings, log_level: LogLevel) -> None:
        self._settings = settings
        self._log_level = log_level
        self._keys = TokenKeys(settings.issuing_key(), settings.accepted_keys())
        self._counts = Counts()
        self._metrics = Metrics(self._counts)
        self.admission = Admission(self._counts, settings.max_in_flight, settings.queue_wait_ms / 1000, settings.backlog_limit)
        self._history = History()
        self._profiling = Profiling()
        self._backlog_seen = 0.0, 0.0
        self._secrets_seen: bytes | None = None
        self._secrets_again_at = 0.0
        self.draining = False

    @property
    def management_port(self) -> int:
        """Port of the management socket."""
        return self._settings.management_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] == "http":
            await self._front(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        endpoints = self._start()
        scope["state"]["worker"] = WorkerState(self.admission, self._counts, self.management_port, endpoints, Heads(endpoints.at))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._close()
        await send({"type": "lifespan.shutdown.complete"})

    def _start(self) -> Endpoints:
        settings = self._settings
        self._redis = connect_redis(settings)
        self._pipeline = link_of(settings, self._history.admit, self._counts.redis.add)
        self._directory = Directory(self._redis)
        tokens = Tokens(self._keys, LiveTokens(self._pipeline), self._directory, self._counts)
        self._access_log = AccessLog(settings.access_log, settings.access_log_success_share, self._directory.knows)
        self._access_log.follow(self._log_level.name)
        endpoints = Endpoints(Handlers(tokens, self.admission), self._counts, self.admission, self._access_log)
        management = Management(self._not_ready, self._metrics.render, settings.management_secret, self._profiling, self._log_level)
        self._front = Front(endpoints, create_pages(settings.issuer), management, settings.management_port)
        self._pipeline.start()
        self._directory.start()
        self._ticking = [asyncio.create_task(self._fold()), asyncio.create_task(self._watch())]
        return endpoints

    async def _close(self) -> None:
        for task in self._ticking:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._metrics.fold()
        await self._directory.close()
        await self._pipeline.close()
        await self._redis.aclose()

    async def _fold(self) -> None:
        while True:
            self._access_log.follow(self._log_level.follow())
            self._look_at_secrets()
            self._metrics.fold()
            self._metrics.vitals.redis_up.set(self._silent_seconds() < TICK_SECONDS)
            await asyncio.sleep(TICK_SECONDS)

    def _look_at_secrets(self) -> None:
        """At once when the first clients are there, then no more often than it matters to who thinks in years."""
        if self._directory.current != self._secrets_seen and (self._secrets_seen is None or monotonic() >= self._secrets_again_at):
            self._secrets_seen, self._secrets_again_at = self._directory.current, monotonic() + SECRETS_SECONDS
            self._metrics.oldest_secret.set(self._directory.oldest_secret_ms() / 1000)

    async def _watch(self) -> None:
        """Look once a second how far Redis has come: an idle instance must notice, too, that it went silent or ran back."""
        while True:
            self._metrics.backlog_age_seconds.set(self._backlog_age_seconds())
            # An error was logged where the connection failed, and shows in redis_up.
            with contextlib.suppress(Unavailable):
                self._show(await self._history.watch(self._pipeline.masters, leaving=self.draining))
            await asyncio.sleep(TICK_SECONDS)

    def _backlog_age_seconds(self) -> float:
        """As last seen, and older by the time since: nothing is written while nobody sees it."""
        seen_at, age_seconds = self._backlog_seen
        return age_seconds + monotonic() - seen_at if age_seconds > 0 else 0.0

    def _show(self, survey: Survey) -> None:
        self._backlog_seen = monotonic(), survey.backlog_age_seconds
        limit = self.admission.see_backlog(survey.backlog_entries, survey.memory_limit_bytes)
        self._metrics.token_keys.set(survey.token_keys)
        self._metrics.backlog_entries.set(survey.backlog_entries)
        self._metrics.backlog_age_seconds.set(survey.backlog_age_seconds)
        self._metrics.backlog_limit_entries.set(limit)
        self._metrics.vitals.show(survey)
        self._metrics.vitals.certificate_expiry.set(self._pipeline.certificate_expiry or 0)

    def _silent_seconds(self) -> float:
        since = self._pipeline.silent_since
        return 0.0 if since is None else monotonic() - since

    async def loaded(self, seconds: float) -> None:
        """Wait until the client directory is loaded, but no longer than this."""
        deadline = monotonic() + seconds
        while not self._directory.loaded and monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)

    def drain(self) -> None:
        """The instance will stop: it is not ready any more, and a profile that is being taken is over."""
        self.draining = True
        self._profiling.end()

    def _not_ready(self) -> str | None:
        if self.draining:
            return "The instance is stopping."
        if self._silent_seconds() > self._settings.ready_grace_seconds:
            return "The shared store is out of reach."
        if not self._directory.loaded:
            return "The client directory is not loaded."
        return None
