"""A managed root, opened: its directory, its archive, its rows, and nobody else at work on it."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from datamgr import db
from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from datamgr.errors import ConflictError, DatamgrError, InvalidError, NotFoundError
from tiering import kernel
from tiering.archive.posix import PosixStore
from tiering.archive.store import Store

_ROOT_LOCK = 0x74696572  # "tier" in ASCII: advisory locks of (this, hash of a root's name)


@dataclass(frozen=True)
class ManagedRoot:
    """An open root. `descriptor` is of its directory, and paths are relative to that."""

    name: str
    settings: TierSettings
    database: Database
    store: Store
    descriptor: int
    filesystem: str

    def open(self, path: bytes, flags: int) -> int:
        """Open what is at a path below the root, through no symbolic link.

        Raises:
            OSError: as open(2).
        """
        return kernel.open_beneath(self.descriptor, path, flags)

    def identity(self, descriptor: int, status: os.stat_result) -> kernel.Identity:
        """Which file is open."""
        return kernel.Identity(self.filesystem, status.st_ino, kernel.generation(descriptor))


@dataclass(frozen=True)
class Failure:
    """A file with which something went wrong, and the sentence that says what."""

    path: bytes
    reason: str


@dataclass
class Report:
    """What became of a number of files."""

    done: int = 0
    done_bytes: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)

    def fail(self, path: bytes, error: DatamgrError | OSError | str) -> None:
        """Note that a file could not be done."""
        self.failures.append(Failure(path, explain(error)))


@contextmanager
def open_root(settings: Settings, database: Database, name: str) -> Iterator[ManagedRoot]:
    """The managed root of this name, for one process at a time. `recovery.recover` comes first.

    Raises:
        NotFoundError: there is none, or its directory or archive is not there.
        ConflictError: another process works on it.
        UnavailableError: the file system cannot be used for tiering.
    """
    if name not in settings.tier:
        raise NotFoundError(f"there is no managed root {name!r}; name it as [tier.{name}]")
    tier = settings.tier[name]
    with _locked(database, name):
        try:
            descriptor = os.open(tier.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError(
                f"the root {tier.root} cannot be opened: {explain(error)}"
            ) from error
        try:
            if not tier.archive.is_dir():
                raise NotFoundError(f"the archive {tier.archive} is no directory")
            store = PosixStore(tier.archive)
            yield ManagedRoot(
                name, tier, database, store, descriptor, kernel.filesystem(descriptor)
            )
        finally:
            os.close(descriptor)


def relative(root: ManagedRoot, path: str | bytes) -> bytes:
    """The path of something below the root, relative to it; links in it are not followed.

    Raises:
        InvalidError: it lies elsewhere.
    """
    top = os.fsencode(root.settings.root)
    whole = os.path.normpath(os.path.join(os.getcwdb(), os.fsencode(path)))
    if whole == top:
        return b"."
    if not whole.startswith(top.rstrip(b"/") + b"/"):
        raise InvalidError(f"{os.fsdecode(path)} is not below {root.settings.root}")
    return os.path.relpath(whole, top)


def each(paths: Iterable[bytes], work: Callable[[bytes], int | None]) -> Report:
    """Do a piece of work for each path; it says how many bytes, or None if there was no need.

    What goes wrong with one file is noted, and the others are done.
    """
    report = Report()
    for path in paths:
        try:
            size_bytes = work(path)
        except (DatamgrError, OSError) as error:
            report.fail(path, error)
            continue
        if size_bytes is None:
            report.unchanged += 1
        else:
            report.done, report.done_bytes = report.done + 1, report.done_bytes + size_bytes
    return report


def explain(error: DatamgrError | OSError | str) -> str:
    """The sentence for a user."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


@contextmanager
def _locked(database: Database, name: str) -> Iterator[None]:
    with db.explained(), database.engine.connect() as connection:
        # A transaction that stays open would hold back the cleaning of all tables.
        connection.execution_options(isolation_level="AUTOCOMMIT")
        number = sa.func.hashtext(name)
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_ROOT_LOCK, number))):
            raise ConflictError(f"another process works on the managed root {name!r}")
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_ROOT_LOCK, number)))
