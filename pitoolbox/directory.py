"""One question to the lister: a page of what is in one directory below the root of a project.

Nothing in the question is believed. Nothing is opened but directories, and no link is followed.
"""

import heapq
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pitoolbox.privileged import checks, kernel, policy
from pitoolbox.privileged.errors import RefusedError

MAX_LIMIT = 1000  # entries of one page
MAX_SECONDS = 10.0  # for reading names; what comes after is left out, and the answer says so

_ACLS = {
    "system.posix_acl_access",
    "system.posix_acl_default",
    "system.nfs4_acl",
    "system.gpfs_nfs4_acl",
    "system.richacl",
}
_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
}
# What each order compares first; the names decide between equals.
_VALUES: dict[str, Callable[[os.stat_result], int]] = {
    "size": lambda found: -found.st_size,
    "mtime": lambda found: -found.st_mtime_ns,
}
SORTS = ("name", *_VALUES)

_Key = tuple[int, bytes]


@dataclass(frozen=True)
class Rules:
    """What the operator allows. `privileged`: this process may read what others may not."""

    roots: Sequence[bytes]
    privileged: bool
    max_names: int
    max_seconds: float = MAX_SECONDS


@dataclass
class _Reading:
    """The names of one open directory, with how many were read and why not all."""

    place: bytes
    rules: Rules
    read: int = 0
    capped: str | None = None
    _ends_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._ends_at = time.monotonic() + self.rules.max_seconds

    def entries(self) -> "Iterator[os.DirEntry[bytes]]":
        with os.scandir(self.place) as entries:
            for entry in entries:
                if self.read >= self.rules.max_names:
                    self.capped = "names"
                    return
                if self.read % 256 == 255 and time.monotonic() >= self._ends_at:
                    self.capped = "time"
                    return
                self.read += 1
                yield entry


def page(rules: Rules, told: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question; however many entries there are, it holds those of the page.

    Raises:
        RefusedError: the question is malformed, or its root is none of a project.
        OSError: the directory cannot be opened or read.
        LookupError, TypeError, ValueError: the question is malformed.
    """
    path = checks.plain_path(told["path"])
    limit = checks.integer(told["limit"], 1, MAX_LIMIT)
    sort = told["sort"]
    if sort not in SORTS:
        raise RefusedError(f"{sort!r} is no order; known are {', '.join(SORTS)}")
    after = None if told["after"] is None else _parse(sort, checks.encoded(told["after"]))
    root, _ = policy.open_root(rules.roots, told, rules.privileged)
    try:
        opened = kernel.open_beneath(root, path, kernel.OPEN_LISTING)
    finally:
        os.close(root)
    try:
        return _page(rules, opened, sort, after, limit)
    finally:
        os.close(opened)


def _page(rules: Rules, opened: int, sort: str, after: _Key | None, limit: int) -> dict[str, Any]:
    # By its descriptor, and as bytes in any locale.
    place = kernel.proc_path(opened)
    reading = _Reading(place, rules)
    keys = _keys(reading.entries(), sort)
    chosen = heapq.nsmallest(limit + 1, keys if after is None else (k for k in keys if k > after))
    here = os.fstat(opened)
    entries = (_entry(place + b"/" + name, name, here.st_dev) for _, name in chosen[:limit])
    return {
        "here": _row(b".", "d", here, _has_acl(place, follow=True), None),
        "entries": [entry for entry in entries if entry is not None],
        "next": _cursor(sort, chosen[limit - 1]) if len(chosen) > limit else None,
        "read": reading.read,
        "capped": reading.capped,
        "privileged": rules.privileged,
    }


def _keys(entries: "Iterator[os.DirEntry[bytes]]", sort: str) -> Iterator[_Key]:
    value = _VALUES.get(sort)
    for entry in entries:
        if value is None:
            yield 0, entry.name
            continue
        with suppress(OSError):  # gone again
            yield value(entry.stat(follow_symlinks=False)), entry.name


def _cursor(sort: str, key: _Key) -> str:
    """What the next page starts after, as text; a slash ends the number, for no name has one."""
    name = key[1] if sort == "name" else b"%d/%s" % key
    return name.decode("latin-1")


def _parse(sort: str, cursor: bytes) -> _Key:
    number, slash, name = cursor.partition(b"/")
    if sort == "name":
        number, name = b"0", cursor
    elif not slash:
        raise RefusedError("that is no place to go on from in this order")
    return int(number), name


def _entry(path: bytes, name: bytes, device: int) -> list[Any] | None:
    """Everything about one entry; None when it is gone again."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    target = None
    if stat.S_ISLNK(found.st_mode):
        with suppress(OSError):
            target = os.readlink(path)
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "?")
    acl = _has_acl(path, follow=False)
    return _row(name, kind if found.st_dev == device else "mount", found, acl, target)


def _row(
    name: bytes, kind: str, found: os.stat_result, acl: bool, target: bytes | None
) -> list[Any]:
    return [
        name.decode("latin-1"),
        kind,
        found.st_uid,
        found.st_gid,
        stat.S_IMODE(found.st_mode),
        found.st_size,
        found.st_mtime_ns,
        acl,
        None if target is None else target.decode("latin-1"),
    ]


def _has_acl(path: bytes, *, follow: bool) -> bool:
    """Whether an entry has an ACL, default ones of directories too, as the `+` of ls(1)."""
    try:
        return not _ACLS.isdisjoint(os.listxattr(path, follow_symlinks=follow))
    except OSError:
        return False
