"""What a reader chose to see, as an address that can be sent to a colleague."""

import base64
import binascii
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

from datamgr.errors import InvalidError

Basis = Literal["atime", "mtime", "ctime"]
Measure = Literal["bytes", "inodes"]
MEASURES = {"bytes": "space", "inodes": "inodes"}
BASES = {"atime": "last read", "mtime": "content changed", "ctime": "anything changed"}
TOPS = (10, 20, 50, 100)


@dataclass(frozen=True)
class Choice:
    """The choices of one page; each change of them is a link."""

    PAGE: ClassVar[str]

    def url(self, fragment: str = "", page: str = "", **changes: Any) -> str:
        """The address of the page with these choices changed, or of the page at `page`.

        What is as it is by default is left out.
        """
        wanted = replace(self, **changes)
        query = {}
        for field in fields(wanted):
            value = getattr(wanted, field.name)
            default = None if field.default is MISSING else field.default
            if value not in (None, "", default):
                query[field.name] = str(value).lower() if isinstance(value, bool) else value
        text = urlencode(query)
        return (page or self.PAGE) + (f"?{text}" if text else "") + (fragment and f"#{fragment}")

    def hidden(self, *without: str) -> list[tuple[str, Any]]:
        """What a form hands on beside its own fields, which are named in `without`."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return [
            (name, str(value).lower() if isinstance(value, bool) else value)
            for name, value in shown.items()
            if name not in without and value not in (None, "", defaults[name])
        ]


@dataclass(frozen=True)
class UsageChoice(Choice):
    """Of which project what is shown; None means all.

    `user` means what this account owns, `parents` directories that have listed ones in them,
    `since` a date, `at` the directory of the map, `directories` those that grew.
    """

    PAGE: ClassVar[str] = "/usage"

    filesystem: str | None = None
    project: str | None = None
    user: str = ""
    basis: Basis = "mtime"
    top: int = TOPS[0]
    parents: bool = False
    measure: Measure = "bytes"
    since: str = ""
    directories: bool = False
    at: str = ""


def encode_path(path: bytes) -> str:
    """A path as it travels in an address: base64url without padding. Source: RFC 4648, 5."""
    return base64.urlsafe_b64encode(path).decode("ascii").rstrip("=")


def decode_path(text: str) -> bytes:
    """The bytes of a path from an address.

    Raises:
        InvalidError: it is none that `encode_path` made.
    """
    try:
        path = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("the path in this address is no base64url; follow a link") from error
    if not path.startswith(b"/") or b"\0" in path:
        raise InvalidError("the path in this address is not absolute; follow a link")
    return path


def pages_of(total: int, size: int, page: int) -> tuple[int, int]:
    """The page that exists nearest to the one asked for, from 1, and how many there are."""
    last = max(1, -(-total // size))
    return min(max(1, page), last), last
