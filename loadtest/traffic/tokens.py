"""The tokens that a generator presents: good ones, and revoked, expired and garbage ones that must be refused."""

from __future__ import annotations

import base64
import http.client
import json
import random
import string
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from outcome.clients import Credentials
from outcome.run import RunError

FORM = "application/x-www-form-urlencoded"
_GARBAGE = string.ascii_letters + string.digits + "-_"


@dataclass(frozen=True)
class Prepared:
    """What is presented."""

    good: list[str]
    bad: list[str] = field(default_factory=list)


def basic(client_id: str, client_secret: str) -> str:
    """HTTP Basic of a client."""
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode("ascii")


def prepare(url: str, credentials: Credentials, number: int, bad_share: float) -> Prepared:
    """So many tokens, a share of them bad, a third of each kind; returns when those that are to be expired are."""
    bad = round(number * bad_share)
    revoked, expired, garbage = bad - 2 * (bad // 3), bad // 3, bad // 3
    with _Service(url) as service:
        mine = basic(credentials.client_id, credentials.client_secret)
        brief = basic(credentials.brief_client_id, credentials.brief_client_secret)
        refused = [service.token(brief) for _ in range(expired)]
        ended = time.monotonic() + 2.5
        good = [service.token(mine) for _ in range(max(1, number - bad))]
        for _ in range(revoked):
            refused.append(service.token(mine))
            service.ask("/revoke", mine, token=refused[-1])
        refused += ["at_" + "".join(random.choices(_GARBAGE, k=43)) for _ in range(garbage)]
        if expired:
            time.sleep(max(0.0, ended - time.monotonic()))
    random.shuffle(refused)
    return Prepared(good, refused)


class _Service:
    """Asked one thing after the other, outside of what is measured."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = made(parts.netloc, timeout=10)

    def __enter__(self) -> _Service:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def token(self, authorization: str) -> str:
        return str(self.ask("/token", authorization, grant_type="client_credentials")["access_token"])

    def ask(self, path: str, authorization: str, **form: str) -> dict[str, object]:
        try:
            self._connection.request("POST", path, urlencode(form), {"Authorization": authorization, "Content-Type": FORM})
            response = self._connection.getresponse()
            body = response.read()
        except OSError as error:
            raise RunError(f"{self._url} cannot be reached: {error}.") from error
        if response.status != 200:
            raise RunError(
                f"{self._url}{path} answered {response.status} while tokens were prepared: {body[:200].decode(errors='replace')}"
            )
        return dict(json.loads(body))
