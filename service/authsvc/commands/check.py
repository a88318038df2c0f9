"""`authsvc check`: every dependency is tried, and each gets a sentence, with the fix where something is wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from enum import StrEnum
from http import HTTPStatus
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import typer

from authsvc import logs
from authsvc.admission import backlog_limit
from authsvc.errors import OperatorError, RecordsUnavailable, Unavailable, reason_of
from authsvc.live.connect import RedisClient, connect_redis, link_of
from authsvc.live.forms import Malformed
from authsvc.live.mirror import Mirror
from authsvc.live.server import Server, inspect_servers
from authsvc.live.survey import Survey, take_survey
from authsvc.records.connect import store_of
from authsvc.records.contract import ORACLE_SCHEME, RecordStore
from authsvc.settings import Settings

ADDRESS_SECONDS = 5.0
RECORDS_SECONDS = 5.0
"""Longest wait for the record store, should a writer have more patience."""
SLOW_SYNC_SECONDS = 0.005
CLOCK_SECONDS = 2.0
MEMORY_SHARE = 0.8
OLD_BACKLOG_SECONDS = 60.0
_OLDEST_REDIS = 7


class State(StrEnum):
    """How bad it is: a warning is worth a look, a failure breaks a promise or the service."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(NamedTuple):
    """What was found of one part, in a sentence that says what to do if something must be done."""

    part: str
    state: State
    sentence: str


async def check(settings: Settings, as_json: bool) -> None:
    """Print a finding for each part as it is tried; OperatorError at the end if any is a failure."""
    logs.configure("error")
    findings = []
    async for finding in findings_of(settings):
        findings.append(finding)
        if not as_json:
            typer.echo(f"{finding.state.value:<8} {finding.part:<12} {finding.sentence}")
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings]))
    failed = [finding.part for finding in findings if finding.state is State.FAILURE]
    if failed:
        raise OperatorError(f"Not well: {', '.join(failed)}.")


async def findings_of(settings: Settings) -> AsyncIterator[Finding]:
    """Try one part after the other, and leave everything as it is; a part that needs another that failed is left out."""
    yield _keys(settings)
    identity, records = await _records(settings)
    yield records
    yield await asyncio.to_thread(_address, settings.issuer)
    redis = connect_redis(settings)
    try:
        try:
            servers = await inspect_servers(redis)
        except Unavailable as error:
            yield Finding("redis", State.FAILURE, f"{error.description} AUTH_REDIS_URL must lead to the shared store.")
            return
        for number, server in enumerate(servers, 1):
            master = f"Master {number} of {len(servers)}: " if len(servers) > 1 else ""
            for part, state, sentence in _server(server, settings.redis_mode):
                yield Finding(part, state, f"{master}{sentence}")
        async for finding in _contents(settings, redis, identity):
            yield finding
    finally:
        await redis.aclose()


def _address(issuer: str) -> Finding:
    """Where clients find the service. Not every place where commands run is let out to it, so no answer is no failure."""
    url = f"{issuer}/health"
    began = time.perf_counter()
    wrong = "see whether AUTH_ISSUER is where nginx serves this service."
    try:
        with urlopen(url, timeout=ADDRESS_SECONDS) as response:  # noqa: S310 - settings take http and https only
            if response.status == HTTPStatus.OK and json.load(response) == {"status": "ok"}:
                return Finding("address", State.OK, f"{url} answers in {(time.perf_counter() - began) * 1000:.1f} ms.")
        sentence = f"{url} answers something else: {wrong}"
    except HTTPError as error:
        error.close()
        sentence = f"{url} answers {error.code}: {wrong}"
    except (OSError, ValueError, HTTPException) as error:
        # What the URL's opener says is wrapped.
        cause = getattr(error, "reason", error)
        sentence = f"{url} does not answer from here ({reason_of(cause)}): see whether AUTH_ISSUER is right and nginx is there."
    return Finding("address", State.WARNING, sentence)


def _keys(settings: Settings) -> Finding:
    try:
        keys = settings.accepted_keys()
    except OperatorError as error:
        return Finding("keys", State.FAILURE, str(error))
    issuing, *others = [hashlib.blake2b(b"fingerprint", key=key, digest_size=4).hexdigest() for key in keys]
    also = f", and one more is accepted ({others[0]}): drop it when the longest lifetime is over" if others else ""
    return Finding("keys", State.OK, f"The issuing key has the fingerprint {issuing}, which must be the same on every instance{also}.")


async def _records(settings: Settings) -> tuple[str, Finding]:
    """The identity of the record store, or `` if it cannot be had, and what was found."""
    store = store_of(settings, call_timeout_seconds=min(settings.writer_call_timeout_seconds, RECORDS_SECONDS))
    identity = ""
    began = time.perf_counter()
    try:
        schema = await store.open_as_it_is()
        name, budget = await store.identity(), await _over_budget(store)
        refused = [client.id for client in await store.list_clients() if client.problem() is not None]
        # From here on it was read, and what fails is the write.
        identity = name
        await store.try_write()
    except OperatorError as error:
        if "records_url" not in settings.model_fields_set and not identity:
            # An instance needs none, and has no setting that names one.
            return identity, Finding("records", State.WARNING, f"{error} It is the writer's: ask there, or set AUTH_RECORDS_URL.")
        if identity:
            sentence = f"It can be read but not written, so records wait and no client can be changed: {error}"
        elif isinstance(error, RecordsUnavailable) or settings.records_url.startswith(ORACLE_SCHEME):
            # What is said of Oracle says what to do.
            sentence = str(error)
        else:
            sentence = f"{error} Correct AUTH_RECORDS_URL, or run `authsvc migrate`."
        return identity, Finding("records", State.FAILURE, sentence)
    finally:
        await store.close()
    if budget:
        return identity, Finding("records", State.FAILURE, f"No writer starts: {budget}")
    if refused:
        broken = f"{len(refused)} clients are refused until their rows are mended: {', '.join(refused[:5])}. See the writer's log."
        return identity, Finding("records", State.WARNING, broken)
    answers = f"The record store is opened, read and written in {(time.perf_counter() - began) * 1000:.1f} ms"
    if schema.found != schema.own:
        newer = f"{answers}, but its schema {schema.found} is newer than this release's {schema.own}: upgrade this one."
        return identity, Finding("records", State.WARNING, newer)
    return identity, Finding("records", State.OK, f"{answers}.")


async def _over_budget(store: RecordStore) -> str:
    """Why no writer would start; empty where its sessions fit."""
    try:
        await store.check_budget()
    except RecordsUnavailable:
        raise
    except OperatorError as error:
        return str(error)
    return ""


def _server(server: Server, mode: str) -> list[Finding]:
    """What the shared store is, and how it keeps data."""
    major = server.version.partition(".")[0]
    old = server.name == "Redis" and major.isdigit() and int(major) < _OLDEST_REDIS
    answers = f"{server.name} {server.version} answers in {server.answer_seconds * 1000:.1f} ms"
    if old:
        findings = [Finding("redis", State.FAILURE, f"{answers}, but Redis {_OLDEST_REDIS} or Valkey is needed: upgrade it.")]
    elif server.clustered and mode != "cluster":
        findings = [Finding("redis", State.WARNING, f"{answers}, but is a node of a Redis Cluster: set AUTH_REDIS_MODE=cluster.")]
    elif server.clustered and server.full_coverage:
        refuses = "but no master does while any is away: set `cluster-require-full-coverage no`"
        findings = [Finding("redis", State.WARNING, f"{answers}, {refuses}.")]
    else:
        findings = [Finding("redis", State.OK, f"{answers}.")]
    findings.append(Finding("persistence", *_persistence(server)))
    findings.append(Finding("disk", *_disk(server)))
    findings.append(Finding("memory", *_memory(server)))
    skew = f"Redis's clock is {abs(server.clock_ahead_seconds):.1f} s {'ahead of' if server.clock_ahead_seconds > 0 else 'behind'} this one"
    findings.append(
        Finding("clock", State.WARNING, f"{skew}: tokens end by Redis's, but `iat` and `exp` are told by ours; run NTP on both.")
        if abs(server.clock_ahead_seconds) > CLOCK_SECONDS
        else Finding("clock", State.OK, f"{skew}.")
    )
    return findings


def _persistence(server: Server) -> tuple[State, str]:
    if not server.last_write_ok:
        return State.FAILURE, "The last write of the append-only file failed: make room on the volume."
    if server.append_only == "" or server.sync_policy == "":
        return State.WARNING, "The server does not tell how it persists: make sure that it has `appendonly yes` and `appendfsync always`."
    if server.append_only != "yes":
        return State.FAILURE, "Nothing is persisted, so a restart loses every token: set `appendonly yes`."
    if server.sync_policy == "always":
        return State.OK, "Every write is on disk before it is answered."
    lost = "up to two seconds of answered tokens" if server.sync_policy == "everysec" else "answered tokens"
    return State.WARNING, f"`appendfsync {server.sync_policy}` loses {lost} when the process is killed: set `always`, or accept that."


def _disk(server: Server) -> tuple[State, str]:
    if server.write_refused:
        return State.FAILURE, f"A write is refused, so no token can be made: {server.write_refused}"
    sync = f"A write takes {server.write_seconds * 1000:.1f} ms longer than a read"
    if server.write_seconds > SLOW_SYNC_SECONDS:
        return State.WARNING, f"{sync}, and that is part of every answer: use a faster volume."
    return State.OK, f"{sync}."


def _memory(server: Server) -> tuple[State, str]:
    if server.eviction_policy not in ("", "noeviction"):
        return State.FAILURE, f"`maxmemory-policy {server.eviction_policy}` ends tokens before their time: set `noeviction`."
    used = f"{server.memory_bytes >> 20} MiB are used"
    if server.memory_limit_bytes == 0:
        return State.WARNING, f"{used} without a limit, so the machine may run out: set `maxmemory`."
    share = server.memory_bytes / server.memory_limit_bytes
    used += f" of {server.memory_limit_bytes >> 20} MiB"
    if share >= 1:
        return State.FAILURE, f"{used} ({share:.0%}), so no token can be made: raise `maxmemory`."
    if share > MEMORY_SHARE:
        return State.WARNING, f"{used} ({share:.0%}), and a full store makes no more tokens: raise `maxmemory`."
    return State.OK, f"{used} ({share:.0%}), and nothing is evicted."


async def _contents(settings: Settings, redis: RedisClient, identity: str) -> AsyncIterator[Finding]:
    """What the shared store holds: the mirror of the clients, and the backlog."""
    pipeline = link_of(settings)
    try:
        await pipeline.connect()
        survey = await take_survey(pipeline.masters)
        origin = await Mirror(redis).origin()
    except (Unavailable, Malformed, OperatorError) as error:
        yield Finding("mirror", State.FAILURE, f"What Redis holds cannot be read ({reason_of(error)}): a running writer mends it.")
        return
    finally:
        await pipeline.close()
    yield Finding("mirror", *_mirror(survey, origin.identity, identity))
    yield Finding("backlog", *_backlog(survey, backlog_limit(settings.backlog_limit, survey.memory_limit_bytes)))


def _mirror(survey: Survey, mirrored: str, identity: str) -> tuple[State, str]:
    if survey.version is None:
        return State.FAILURE, "There is no complete mirror of the clients, so instances answer 503: start a writer (`authsvc write`)."
    if identity and mirrored != identity:
        return State.FAILURE, "The mirror came from another record store: a running writer replaces it; check AUTH_RECORDS_URL."
    if survey.vouched != survey.run_id:
        return State.WARNING, "No writer has compared this Redis since it started, so new instances wait: start a writer (`authsvc write`)."
    return State.OK, f"The clients' mirror is complete, at version {survey.version}."


def _backlog(survey: Survey, limit: int) -> tuple[State, str]:
    waiting = f"{survey.backlog_entries} entries wait to be written, the oldest for {survey.backlog_age_seconds:.0f} s"
    if survey.backlog_entries >= limit:
        mend = "see whether the writer runs and its database answers, or raise AUTH_BACKLOG_LIMIT"
        return State.FAILURE, f"{waiting}, and from {limit} on no token is made (429): {mend}."
    if survey.poison_entries:
        return State.WARNING, f"{waiting}; {survey.poison_entries} were set aside: see `authsvc writer status`."
    if survey.backlog_age_seconds > OLD_BACKLOG_SECONDS:
        return State.WARNING, f"{waiting}: see whether the writer runs and its database answers."
    return State.OK, f"{waiting}."
