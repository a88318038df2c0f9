"""A load that keeps asking every endpoint over kept connections, and takes whatever is not the one right answer for a failed request."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servers import wait_until
from service.one_instance import FORM, GRANT, basic, bearer, encoded
from service.threads import Threads
from service.wire import Connection, Field, NotHttp, request

HANG_SECONDS = 10.0
"""Whoever waits longer for an answer has found a hang."""
DISCOVERY = "/.well-known/oauth-authorization-server"


@dataclass(frozen=True)
class Failure:
    """A request that failed, and when (`time.monotonic`). `first` if its connection had answered nothing before."""

    name: str
    fault: str
    first: bool
    seconds: float


class SteadyLoad(Threads):
    """Callers in threads that ask `port`, one request at a time each, from the beginning of a `with` block to its end.

    `failures` holds a request for every 5xx, 429, refused, lost or late connection and wrong answer; nothing is ever asked again.
    `tokens` holds what was issued.
    """

    def __init__(self, port: int, client_id: str = "app", *, callers: int = 4, pause_seconds: float = 0.01) -> None:
        super().__init__()
        self.failures: list[Failure] = []
        self.tokens: list[str] = []
        self.answered: Counter[str] = Counter()
        self._port = port
        self._client = basic(client_id)
        self._pause_seconds = pause_seconds
        self._lock = threading.Lock()
        for _ in range(callers):
            self.add(self._run)

    def go_on(self, rounds: int = 3) -> None:
        """Return when that many more tokens were asked for at every endpoint, or a request failed."""
        last = "one-time validate again"
        wanted = self.answered[last] + rounds
        wait_until(lambda: self.failures or self.answered[last] >= wanted, "the load goes on")

    def note(self, name: str, failure: Failure | None) -> None:
        """Count a request, as answered where there is no failure."""
        with self._lock:
            if failure is None:
                self.answered[name] += 1
            else:
                self.failures.append(failure)

    def assert_all_answered(self) -> None:
        """Not one request failed."""
        assert not self.failures, f"{len(self.failures)} of {self.answered.total()} failed: {self.failures[:5]}"

    def _run(self) -> None:
        caller = _Caller(self, self._port, self._pause_seconds)
        while not self.ending.is_set():
            self._round(caller)
        caller.close()

    def _round(self, caller: _Caller) -> None:
        """The life of an access token and of a one-time token; what depends on an answer that did not come is left out."""
        client = self._client
        caller.ask("health", "GET", "/health", {"status": "ok"})
        caller.ask("discovery", "GET", DISCOVERY, {"response_types_supported": ["none"]})
        issued = caller.ask("token", "POST", "/token", {"token_type": "Bearer", "expires_in": 3600}, client, parameters=GRANT)
        if issued:
            self.tokens.append(issued["access_token"])
            presented, named = bearer(issued["access_token"]), {"token": issued["access_token"]}
            caller.ask("validate in the header", "POST", "/validate", {"valid": True}, presented)
            caller.ask("validate by GET", "GET", "/validate", {"valid": True}, presented)
            caller.ask("validate in the body", "POST", "/validate", {"valid": True}, parameters=named)
            caller.ask("introspect", "POST", "/introspect", {"active": True}, client, parameters=named)
            if caller.ask("revoke", "POST", "/revoke", {"message": "Token revoked"}, client, parameters=named):
                caller.ask("validate a revoked token", "POST", "/validate", {"error": "invalid_token"}, presented, status=401)
                caller.ask("introspect a revoked token", "POST", "/introspect", {"active": False}, client, parameters=named)
        issued = caller.ask("one-time token", "POST", "/ott", {"one_time": True, "expires_in": 120}, client, parameters=GRANT)
        if issued:
            self.tokens.append(issued["access_token"])
            named = {"token": issued["access_token"]}
            if caller.ask("one-time validate", "POST", "/validate", {"valid": True}, parameters=named):
                caller.ask("one-time validate again", "POST", "/validate", {"error": "invalid_token"}, status=401, parameters=named)


class _Caller:
    """One connection, replaced only when it was closed."""

    def __init__(self, load: SteadyLoad, port: int, pause_seconds: float) -> None:
        self._load = load
        self._port = port
        self._pause_seconds = pause_seconds
        self._connection: Connection | None = None
        self._answers = 0

    def close(self) -> None:
        if self._connection is not None:
            self._connection.socket.close()
            self._connection = None

    def ask(
        self,
        name: str,
        method: str,
        path: str,
        members: Mapping[str, object],
        *fields: Field,
        status: int = 200,
        parameters: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The body of the right answer: of this status, with these members. Empty after a failure, which is noted."""
        time.sleep(self._pause_seconds)
        if parameters is None:
            sent = request(method, path, fields)
        else:
            sent = request(method, path, [("Content-Type", FORM), *fields], encoded(parameters, FORM))
        try:
            return self._answer(name, method, sent, members, status)
        except (OSError, NotHttp) as error:
            self._failed(name, f"{type(error).__name__}: {error}")
            self.close()
            return {}

    def _answer(self, name: str, method: str, sent: bytes, members: Mapping[str, object], status: int) -> dict[str, Any]:
        if self._connection is None:
            self._answers = 0
            self._connection = Connection(self._port, HANG_SECONDS)
        self._connection.send(sent)
        answer = self._connection.answer(method)
        if answer is None:
            raise NotHttp("the server hung up without an answer")
        body: dict[str, Any] = answer.json
        right = answer.status == status and members.items() <= body.items()
        if right:
            self._load.note(name, None)
        else:
            self._failed(name, f"{answer.status} {body}")
        self._answers += 1
        if answer.header("connection") == "close":
            self.close()
        return body if right else {}

    def _failed(self, name: str, fault: str) -> None:
        self._load.note(name, Failure(name, fault, self._answers == 0, time.monotonic()))
