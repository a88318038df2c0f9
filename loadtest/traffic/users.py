"""The users: one class an endpoint and a mix of all; each knows what it asks and which answer is right."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import gevent
import geventhttpclient.client
from locust import FastHttpUser
from locust.exception import CatchResponseError

from traffic import expected
from traffic.arrival import Schedule
from traffic.expected import Expected
from traffic.state import State
from traffic.tokens import FORM, basic

TIMEOUT_SECONDS = 10.0
OUTSTANDING_SECONDS = 1.0
"""What is without an answer for longer when a run ends is a wrong answer; less is what is always on its way."""
# The client under Locust's repeats a GET that was given no answer, and tells nobody: a request that was lost would count as right.
geventhttpclient.client.IDEMPOTENT_METHODS = frozenset()


class Asking(FastHttpUser):
    """Asks by the plan's arrival and reports each answer once, right or wrong."""

    abstract = True
    state: State
    """Set by the locustfile before users are made."""
    network_timeout = connection_timeout = TIMEOUT_SECONDS
    max_retries = 0
    max_redirects = 0
    default_headers = {"Accept-Encoding": "identity"}  # noqa: RUF012 - locust's form

    def on_start(self) -> None:
        """Draw up what this user presents."""
        credentials = self.state.credentials
        self.client_id = credentials.client_id
        self.mine = basic(credentials.client_id, credentials.client_secret)
        started = self.state.started()
        self.schedule = Schedule(self.state.plan, started) if self.state.plan.arrival == "open" else None
        if self.schedule is not None:
            self.schedule.join(time.monotonic())
        self._pending: tuple[str, float] | None = None
        # Each begins elsewhere, so that not all present the same token at once.
        self._good, self._bad = (_in_turn(tokens) for tokens in (self.state.prepared.good, self.state.prepared.bad))

    def ask(self, name: str, path: str, right: Expected, *, method: str = "POST", authorization: str = "", **form: str) -> dict[str, Any]:
        """One request when it is due; the answer if it was right, else nothing."""
        late_ms = self._wait(name) * 1000
        headers = {"Authorization": authorization} if authorization else {}
        if form:
            headers["Content-Type"] = FORM
        body = "&".join(f"{field}={value}" for field, value in form.items())
        with self.client.request(method, path, name=name, data=body, headers=headers, catch_response=True) as response:
            self._pending = None
            response.request_meta["response_time"] += late_ms
            wrong = right.wrong(response.status_code, response.content or b"")
            if wrong is not None:
                response.failure(wrong)
                return {}
            response.success()
            return dict(response.json())

    def token(self) -> str:
        """A good token of those prepared."""
        return next(self._good)

    def bad_token(self) -> str:
        """One that must be refused."""
        return next(self._bad)

    def is_bad_next(self) -> bool:
        """Whether to present a bad one, so that their share is the plan's."""
        return random.random() < self.state.plan.bad_share

    def on_stop(self) -> None:
        """Count what was asked, or was due, and has had no answer for long when the run ends: it would be in no figure else."""
        now = time.monotonic()
        if self._pending is None or now - self._pending[1] < OUTSTANDING_SECONDS:
            return
        name, _ = self._pending
        overdue = self.schedule.overdue(now - OUTSTANDING_SECONDS) if self.schedule is not None else 0
        for _ in range(1 + overdue):
            self.environment.events.request.fire(
                request_type="", name=name, response_time=0.0, response_length=0, exception=CatchResponseError("no answer"), context={}
            )

    def _wait(self, name: str) -> float:
        """Until the next request is due; returns the seconds by which it is late."""
        if self.schedule is None:
            self._pending = name, time.monotonic()
            return 0.0
        due = self.schedule.next_due()
        gevent.sleep(max(0.0, due - time.monotonic()))
        self._pending = name, due
        return max(0.0, time.monotonic() - due)

    def health(self) -> None:
        """No I/O."""
        self.ask("health", "/health", expected.HEALTHY, method="GET")

    def issue(self) -> None:
        """An access token."""
        self.ask("token", "/token", expected.issued("at_"), authorization=self.mine, grant_type="client_credentials")

    def one_time(self) -> None:
        """Issued, used once, and refused when used again."""
        answer = self.ask("ott", "/ott", expected.issued("ot_"), authorization=self.mine, grant_type="client_credentials")
        if answer:
            self.ask("validate one-time", "/validate", expected.active(self.client_id), token=answer["access_token"])
            self.ask("validate used", "/validate", expected.REFUSED, token=answer["access_token"])

    def validate(self) -> None:
        """A good token, or in their share a bad one."""
        if self.is_bad_next():
            self.ask("validate refused", "/validate", expected.REFUSED, token=self.bad_token())
        else:
            self.ask("validate", "/validate", expected.active(self.client_id), token=self.token())

    def introspect(self) -> None:
        """As a resource server does."""
        if self.is_bad_next():
            self.ask("introspect inactive", "/introspect", expected.INACTIVE, authorization=self.mine, token=self.bad_token())
        else:
            self.ask("introspect", "/introspect", expected.described(self.client_id), authorization=self.mine, token=self.token())

    def revoke(self) -> None:
        """A token that was just issued, and it is refused from then on."""
        answer = self.ask("token", "/token", expected.issued("at_"), authorization=self.mine, grant_type="client_credentials")
        if answer:
            self.ask("revoke", "/revoke", expected.REVOKED, authorization=self.mine, token=answer["access_token"])
            self.ask("validate revoked", "/validate", expected.REFUSED, token=answer["access_token"])


class HealthUser(Asking):
    """Asks for health."""

    tasks = [Asking.health]  # noqa: RUF012 - locust's form


class TokenUser(Asking):
    """Asks for access tokens."""

    tasks = [Asking.issue]  # noqa: RUF012 - locust's form


class OttUser(Asking):
    """Asks for one-time tokens and uses them."""

    tasks = [Asking.one_time]  # noqa: RUF012 - locust's form


class ValidateUser(Asking):
    """Asks whether tokens are good."""

    tasks = [Asking.validate]  # noqa: RUF012 - locust's form


class IntrospectUser(Asking):
    """Asks what tokens are worth."""

    tasks = [Asking.introspect]  # noqa: RUF012 - locust's form


class RevokeUser(Asking):
    """Ends tokens."""

    tasks = [Asking.revoke]  # noqa: RUF012 - locust's form


class MixUser(Asking):
    """What a platform asks of it all day: validates most of the time, some tokens, few revocations."""

    tasks = [*[Asking.validate] * 14, *[Asking.issue] * 3, Asking.introspect, Asking.one_time, Asking.revoke]  # noqa: RUF012 - locust's form


OF_ENDPOINT = {
    "health": HealthUser,
    "token": TokenUser,
    "ott": OttUser,
    "validate": ValidateUser,
    "introspect": IntrospectUser,
    "revoke": RevokeUser,
    "mix": MixUser,
}


def _in_turn(tokens: list[str]) -> Iterator[str]:
    first = random.randrange(len(tokens)) if tokens else 0
    return itertools.cycle(tokens[first:] + tokens[:first])
