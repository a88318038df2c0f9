"""The fold of a batch: events commute, repeat without harm, and the first of two times stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model import Event, TokenEvent, TokenRecord, TokenValue
from authsvc.writer import fold

VALUE = TokenValue("a", 12, "orders", 345, "read write", 1_790_000_000, 3600)
NAMES = [bytes([first]) + b"\x07" * 19 for first in (0x00, 0x0A, 0x7F, 0x80, 0xFF)]
VALUES = {
    name: VALUE._replace(kind="ao"[number % 2], client_id=f"client-{number}", epoch=number, issued_seconds=1_790_000_000 + number)
    for number, name in enumerate(NAMES)
}
"""Every event of one token carries the same value."""
MEMBERS = {Event.USED: "used_ms", Event.REVOKED: "revoked_ms", Event.VOIDED: "voided_ms"}

REQUESTS = {Event.ISSUED: "issued_request_id", Event.USED: "used_request_id", Event.REVOKED: "revoked_request_id"}

events = st.builds(
    lambda event, name, at_ms, request_id, by: TokenEvent(event, name, at_ms, VALUES[name], request_id, by),
    st.sampled_from(Event).map(lambda event: event.value),
    st.sampled_from(NAMES),
    st.integers(0, 2**45) | st.integers(0, 3),
    st.sampled_from((None, "request-1", "request-2")),
    st.sampled_from((None, "orders", "alice@host")),
)


def event(kind: Event, at_ms: int = 1_790_000_000_500, name: bytes = NAMES[0]) -> TokenEvent:
    return TokenEvent(kind.value, name, at_ms, VALUES[name])


@given(st.lists(events, max_size=12), st.data())
def test_order_and_multiplicity_change_nothing(given_events: list[TokenEvent], data: st.DataObject) -> None:
    more = data.draw(st.lists(st.sampled_from(given_events), max_size=8)) if given_events else []
    shuffled = data.draw(st.permutations(given_events + more))
    assert fold(shuffled) == fold(given_events)


@given(st.lists(events, max_size=20))
def test_each_record_says_what_its_events_say(given_events: list[TokenEvent]) -> None:
    records = fold(given_events)
    assert [record.name for record in records] == sorted({found.name for found in given_events})
    for record in records:
        for kind, member in MEMBERS.items():
            times = [found.at_ms for found in given_events if found.name == record.name and found.event == kind.value]
            assert getattr(record, member) == min(times, default=None)
        for kind, member in REQUESTS.items():
            mine = [found for found in given_events if found.name == record.name and found.event == kind.value]
            first = [found for found in mine if kind == Event.ISSUED or found.at_ms == min(found.at_ms for found in mine)]
            assert getattr(record, member) == min((found.request_id for found in first if found.request_id), default=None)


@given(st.lists(events, max_size=10), st.lists(events, max_size=10))
def test_a_record_depends_on_the_events_of_its_own_token_only(mine: list[TokenEvent], others: list[TokenEvent]) -> None:
    own = [found for found in mine if found.name == NAMES[2]]
    foreign = [found for found in others if found.name != NAMES[2]]
    assert [record for record in fold(own + foreign) if record.name == NAMES[2]] == fold(own)


@pytest.mark.parametrize("kind", Event)
def test_any_one_event_makes_a_complete_record(kind: Event) -> None:
    (record,) = fold([event(kind)])
    assert replace(record, used_ms=None, revoked_ms=None, voided_ms=None) == TokenRecord(
        NAMES[0], "a", 12, "client-0", 0, "read write", 1_790_000_000_000, 1_790_003_600_000
    )
    times = {member: getattr(record, member) for member in MEMBERS.values()}
    assert times == {member: 1_790_000_000_500 if other == kind else None for other, member in MEMBERS.items()}


@pytest.mark.parametrize("kind", MEMBERS)
@pytest.mark.parametrize("times", [(0, 5), (5, 0), (5, 5), (7, 5, 6)])
def test_the_earliest_of_several_times_stays(kind: Event, times: tuple[int, ...]) -> None:
    (record,) = fold(event(kind, at_ms) for at_ms in times)
    assert getattr(record, MEMBERS[kind]) == min(times)


def test_the_request_of_the_earlier_event_stays_and_who_revoked() -> None:
    later, earlier = event(Event.REVOKED, 9)._replace(request_id="a", by="orders"), event(Event.REVOKED, 8)._replace(request_id="b")
    for order in ([later, earlier], [earlier, later]):
        (record,) = fold(order)
        assert (record.revoked_ms, record.revoked_request_id, record.revoked_by) == (8, "b", None)


def test_an_entry_of_an_earlier_release_takes_nothing_from_what_is_known() -> None:
    known = event(Event.ISSUED)._replace(request_id="a")
    for order in ([known, event(Event.ISSUED)], [event(Event.ISSUED), known]):
        assert fold(order)[0].issued_request_id == "a"


def test_used_and_revoked_and_voided_stand_side_by_side() -> None:
    (record,) = fold([event(Event.VOIDED, 4), event(Event.REVOKED, 3), event(Event.ISSUED, 1), event(Event.USED, 2)])
    assert (record.used_ms, record.revoked_ms, record.voided_ms) == (2, 3, 4)


def test_a_token_issued_after_its_end_was_read_stays_ended() -> None:
    (record,) = fold([event(Event.REVOKED, 9), event(Event.ISSUED, 1)])
    assert record.revoked_ms == 9


def test_no_events_make_no_records() -> None:
    assert fold([]) == []
