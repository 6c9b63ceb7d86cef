"""What is in a directory of a project, for those who act for it: asked of the lister."""

import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import orm

from datamgr import catalog, display, owners
from datamgr.config import Settings
from datamgr.errors import (
    DatamgrError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from datamgr.identity import Caller
from pitoolbox import authorise, resolve
from pitoolbox.directory import MAX_LIMIT, SORTS

TIMEOUT_S = 30.0  # longer than the lister reads at most
MAX_ANSWER_BYTES = 64 << 20

_ERRORS: Mapping[str, type[DatamgrError]] = {
    "missing": NotFoundError,
    "invalid": InvalidError,
    "denied": ForbiddenError,
}


@dataclass(frozen=True)
class Entry:
    """One entry. `kind` is a letter as in `find -type`, or `mount` where something is mounted.

    `mode`: permission bits, set-id bits and the sticky bit. `has_acl`: there is more to its rights
    than the mode says. `target`: what a symbolic link says, which was not followed.
    """

    name: bytes
    kind: str
    uid: int
    gid: int
    owner: str
    group: str
    mode: int
    size_bytes: int
    mtime: datetime
    has_acl: bool
    target: bytes | None

    @property
    def is_setgid(self) -> bool:
        """Whether what is made in this directory belongs to its group."""
        return self.kind == "d" and bool(self.mode & 0o2000)


@dataclass(frozen=True)
class Listing:
    """One page of a directory. `path` is relative to the project's root, which is `.`.

    `here`: the directory itself. `after`: hand it in for the next page; None on the last one.
    `read`: names that were looked at, all of the directory unless `capped`, which is the sentence
    that says why not. `is_privileged`: the lister sees what only others may read.
    """

    path: bytes
    here: Entry
    entries: tuple[Entry, ...]
    after: bytes | None
    read: int
    capped: str | None
    is_privileged: bool


def list_directory(  # noqa: PLR0913
    settings: Settings,
    session: orm.Session,
    caller: Caller,
    project: str,
    path: bytes = b".",
    *,
    after: bytes | None = None,
    limit: int = 200,
    sort: str = "name",
) -> Listing:
    """One page of a directory of a project, as it is now.

    `path`: absolute, or relative to the project. `sort`: `name`, `size` (largest first) or `mtime`
    (newest first). A page that is asked `after` another misses nothing that stays as it is.

    Raises:
        NotFoundError: there is no such project or directory.
        ForbiddenError: the caller does not act for the project.
        InvalidError: the path is outside, or leads through a symbolic link or a mount, or the
            project's root was replaced.
        UnavailableError: the lister does not run.
    """
    if sort not in SORTS:
        raise InvalidError(f"{sort!r} is no order; known are {', '.join(SORTS)}")
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidError(f"a page has from 1 to {MAX_LIMIT} entries, not {limit}")
    found = catalog.project(session, project)
    authorise.require(settings, caller, found)
    device, inode = resolve.pin(found)
    (below,) = resolve.relative_paths(found, [path])
    question = {
        "root": found.path.decode("latin-1"),
        "device": device,
        "inode": inode,
        "path": below.decode("latin-1"),
        "after": None if after is None else after.decode("latin-1"),
        "limit": limit,
        "sort": sort,
    }
    heard = ask(settings.lister_socket, question)
    if "refused" in heard:
        error = _ERRORS.get(str(heard.get("kind")), UnavailableError)
        raise error(f"{display.printable(path)} cannot be listed: {heard['refused']}")
    try:
        return _listing(below, heard)
    except (LookupError, TypeError, ValueError, AttributeError) as failure:
        raise UnavailableError("the lister gave no answer that can be read") from failure


def ask(place: Path, question: Mapping[str, Any]) -> dict[str, Any]:
    """Put one question to the lister at this socket.

    Raises:
        UnavailableError: it does not run, or does not answer.
        ForbiddenError: this account may not ask it.
    """
    line = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            # Not by settimeout, with which it fails at once while others wait to be accepted.
            patience = struct.pack("@ll", int(TIMEOUT_S), 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            connection.connect(str(place))
            connection.settimeout(TIMEOUT_S)
            with suppress(BrokenPipeError):  # it may have answered already, to say no
                connection.sendall(json.dumps(question).encode() + b"\n")
            while not line.endswith(b"\n") and len(line) < MAX_ANSWER_BYTES:
                piece = connection.recv(1 << 18)
                if not piece:
                    break
                line += piece
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise UnavailableError(
            f"the lister of directories does not run (nothing answers on {place}); an operator "
            "starts it by `datamgr perms lister`"
        ) from error
    except PermissionError as error:
        raise ForbiddenError(
            f"this account may not ask the lister of directories on {place}; that is for the "
            "account of the web pages, pitoolbox.web_account"
        ) from error
    except OSError as error:
        why = error.strerror or "no answer in time"
        raise UnavailableError(f"the lister of directories does not answer: {why}") from error
    try:
        heard = json.loads(line)
    except ValueError:
        heard = None
    if not isinstance(heard, dict):
        raise UnavailableError("the lister of directories ended in the middle of its answer")
    return heard


def _listing(path: bytes, heard: Mapping[str, Any]) -> Listing:
    def entry(told: list[Any]) -> Entry:
        name, kind, uid, gid, mode, size, mtime_ns, has_acl, target = told
        return Entry(
            name=name.encode("latin-1"),
            kind=kind,
            uid=uid,
            gid=gid,
            owner=owners.user_name(uid),
            group=owners.group_name(gid),
            mode=mode,
            size_bytes=size,
            mtime=_time(mtime_ns),
            has_acl=has_acl,
            target=None if target is None else target.encode("latin-1"),
        )

    return Listing(
        path=path,
        here=entry(heard["here"]),
        entries=tuple(map(entry, heard["entries"])),
        after=None if heard["next"] is None else heard["next"].encode("latin-1"),
        read=heard["read"],
        capped=None if heard["capped"] is None else _capped(heard["capped"], heard["read"]),
        is_privileged=heard["privileged"],
    )


def _time(nanoseconds: int) -> datetime:
    """A time stamp, or the nearest one that can be shown: files may claim any."""
    latest = 253_402_300_799  # the end of the year 9999
    return datetime.fromtimestamp(max(-62_135_596_800, min(nanoseconds / 1e9, latest)), UTC)


def _capped(why: str, read: int) -> str:
    reason = "which took as long as a listing may take" if why == "time" else "the most it reads"
    return f"the directory has more entries: the lister read {read:,} of them, {reason}"
