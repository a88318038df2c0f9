"""Files as a ConfigMap's `binaryData` holds them: compressed, each under its name with `.gz`."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping


def pack(files: Mapping[str, str]) -> dict[str, str]:
    """Texts by file name, packed."""
    return {f"{name}.gz": base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii") for name, text in files.items()}


def unpack(packed: Mapping[str, str]) -> dict[str, str]:
    """What was packed."""
    return {name.removesuffix(".gz"): gzip.decompress(base64.b64decode(content)).decode() for name, content in packed.items()}
