"""A store in HPSS, by its client `hsi`: whole containers are files there.

Containers pass through a spool, a directory of this host: HPSS gives no ranges to `hsi`, so that a
container is fetched as a whole, once for all members that are read one after the other. HPSS
decides itself when it copies a file from its disks to tape, and from which of both it reads.
"""

import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from datamgr.config_tier import HpssArchive
from datamgr.errors import NotFoundError
from tiering.archive import hsi
from tiering.archive.hsi import Hsi, Listed
from tiering.archive.posix import PosixStore
from tiering.archive.store import AbsentError, ArchiveError, Place, Store

_UNFINISHED = ".part"  # in HPSS and here
_KEY = re.compile(r"\d{13}-[0-9a-f]{16}\.tar(\.zst)?(\.\d{4})?")
_OURS = re.compile(_KEY.pattern + r"(\.part|\.new|\.in)?")


def open_store(place: HpssArchive) -> "HpssStore":
    """The directory in HPSS, which answers; what a crash left in the spool is removed.

    Raises:
        NotFoundError: the directory or the spool is not there.
        ArchiveError: HPSS does not answer.
    """
    if not place.spool.is_dir():
        raise NotFoundError(f"the spool {place.spool} is no directory")
    for name in os.listdir(place.spool):
        if _OURS.fullmatch(name):
            (place.spool / name).unlink(missing_ok=True)
    client = Hsi(place.program, place.options, place.timeout_s, place.spool)
    try:
        client.ask(f"cd {place.path}")
    except AbsentError as error:
        raise NotFoundError(f"HPSS has no directory {place.path}") from error
    return HpssStore(client, place.path, place.spool, place.spool_bytes)


class HpssStore:
    """As `Store`: one file each in a directory of HPSS."""

    def __init__(self, client: Hsi, folder: str, spool: Path, spool_bytes: int) -> None:
        self.client, self.folder, self.spool = client, folder, spool
        self._spool_bytes = spool_bytes
        self._lock = threading.Lock()  # a container that two want is fetched once

    @property
    def copies(self) -> tuple[Store, ...]:
        """As `Store.copies`."""
        return (self,)

    def create(self, key: str) -> "HpssDraft":
        """As `Store.create`."""
        with suppress(AbsentError):
            self._find(key)
            raise ArchiveError(f"HPSS has an object {key} already")
        try:
            return HpssDraft(self, key)
        except OSError as error:
            raise self._spool_failed("write", key, error) from error

    def read(self, key: str, offset: int, length: int, *, fresh: bool = False) -> Iterator[bytes]:
        """As `Store.read`; `fresh` fetches it again, from wherever HPSS takes it."""
        with self._lock:
            self._fetch(key, fresh=fresh)
            chunks = PosixStore(self.spool).read(key, offset, length)
            first = next(chunks, None)
        # From here on it is open, and stays readable when another takes its room.
        if first is not None:
            yield first
            yield from chunks

    def size(self, key: str) -> int:
        """As `Store.size`."""
        return self._find(key).size_bytes

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        for name in (key, key + _UNFINISHED):
            try:
                (self.spool / name).unlink(missing_ok=True)
            except OSError as error:
                raise self._spool_failed("delete", key, error) from error
            with suppress(AbsentError):
                self._find(name)
                self.client.ask(f"rm {self.path(name)}")

    def keys(self) -> Iterator[str]:
        """As `Store.keys`."""
        front = self.folder + "/"
        found = [one.path for one in self._list(self.folder) if one.path.startswith(front)]
        names = sorted(path.removeprefix(front) for path in found)
        return (name for name in names if _KEY.fullmatch(name))  # nothing else goes into commands

    def places(self, keys: Collection[str]) -> Mapping[str, Place]:
        """As `Store.places`: of what HPSS has copied to tape."""
        wanted = {self.path(key): key for key in keys}
        if not wanted:
            return {}
        # One login for all of them.
        commands = self.spool / f"{next(iter(keys))}.in"
        try:
            commands.write_text("".join(f"ls -NP {path}\n" for path in wanted))
            told = self.client.ask(f"in {commands.name}", some_may_fail=True)
        except OSError as error:
            raise self._spool_failed("write", commands.name, error) from error
        finally:
            commands.unlink(missing_ok=True)
        return {
            wanted[one.path]: one.place
            for one in hsi.parse_listing(told)
            if one.path in wanted and one.place is not None
        }

    def path(self, name: str) -> str:
        """Where HPSS has an object."""
        return f"{self.folder}/{name}"

    def store(self, local: str, key: str, size_bytes: int) -> None:
        """Copy a file of the spool to HPSS, where it has another name until it is `rename`d.

        Raises:
            ArchiveError: it has not arrived as a whole.
        """
        name = key + _UNFINISHED
        self.client.ask(f"put {local} : {self.path(name)}")
        # What the client says of its success is not all there is to know of it.
        self._require(name, size_bytes, "wrote")

    def rename(self, key: str, size_bytes: int) -> None:
        """Give an object that was stored its name.

        Raises:
            ArchiveError: it has not got it.
        """
        name = key + _UNFINISHED
        self.client.ask(f"mv {self.path(name)} {self.path(key)}")
        self._require(key, size_bytes, "renamed")

    def _require(self, name: str, size_bytes: int, done: str) -> None:
        found = self._find(name).size_bytes
        if found != size_bytes:
            raise ArchiveError(
                f"hsi {done} {name} with {found} bytes in HPSS instead of {size_bytes}"
            )

    def _fetch(self, key: str, *, fresh: bool) -> None:
        """Have an object in the spool, as a whole."""
        local, part = self.spool / key, self.spool / (key + _UNFINISHED)
        try:
            if local.exists() and not fresh:
                os.utime(local)
                return
            local.unlink(missing_ok=True)
            expected = self._find(key).size_bytes
            self._make_room(expected)
            self.client.ask(f"get {part.name} : {self.path(key)}")
            found = part.stat().st_size
            if found != expected:
                raise ArchiveError(f"hsi fetched {found} bytes of {key} instead of {expected}")
            part.rename(local)
        except OSError as error:
            raise self._spool_failed("fetch", key, error) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _make_room(self, size_bytes: int) -> None:
        """Remove what was read longest ago, until there is room for one more."""
        kept = [path for path in self.spool.iterdir() if _KEY.fullmatch(path.name)]
        statuses = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in kept)
        total = size_bytes + sum(size for _, size, _ in statuses)
        for _, size, path in statuses:
            if total <= self._spool_bytes:
                break
            path.unlink()
            total -= size

    def _find(self, key: str) -> Listed:
        path = self.path(key)
        try:
            found = [one for one in self._list(path) if one.path == path]
        except AbsentError as error:
            raise AbsentError(f"HPSS has no object {key} in {self.folder}") from error
        if not found:
            raise ArchiveError(f"hsi told nothing of {path} that can be understood")
        return found[0]

    def _list(self, path: str) -> list[Listed]:
        return list(hsi.parse_listing(self.client.ask(f"ls -NP {path}")))

    def _spool_failed(self, action: str, key: str, error: OSError) -> ArchiveError:
        return ArchiveError(f"cannot {action} {key} in the spool {self.spool}: {error.strerror}")


class HpssDraft:
    """As `Draft`: in the spool until it is complete."""

    def __init__(self, store: HpssStore, key: str) -> None:
        self._store, self._key = store, key
        self._local = store.spool / (key + ".new")
        self._file = self._local.open("xb")
        self._size_bytes, self._is_settled = 0, False

    def write(self, data: bytes) -> None:
        """As `Draft.write`."""
        try:
            self._file.write(data)
        except OSError as error:
            raise self._store._spool_failed("write", self._key, error) from error
        self._size_bytes += len(data)

    def read_back(self) -> tuple[None]:
        """As `Draft.read_back`."""
        return (None,)

    def settle(self) -> None:
        """As `Draft.settle`: HPSS answers when it has all of it, and the spool is free again."""
        if self._is_settled:
            return
        try:
            self._file.close()
        except OSError as error:
            raise self._store._spool_failed("write", self._key, error) from error
        self._store.store(self._local.name, self._key, self._size_bytes)
        self._is_settled = True
        self.abandon()

    def commit(self) -> None:
        """As `Draft.commit`."""
        self.settle()
        self._store.rename(self._key, self._size_bytes)

    def abandon(self) -> None:
        """As `Draft.abandon`; what came half to HPSS is removed by `delete`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._local.unlink(missing_ok=True)
