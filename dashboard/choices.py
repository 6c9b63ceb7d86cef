"""What a reader chose to see, as an address that can be sent to a colleague."""

from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

from datamgr import display
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
        wanted = vars(self) | changes
        query = {}
        for name, default in _defaults(self).items():
            value = wanted[name]
            if value not in (None, "", default):
                query[name] = str(value).lower() if isinstance(value, bool) else value
        text = urlencode(query)
        return (page or self.PAGE) + (f"?{text}" if text else "") + (fragment and f"#{fragment}")

    def hidden(self, *without: str) -> list[tuple[str, Any]]:
        """What a form hands on beside its own fields, which are named in `without`."""
        return [
            (name, str(value).lower() if isinstance(value, bool) else value)
            for name, default in _defaults(self).items()
            if name not in without and (value := getattr(self, name)) not in (None, "", default)
        ]


def _defaults(choice: Choice) -> dict[str, Any]:
    """The choices by name, with what they are by default; None for what has no default."""
    return {
        field.name: None if field.default is MISSING else field.default for field in fields(choice)
    }


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


encode_path = display.to_address


def decode_path(text: str) -> bytes:
    """The bytes of an absolute path from an address.

    Raises:
        InvalidError: it is none that `encode_path` made.
    """
    path = display.from_address(text)
    if not path.startswith(b"/") or b"\0" in path:
        raise InvalidError("the path in this address is not absolute; follow a link")
    return path


def pages_of(total: int, size: int, page: int) -> tuple[int, int]:
    """The page that exists nearest to the one asked for, from 1, and how many there are."""
    last = max(1, -(-total // size))
    return min(max(1, page), last), last
