"""What an import is told: the files of a list and how to read them."""

import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from datamgr.errors import InvalidError
from scanners.importers import formats, pieces
from scanners.paths import is_below


@dataclass(frozen=True)
class ListSource:
    """Which files to import, and how to read them.

    `columns` is the layout where the site chooses it, `max_bad` how many lines may be unreadable.
    `modes_decide` says that there are no access control lists, which no list tells of: then the
    modes say who may list a directory, and else only staff may.
    """

    files: tuple[str, ...]
    format: str
    columns: str | None = None
    roots: tuple[bytes, ...] = ()
    prefix: bytes = b""
    max_bad: int = 0
    modes_decide: bool = False

    def checked(self) -> "ListSource":
        """The source with normalised paths.

        Raises:
            InvalidError: format, columns or paths are none.
        """
        formats.by_name(self.format, self.columns)
        if self.files.count(pieces.STANDARD_INPUT) > 1:
            raise InvalidError("standard input can be read once only")
        prefix = _absolute(self.prefix, "--prefix").rstrip(b"/") if self.prefix else b""
        roots = tuple(sorted({_absolute(root, "--root") for root in self.roots}))
        for root in roots:
            for other in roots:
                if other != root and is_below(root, other):
                    raise InvalidError(
                        f"{os.fsdecode(root)} lies in {os.fsdecode(other)}; name only one of them"
                    )
        return replace(self, prefix=prefix, roots=roots)

    def taken_at(self) -> datetime | None:
        """When the list was begun: by its headers, or else when its oldest file was written.

        None for standard input and the like, and if that was not in the past.
        """
        list_format = formats.by_name(self.format, self.columns)
        found = []
        for file in self.files:
            with suppress(OSError):
                if stat.S_ISREG((status := os.stat(file)).st_mode):
                    told = list_format.taken_at_s(pieces.beginning(file))
                    found.append(int(status.st_mtime) if told is None else told)
        if not found or min(found) > time.time():
            return None
        return datetime.fromtimestamp(min(found), UTC)


def _absolute(path: bytes, option: str) -> bytes:
    if not path.startswith(b"/"):
        raise InvalidError(f"{option} {os.fsdecode(path)} is no absolute path")
    return b"/" + os.path.normpath(path).lstrip(b"/")
