"""How names and rows leave datamgr: text that is safe to show, and values of JSON."""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from datamgr.errors import InvalidError

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


def printable_all(names: Sequence[bytes]) -> list[str]:
    """As `printable`, of many names at once, in a fraction of the time."""
    if not names:
        return []
    # No name has a NUL, and none is decoded otherwise for what stands beside it.
    shown = os.fsdecode(b"\0".join(names)).split("\0")
    if "".join(shown).isprintable():
        return shown
    return [name if name.isprintable() else printable(name) for name in shown]


def to_address(path: bytes) -> str:
    """A path as it travels in an address: base64url without padding. Source: RFC 4648, 5."""
    return base64.urlsafe_b64encode(path).decode("ascii").rstrip("=")


def from_address(text: str) -> bytes:
    """The bytes of a path from an address.

    Raises:
        InvalidError: it is none that `to_address` made.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("the path in this address is no base64url; follow a link") from error


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
