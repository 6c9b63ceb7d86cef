"""A managed root, opened: its directory, its archive, its rows, and nobody else at work on it."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from datamgr.errors import (
    ConflictError,
    DatamgrError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from datamgr.exclusive import Exclusive
from tiering import access, kernel, stub
from tiering.access import Rights
from tiering.archive import configured
from tiering.archive.store import ArchiveError, Store
from tiering.models import ROOT_LOCK, VERIFIED, TierContainer, TierFile

_CONTAINERS_LOOKED_FOR = 20  # the newest: one of them may have been lost


@dataclass(frozen=True)
class ManagedRoot:
    """An open root. `descriptor` is of its directory, and paths are relative to that."""

    name: str
    settings: TierSettings
    database: Database
    store: Store
    descriptor: int
    filesystem: str
    hold: Callable[[], None]  # raises if another process has taken the root
    rights: Rights | None = None  # None: those of this process

    def open(self, path: bytes, flags: int) -> int:
        """Open what is at a path below the root, through no symbolic link.

        Raises:
            OSError: as open(2); EACCES if who asked may neither read nor write it.
        """
        if self.rights is None or os.geteuid() != 0:
            try:
                return kernel.open_beneath(self.descriptor, path, flags)
            except PermissionError:
                if os.geteuid() == 0:
                    raise
                return stub.open_hidden(self.descriptor, path, flags)
        return access.open_for(self.rights, self.descriptor, path, flags)

    def require_owner(self, path: bytes, status: os.stat_result) -> None:
        """Be sure that those for whom this is done own a file or act for its project.

        Raises:
            ForbiddenError: they do not.
        """
        rights = self.rights
        if rights is None or rights.caller.uid == status.st_uid or rights.manages(path):
            return
        raise ForbiddenError("only its owner, a PI of its project and staff may do this")

    def identity(self, descriptor: int, status: os.stat_result) -> kernel.Identity:
        """Which file is open."""
        return kernel.Identity(self.filesystem, status.st_ino, kernel.generation(descriptor))


class BusyError(ConflictError):
    """Somebody has a file open; it may be done when it is closed."""


@dataclass(frozen=True)
class Failure:
    """A file with which something went wrong, and the sentence that says what.

    `is_busy`: nothing is wrong with it but that somebody has it open.
    """

    path: bytes
    reason: str
    is_busy: bool = False


@dataclass
class Report:
    """What became of a number of files.

    `watch` is called now and then while there is work, at points where stopping leaves nothing
    unfinished; what it raises ends the work.
    """

    done: int = 0
    done_bytes: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    watch: Callable[[], None] = lambda: None

    def fail(self, path: bytes, error: DatamgrError | OSError | str) -> None:
        """Note that a file could not be done."""
        self.failures.append(Failure(path, explain(error), isinstance(error, BusyError)))


@contextmanager
def open_root(settings: Settings, database: Database, name: str) -> Iterator[ManagedRoot]:
    """The managed root of this name, for one process at a time. `recovery.recover` comes first.

    Raises:
        NotFoundError: there is none, or its directory or archive is not there.
        TakenError: another process works on it.
        UnavailableError: the file system cannot be used for tiering.
    """
    if name not in settings.tier:
        raise NotFoundError(f"there is no managed root {name!r}; name it as [tier.{name}]")
    tier = settings.tier[name]
    lock = Exclusive(
        database,
        (ROOT_LOCK, sa.func.hashtext(name)),
        taken=f"another process works on the managed root {name!r}, a daemon or a `ghi` command: "
        "try again when it has ended",
        lost=f"the connection that held the managed root {name!r} was lost; start again, which "
        "resolves what is unfinished",
    )
    with lock:
        try:
            descriptor = os.open(tier.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError(
                f"the root {tier.root} cannot be opened: {explain(error)}"
            ) from error
        try:
            store = configured.open_store(tier)
            filesystem = _filesystem(tier, descriptor)
            _require_mounted(database, name, tier, filesystem, store)
            # Files are worked on a thousand at a time.
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            yield ManagedRoot(name, tier, database, store, descriptor, filesystem, lock.hold)
        finally:
            os.close(descriptor)


def _filesystem(tier: TierSettings, descriptor: int) -> str:
    try:
        return kernel.filesystem(descriptor)
    except UnavailableError as error:
        raise UnavailableError(f"the root {tier.root} cannot be managed: {error}") from error


def _require_mounted(
    database: Database, name: str, tier: TierSettings, filesystem: str, store: Store
) -> None:
    """Be sure that root and archive are those of before and not the directories below a mount.

    Every file would be taken for removed, and what is put would go to another disk.

    Raises:
        ConflictError: they are not.
    """
    with database.transaction(read_only=True) as session:
        files = sa.select(TierFile.id).where(TierFile.root == name, TierFile.deleted_at.is_(None))
        others = session.scalar(files.where(TierFile.filesystem != filesystem).limit(1))
        keys = session.scalars(
            sa.select(TierContainer.key)
            .where(TierContainer.root == name, TierContainer.state == VERIFIED)
            .order_by(TierContainer.id.desc())
            .limit(_CONTAINERS_LOOKED_FOR)
        ).all()
    if others is not None:
        raise ConflictError(
            f"{tier.root} is on another file system than its files were: is it mounted?"
        )
    if keys and not any(_has(copy, key) for copy in store.copies for key in keys):
        raise ConflictError(f"the archive of {name} has none of its containers: is it mounted?")


def _has(store: Store, key: str) -> bool:
    try:
        store.size(key)
    except ArchiveError:
        return False
    return True


def explain(error: DatamgrError | OSError | str) -> str:
    """The sentence for a user."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
