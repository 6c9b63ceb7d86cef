"""How names and rows leave datamgr: text that is safe to show, and values of JSON."""

import base64
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]


def printable(value: str | bytes | object) -> str:
    """A name that is safe to show: control characters and invalid UTF-8 are escaped.

    Without this a file name could move a terminal's cursor, forge a line of a report, or turn
    the direction of the text around it.
    """
    name = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    if name.isprintable():
        return name
    return "".join(
        c
        if c.isprintable()
        else f"\\x{ord(c) - 0xDC00:02x}"
        if 0xDC80 <= ord(c) <= 0xDCFF
        else c.encode("unicode_escape").decode("ascii")
        for c in name
    )


def encode_row(row: Row) -> dict[str, Any]:
    """JSON values of a row: ISO 8601 times; paths as display text, `_b64` where it differs."""
    encoded: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, bytes):
            shown = value.decode("utf-8", "replace")
            encoded[key] = shown
            if shown.encode() != value:
                encoded[f"{key}_b64"] = base64.b64encode(value).decode("ascii")
        elif isinstance(value, datetime):
            encoded[key] = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        elif isinstance(value, Mapping):
            encoded[key] = encode_row(value)
        elif isinstance(value, list | tuple):
            items = [encode_row({key: v}) for v in value]
            encoded[key] = [item[key] for item in items]
            if any(len(item) > 1 for item in items):
                encoded[f"{key}_b64"] = [item.get(f"{key}_b64") for item in items]
        else:
            encoded[key] = value
    return encoded
