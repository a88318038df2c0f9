"""What unit tests share: how hypothesis runs, so that a busy machine fails no property."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("unit")
