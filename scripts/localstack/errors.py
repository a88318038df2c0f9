"""The one refusal of the local stack: a sentence for the person who started it."""

from __future__ import annotations


class StackError(Exception):
    """Says in one sentence what is wrong and what to do about it."""
