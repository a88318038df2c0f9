"""Lists of the Kubernetes API as they come over the wire: their items, without the client's own models."""

from __future__ import annotations

import json
from typing import Any


def listed(list_them: Any, *namespace: str, **selector: str) -> list[dict[str, Any]]:
    """What one of the client's methods lists."""
    return list(json.loads(list_them(*namespace, **selector, _preload_content=False).data)["items"])
