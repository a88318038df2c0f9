"""History: how far Redis had come when this process last looked, so that older data never passes for the newest.

A server that was restored from a copy, or failed over to a replica that lags, has forgotten revocations. Whoever sees that
its data ran back takes the directory's versions away, so that everyone answers 503 until the writer has started a new
incarnation, which ends all older tokens. Not seen: a copy made after the last look, at most a second ago.

After a start a server's data is served only when somebody vouches for it who saw it until shortly before its end: a process
that goes on, or a writer by the marks in the record store. If nobody did, it may be any copy, and a writer replaces it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from authsvc.errors import Unavailable
from authsvc.live.forms import Malformed
from authsvc.live.keys import VERSIONS, VOUCHES
from authsvc.live.masters import Master
from authsvc.live.scripts import VOUCH, pack
from authsvc.live.survey import BEAT_MARKS, Survey, survey_part, whole_of
from authsvc.model import StreamMark, Version

WITNESS_MS = 10_000
"""A witness saw the data no longer than this before its end. Not shorter, for a deployment that is stopped as a whole, writer
first, must find its tokens again; older copies made in that time, with all others gone, are not seen."""
_NOWHERE = StreamMark("0-0", 0)

log = structlog.get_logger(__name__)


class History:
    """The marks of one incarnation. They only grow within it, and are dropped with it."""

    def __init__(self) -> None:
        self._number = 0
        self._nonce = ""
        self._marks: Mapping[str, StreamMark] = {}
        self._unseen: set[int] = set()
        """Leads of masters whose last look failed: no beat of theirs is moved on, for it could not be noted."""

    @property
    def number(self) -> int:
        """Number of the newest incarnation seen; 0 before any."""
        return self._number

    @property
    def beats(self) -> Mapping[str, int]:
        """The beats noted last; what is not among them is not for this process to move on."""
        return {name: self._marks[name].entries_added for name in BEAT_MARKS if name in self._marks}

    def knows(self, version: Version) -> bool:
        """Whether the marks are of this incarnation."""
        return self._number == version.number and self._nonce in ("", version.nonce)

    def recall(self, number: int, marks: Mapping[str, StreamMark]) -> None:
        """Take over what was kept of an incarnation elsewhere."""
        self._number, self._nonce, self._marks = number, "", marks

    def note(self, survey: Survey) -> None:
        """Remember how far Redis, or one master of it, had come; marks of an earlier incarnation are dropped."""
        version = survey.version
        if version is not None:
            kept = self._marks if self.knows(version) else {}
            self._number, self._nonce, self._marks = version.number, version.nonce, {**kept, **survey.marks}

    def ran_back(self, survey: Survey) -> str | None:
        """Why this is older data than was seen before, or None. Without a version nothing is served, so nothing is wrong."""
        version = survey.version
        if version is None or version.number > self._number:
            return None
        if not self.knows(version):
            return "redis holds an older incarnation than was seen before"
        for name, mark in survey.marks.items():
            noted = self._marks.get(name, _NOWHERE)
            if mark.entries_added < noted.entries_added or _order(mark.last_id) < _order(noted.last_id):
                return "redis went back to older data"
        return None

    def witnessed(self, survey: Survey) -> bool:
        """Whether it saw this incarnation until shortly before the end of the data; the times are the server's own."""
        if survey.version is None or not self.knows(survey.version):
            return False
        beats = {name: mark for name, mark in survey.marks.items() if name in BEAT_MARKS}
        # None at all, when all is on its way to other masters, tells nothing.
        return bool(beats) and all(
            name in self._marks and _order(mark.last_id)[0] - _order(self._marks[name].last_id)[0] <= WITNESS_MS
            for name, mark in beats.items()
        )

    async def admit(self, master: Master) -> None:
        """Judge a new connection before anything else is asked on it; Unavailable if it must not be used yet.

        A process that did not see enough of the incarnation cannot judge: it waits until another, or a writer, has vouched.
        """
        survey = await _survey(master, None)
        if await self._drop_if_ran_back(survey, master):
            return
        if survey.version is None or survey.vouched == survey.run_id:
            return
        if not self.witnessed(survey):
            raise Unavailable("Nobody has compared the shared store with what it held before it started.")
        await master.ask(VOUCH.fallback((VOUCHES[master.lead],), survey.run_id.encode("ascii")), 1)

    async def watch(self, masters: Sequence[Master], *, leaving: bool = False) -> Survey:
        """Look again, once a second, and note what is found; who is `leaving` lets the beats stand for those who stay.

        Each master is judged and noted by itself: what one shows is known even while another is away (then Unavailable).
        """
        beats = None if leaving else self.beats
        home, *others = sorted(masters, key=lambda master: master.lead)
        # Home's alone and first: a build closes there last, so that no other is behind what home showed.
        parts = [
            *await asyncio.gather(self._watch_part(home, beats), return_exceptions=True),
            *await asyncio.gather(*(self._watch_part(master, beats) for master in others), return_exceptions=True),
        ]
        for part in parts:
            if isinstance(part, BaseException):
                raise part
        return whole_of((home, *others), [part for part in parts if isinstance(part, Survey)])

    async def _watch_part(self, master: Master, beats: Mapping[str, int] | None) -> Survey:
        seen_before = master.lead not in self._unseen
        self._unseen.add(master.lead)
        survey = await _survey(master, beats if seen_before else None)
        self._unseen.discard(master.lead)
        if not await self._drop_if_ran_back(survey, master):
            self.note(survey)
        return survey

    async def _drop_if_ran_back(self, survey: Survey, master: Master) -> bool:
        """Take the versions of all that the master holds away, if it holds older data; a writer replaces what lost one."""
        reason = self.ran_back(survey)
        if reason is None:
            return False
        log.error("the directory's versions are taken away until a writer starts a new incarnation", reason=reason)
        command = b"".join(pack(b"DEL", VERSIONS[shard]) for shard in master.shards)
        replies = await master.ask(command, len(master.shards))
        # A lone command is answered, or refused, by itself.
        for reply in replies if len(master.shards) > 1 else ():
            if isinstance(reply, Unavailable):
                raise reply
        return True


async def _survey(master: Master, beats: Mapping[str, int] | None) -> Survey:
    try:
        return await survey_part(master, beats)
    except Malformed as error:
        # A writer mends it.
        raise Unavailable("The directory's version cannot be read.") from error


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = stream_id.partition("-")
    return int(milliseconds), int(sequence)
