"""History: how far Redis had come when this process last looked, so that older data never passes for the newest.

A server that was restored from a copy, or failed over to a replica that lags, has forgotten revocations. Whoever sees that
its data ran back takes the directory's versions away, so that everyone answers 503 until the writer has started a new
incarnation, which ends all older tokens. Not seen: a copy made after the last look, at most a second ago.

After a start the server's data is served only when somebody vouches for it who saw it until shortly before its end: a process
that goes on, or a writer by the marks in the record store. If nobody did, it may be any copy, and a writer replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from authsvc.errors import Unavailable
from authsvc.live.forms import Malformed
from authsvc.live.keys import VERSIONS, VOUCHED
from authsvc.live.scripts import VOUCH, pack
from authsvc.live.survey import BEAT_MARK, Ask, Survey, take_survey
from authsvc.model import StreamMark, Version

WITNESS_MS = 10_000
"""A witness saw the data no longer than this before its end. Not shorter, for a deployment that is stopped as a whole, writer
first, must find its tokens again; older copies made in that time, with all others gone, are not seen."""
_NOWHERE = StreamMark("0-0", 0)
_DROP_VERSIONS = b"".join(pack(b"DEL", key) for key in VERSIONS)

log = structlog.get_logger(__name__)


class History:
    """The marks of one incarnation. They only grow within it, and are dropped with it."""

    def __init__(self) -> None:
        self._number = 0
        self._nonce = ""
        self._marks: Mapping[str, StreamMark] = {}

    @property
    def number(self) -> int:
        """Number of the newest incarnation seen; 0 before any."""
        return self._number

    @property
    def beat(self) -> int | None:
        """The beat noted last; None before any, when it is not for this process to move it on."""
        noted = self._marks.get(BEAT_MARK)
        return None if noted is None else noted.entries_added

    def knows(self, version: Version) -> bool:
        """Whether the marks are of this incarnation."""
        return self._number == version.number and self._nonce in ("", version.nonce)

    def recall(self, number: int, marks: Mapping[str, StreamMark]) -> None:
        """Take over what was kept of an incarnation elsewhere."""
        self._number, self._nonce, self._marks = number, "", marks

    def note(self, survey: Survey) -> None:
        """Remember how far Redis had come; marks of an earlier incarnation are dropped."""
        if survey.version is not None:
            self._number, self._nonce, self._marks = survey.version.number, survey.version.nonce, survey.marks

    def ran_back(self, survey: Survey) -> str | None:
        """Why this is older data than was seen before, or None. Without a version nothing is served, so nothing is wrong."""
        version = survey.version
        if version is None or version.number > self._number:
            return None
        if not self.knows(version):
            return "redis holds an older incarnation than was seen before"
        for name, noted in self._marks.items():
            mark = survey.marks.get(name, _NOWHERE)
            if mark.entries_added < noted.entries_added or _order(mark.last_id) < _order(noted.last_id):
                return "redis went back to older data"
        return None

    def witnessed(self, survey: Survey) -> bool:
        """Whether it saw this incarnation until shortly before the end of the data; the times are the server's own."""
        noted = self._marks.get(BEAT_MARK)
        if noted is None or survey.version is None or not self.knows(survey.version):
            return False
        return _order(survey.marks[BEAT_MARK].last_id)[0] - _order(noted.last_id)[0] <= WITNESS_MS

    async def admit(self, ask: Ask) -> None:
        """Judge a new connection before anything else is asked on it; Unavailable if it must not be used yet.

        A process that did not see enough of the incarnation cannot judge: it waits until another, or a writer, has vouched.
        """
        survey = await _survey(ask, None)
        if await self._drop_if_ran_back(survey, ask):
            return
        if survey.version is None or survey.vouched == survey.run_id:
            return
        if not self.witnessed(survey):
            raise Unavailable("Nobody has compared the shared store with what it held before it started.")
        await ask(VOUCH.fallback((VOUCHED,), survey.run_id.encode("ascii")), 1)

    async def watch(self, ask: Ask, *, leaving: bool = False) -> Survey:
        """Look again, once a second, and note what is found; who is `leaving` lets the beat stand for those who stay."""
        survey = await _survey(ask, None if leaving else self.beat)
        if not await self._drop_if_ran_back(survey, ask):
            self.note(survey)
        return survey

    async def _drop_if_ran_back(self, survey: Survey, ask: Ask) -> bool:
        reason = self.ran_back(survey)
        if reason is None:
            return False
        log.error("the directory's versions are taken away until a writer starts a new incarnation", reason=reason)
        for reply in await ask(_DROP_VERSIONS, len(VERSIONS)):
            if isinstance(reply, Unavailable):
                raise reply
        return True


async def _survey(ask: Ask, beat_from: int | None) -> Survey:
    try:
        return await take_survey(ask, beat_from=beat_from)
    except Malformed as error:
        # A writer mends it.
        raise Unavailable("The directory's version cannot be read.") from error


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = stream_id.partition("-")
    return int(milliseconds), int(sequence)
