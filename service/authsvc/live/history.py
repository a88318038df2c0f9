"""History: how far Redis had come when this process last looked, so that older data never passes for the newest.

A server that was restored from a copy, or failed over to a replica that lags, has forgotten revocations. Whoever sees that
its data ran back takes the directory's versions away, so that everyone answers 503 until the writer has started a new
incarnation, which ends all older tokens. Not seen: a copy made after the last look, at most a second ago.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from authsvc.errors import Unavailable
from authsvc.live.forms import Malformed
from authsvc.live.keys import VERSIONS
from authsvc.live.scripts import pack
from authsvc.live.survey import Ask, Survey, take_survey
from authsvc.model import StreamMark, Version

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

    async def admit(self, ask: Ask) -> None:
        """Judge a new connection before anything else is asked on it; Unavailable if it must not be used yet.

        A process that has seen nothing of the incarnation cannot judge: it waits until a writer has vouched for the server.
        """
        survey = await _survey(ask, beat=False)
        if await self._drop_if_ran_back(survey, ask):
            return
        if survey.version is not None and not self.knows(survey.version) and survey.vouched != survey.run_id:
            raise Unavailable("No writer has compared the shared store with the record store yet.")

    async def watch(self, ask: Ask) -> Survey:
        """Look again, once a second, and note what is found."""
        survey = await _survey(ask, beat=True)
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


async def _survey(ask: Ask, beat: bool) -> Survey:
    try:
        return await take_survey(ask, beat=beat)
    except Malformed as error:
        # A writer mends it.
        raise Unavailable("The directory's version cannot be read.") from error


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = stream_id.partition("-")
    return int(milliseconds), int(sequence)
