"""A ledger of answers: a mixed load on several doors writes down what it was told, and that is compared with what is stored.

A request whose answer was lost, or was a 503, may have happened or not: its token may be in either state, and a lost
issue may have left a token that nobody knows.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import redis

from authsvc.credentials import TokenKeys, jti
from authsvc.live.forms import decode_token
from authsvc.live.keys import token_key
from authsvc.model import Event, Kind, TokenRecord, TokenValue, Tombstone
from servers import wait_until
from service.one_instance import FORM, GRANT, basic, bearer
from service.threads import Threads
from service.wire import Answer, Connection, Field, NotHttp, request

HANG_SECONDS = 10.0
"""Whoever waits longer for an answer has found a hang."""
ASKING = 4
"""Callers that ask about everything at the end."""
RECENT = 40
"""Tokens that the load asks about; older ones stay as they are."""
ISSUING = {Kind.ACCESS: "token", Kind.ONE_TIME: "ott"}
ENDPOINTS = (*ISSUING.values(), "validate", "introspect", "revoke")
READ_RECORDS = """
    SELECT jti, kind, incarnation, client_id, epoch, scope, issued_at, expires_at, used_at, revoked_at, voided_at
    FROM tokens WHERE client_id = ?
"""


@dataclass(slots=True)
class Token:
    """A token that was answered, and what was tried with it and said of it since."""

    text: str
    kind: Kind
    uses: int = 0
    """Validates that may have consumed it: answered 200, on their way, or lost."""
    successes: int = 0
    revokes: int = 0
    """Revokes that were sent, whatever came of them."""
    over: bool = False
    """Somebody was told that it is no longer good, or that a revoke is done."""

    def endings(self) -> set[Event | None]:
        """How it may have ended, None for not at all. Empty if no story agrees with the answers."""
        if self.successes:
            return {Event.USED}
        endings: set[Event | None] = set() if self.over else {None}
        if self.uses:
            endings.add(Event.USED)
        if self.revokes:
            endings.add(Event.REVOKED)
        return endings


class Ledger:
    """The tokens of one client and what was said of them; `wrong` lists every answer that breaks a promise."""

    def __init__(self, client_id: str, key: str) -> None:
        self.client_id = client_id
        self.tokens: dict[bytes, Token] = {}
        self.wrong: list[str] = []
        self.answered: Counter[tuple[str, int]] = Counter()
        """By endpoint and door."""
        self.lost: Counter[str] = Counter()
        """By endpoint."""
        self.lost_because: Counter[tuple[str, str]] = Counter()
        self._keys = TokenKeys(key.encode())
        self._newest: deque[Token] = deque(maxlen=RECENT)
        self._lock = threading.Lock()

    def issued(self, text: str, kind: Kind) -> None:
        """A token was answered."""
        name = self._keys.name(text.encode())
        with self._lock:
            if name is None or name in self.tokens:
                self.wrong.append(f"/{ISSUING[kind]} answered no new token")
                return
            self.tokens[name] = Token(text, kind)
            self._newest.append(self.tokens[name])

    def pick(self, chance: random.Random) -> Token | None:
        """One of the newest tokens, often the very newest: others are asking about it too."""
        with self._lock:
            if not self._newest:
                return None
            return self._newest[-1] if chance.random() < 0.25 else chance.choice(self._newest)

    def asks(self, token: Token, uses: bool = False, revokes: bool = False) -> bool:
        """A request is about to be sent; whether the token is known to be over before that."""
        with self._lock:
            token.uses += uses
            token.revokes += revokes
            return token.over

    def said_active(self, token: Token, what: str, was_over: bool, used: bool = False) -> None:
        """The token was called good, and is used by that if `used`."""
        with self._lock:
            token.successes += used
            token.over |= used
            if was_over or token.successes > 1:
                self.wrong.append(f"{what} brought back {token}")

    def said_over(self, token: Token, what: str, used: bool = False) -> None:
        """The token was called used, revoked or unknown; `used` if it would have been used otherwise."""
        with self._lock:
            token.uses -= used
            token.over = True
            if not token.revokes and not token.uses:
                self.wrong.append(f"{what} refused {token}, which nobody had ended")

    def said_revoked(self, token: Token) -> None:
        """A revoke was answered."""
        with self._lock:
            token.over = True

    def heard(self, what: str, door: int, answer: Answer | None, good: Sequence[int]) -> Answer | None:
        """What came of a request; the answer if it is one of those that there may be."""
        with self._lock:
            if answer is None or answer.status == 503:
                self.lost[what] += 1
                self.lost_because[what, "no answer" if answer is None else answer.json["error_description"]] += 1
                return None
            self.answered[what, door] += 1
            if answer.status in good:
                return answer
            self.wrong.append(f"{what}: {answer}")
            return None

    def hung(self, what: str) -> None:
        """No answer came, and no end of the connection."""
        with self._lock:
            self.wrong.append(f"{what} hung for {HANG_SECONDS:.0f} s")


class Caller:
    """One client of the service, which does one thing at a time, with one connection to each door."""

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        self._ledger = ledger
        self._chance = chance
        self._connections: dict[int, Connection] = {}
        self._basic = basic(ledger.client_id)

    def close(self) -> None:
        for door in list(self._connections):
            self._connections.pop(door).socket.close()

    def issue(self, door: int, kind: Kind) -> None:
        answer = self._post(ISSUING[kind], door, GRANT, self._basic)
        if answer is not None:
            self._ledger.issued(answer.json["access_token"], kind)

    def validate(self, door: int, token: Token) -> None:
        uses = token.kind is Kind.ONE_TIME
        was_over = self._ledger.asks(token, uses=uses)
        if self._chance.random() < 0.5:
            answer = self._ask("validate", door, "GET", None, bearer(token.text), good=(200, 401))
        else:
            answer = self._post("validate", door, {"token": token.text}, good=(200, 401))
        if answer is not None and answer.status == 200:
            self._ledger.said_active(token, "validate", was_over, used=uses)
        elif answer is not None:
            self._ledger.said_over(token, "validate", used=uses)

    def introspect(self, door: int, token: Token) -> None:
        was_over = self._ledger.asks(token)
        answer = self._post("introspect", door, {"token": token.text}, self._basic)
        if answer is not None and answer.json["active"]:
            self._ledger.said_active(token, "introspect", was_over)
        elif answer is not None:
            self._ledger.said_over(token, "introspect")

    def revoke(self, door: int, token: Token) -> None:
        self._ledger.asks(token, revokes=True)
        if self._chance.random() < 0.5:
            answer = self._post("revoke", door, {}, bearer(token.text))
        else:
            answer = self._post("revoke", door, {"token": token.text}, self._basic)
        if answer is not None:
            self._ledger.said_revoked(token)

    def _post(self, what: str, door: int, parameters: Mapping[str, str], *fields: Field, good: Sequence[int] = (200,)) -> Answer | None:
        return self._ask(what, door, "POST", urlencode(parameters).encode(), ("Content-Type", FORM), *fields, good=good)

    def _ask(self, what: str, door: int, method: str, body: bytes | None, *fields: Field, good: Sequence[int]) -> Answer | None:
        answer = None
        try:
            if door not in self._connections:
                self._connections[door] = Connection(door, HANG_SECONDS)
            self._connections[door].send(request(method, f"/{what}", fields, body))
            answer = self._connections[door].answer(method)
        except TimeoutError:
            self._ledger.hung(what)
        except (OSError, NotHttp):
            # Whoever was to answer is gone: the request may have been done or not.
            answer = None
        if door in self._connections and (answer is None or answer.header("connection") == "close"):
            self._connections.pop(door).socket.close()
        return self._ledger.heard(what, door, answer, good)


class Load(Threads):
    """Callers in threads, each doing anything at any door; they run from the beginning of a `with` block to its end."""

    def __init__(self, ledger: Ledger, doors: Sequence[int], callers: int, pause_seconds: float) -> None:
        super().__init__()
        self.ledger = ledger
        self._doors = doors
        self._pause_seconds = pause_seconds
        for number in range(callers):
            self.add(self._run, random.Random(number))

    def go_on(self, answers: int = 6) -> None:
        """Return when every door has answered so many more requests of every kind."""
        places = [(endpoint, door) for endpoint in ENDPOINTS for door in self._doors]
        wanted = {place: self.ledger.answered[place] + answers for place in places}
        wait_until(lambda: all(self.ledger.answered[place] >= wanted[place] for place in places), f"{answers} answers each of {places}")

    def _run(self, chance: random.Random) -> None:
        caller = Caller(self.ledger, chance)
        while not self.ending.wait(self._pause_seconds):
            door, token = chance.choice(self._doors), self.ledger.pick(chance)
            what = chance.choices(ENDPOINTS, (2, 2, 3, 2, 2))[0]
            if token is None or what in ISSUING.values():
                caller.issue(door, chance.choice(list(ISSUING)))
            else:
                {"validate": caller.validate, "introspect": caller.introspect, "revoke": caller.revoke}[what](door, token)
        caller.close()


def ask_about_everything(ledger: Ledger, doors: Sequence[int]) -> None:
    """Validate every token again, a one-time token at two doors: all parts are up, so every answer must come."""
    lost, tokens = ledger.lost.total(), list(ledger.tokens.values())

    def ask(part: int) -> None:
        caller = Caller(ledger, random.Random(part))
        for number, token in enumerate(tokens[part::ASKING]):
            for turn in range(2 if token.kind is Kind.ONE_TIME else 1):
                caller.validate(doors[(number + turn) % len(doors)], token)
        caller.close()

    with ThreadPoolExecutor(ASKING) as threads:
        list(threads.map(ask, range(ASKING)))
    assert ledger.lost.total() == lost, "with all parts up an answer was lost"


def live_state(redis_port: int, client_id: str) -> dict[bytes, TokenValue | Tombstone]:
    """What Redis holds of the client's tokens, by their names."""
    found = {}
    with redis.Redis(port=redis_port) as client:
        keys = [key for key in client.scan_iter(count=2000, _type="string") if len(key) == 24 and key == token_key(key[4:])]
        for start in range(0, len(keys), 2000):
            page = keys[start : start + 2000]
            for key, stored in zip(page, client.mget(page), strict=True):
                value = decode_token(stored)
                if value.client_id == client_id:
                    found[key[4:]] = value
    return found


def record_state(records: Path, client_id: str) -> dict[bytes, TokenRecord]:
    """What the record store holds of the client's tokens, by their names."""
    with closing(sqlite3.connect(records, timeout=30)) as connection:
        rows = [TokenRecord(*row) for row in connection.execute(READ_RECORDS, (client_id,))]
    found = {row.name: row for row in rows}
    assert len(found) == len(rows), "a token has two rows"
    return found


def discrepancies(ledger: Ledger, live: dict[bytes, TokenValue | Tombstone], records: dict[bytes, TokenRecord]) -> list[str]:
    """Everything in which the two stores differ from the answers, or from each other."""
    found = list(ledger.wrong)
    for name, token in ledger.tokens.items():
        state, record = live.get(name), records.get(name)
        if state is None or record is None:
            found.append(f"{jti(name)} {token}: redis holds {state}, the record store {record}")
            continue
        if _ending(state) not in token.endings():
            found.append(f"{jti(name)} {token}: redis holds {state}")
        if record.kind != token.kind or record.voided_ms is not None or not _agree(state, record):
            found.append(f"{jti(name)} {token}: redis holds {state}, but the record store {record}")
    unknown, lost = (live.keys() | records.keys()) - ledger.tokens.keys(), sum(ledger.lost[endpoint] for endpoint in ISSUING.values())
    if len(unknown) > lost:
        found.append(f"{len(unknown)} tokens that nobody was given, after {lost} lost answers")
    for name in unknown & records.keys():
        if name not in live and records[name].voided_ms is None:
            found.append(f"{jti(name)}: the record store holds {records[name]}, redis nothing")
        elif name in live and not _agree(live[name], records[name]):
            found.append(f"{jti(name)}: redis holds {live[name]}, but the record store {records[name]}")
    return found


def _ending(state: TokenValue | Tombstone) -> Event | None:
    return Event(state.reason) if isinstance(state, Tombstone) else None


def _agree(state: TokenValue | Tombstone, record: TokenRecord) -> bool:
    """Whether a row says the same as a live value, or ended at the very moment that a tombstone names."""
    ends = (record.used_ms, record.revoked_ms)
    if isinstance(state, Tombstone):
        return ends == ((state.at_ms, None) if state.reason == Event.USED else (None, state.at_ms))
    issued_ms, ttl_ms = state.issued_seconds * 1000, state.ttl_seconds * 1000
    told = (state.kind, state.incarnation, state.client_id, state.epoch, state.scope, issued_ms, issued_ms + ttl_ms)
    kept = (record.kind, record.incarnation, record.client_id, record.epoch, record.scope, record.issued_ms, record.expires_ms)
    return ends == (None, None) and told == kept
