"""What Redis refuses, as what we say: the one place where the pipeline reads its error words."""

from __future__ import annotations

import hiredis
import structlog

from authsvc.errors import Unavailable

log = structlog.get_logger(__name__)


class NoSuchKey(Unavailable):
    """A question about a key that is not there."""


class UnderWay(Unavailable):
    """The key's slot is on its way to another master of the cluster; nothing was done."""


class Moved(UnderWay):
    """Another master of the cluster has the key; nothing was done."""


class Followed(hiredis.ReplyError):
    """A MOVED that was heard by a connection that follows the cluster: to any other it is an error of the settings."""


_PASSING = ("LOADING", "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN", "BUSY", "NOREPLICAS")
"""What a server says that will be able to answer later."""


def translate(error: hiredis.ReplyError) -> Unavailable:
    """A refusal of Redis as ours: the one place where its error words are read."""
    if "no such key" in str(error):
        return NoSuchKey("The shared store does not hold that.")
    word = str(error).partition(" ")[0]
    if word == "OOM":
        return Unavailable("The shared store is full.")
    if word in ("ASK", "TRYAGAIN"):
        return UnderWay("The shared store is being rearranged.")
    if isinstance(error, Followed):
        return Moved("The shared store is being rearranged.")
    if word not in _PASSING:
        log.error("redis refused a command", error=str(error))
    return Unavailable("The shared store cannot answer now.")
