"""Writes a container: members, then the list of them with their checksums, then the end of a tar.

A container that is complete has been read back from its store and compared.
"""

import hashlib
import json
import os
import secrets
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import NamedTuple

from tiering.archive import aside, pax, reader, zst
from tiering.archive import entry as entries
from tiering.archive.aside import Checksums
from tiering.archive.entry import Entry
from tiering.archive.store import CHUNK_BYTES, ArchiveError, DamagedError, Store

MANIFEST_FOLDER = b".datamgr-archive"
FORMAT = 1

_RECORD_BYTES = 20 * pax.BLOCK  # what tar programs fill up to
_ABOUT = (
    "A plain tar file: `tar xf` restores it. One line of JSON a member, in their order; offset and "
    "stored_bytes say where the payload is in this tar file, the checksums are of the payload"
)


class Placed(NamedTuple):
    """A member as it was written: where its payload is, and what it must hash to."""

    entry: Entry
    offset: int
    sums: Checksums

    @property
    def sha256(self) -> bytes:
        """The one that is compared."""
        return self.sums.sha256


def new_key(compress: str = "none") -> str:
    """A name that sorts by time and is used once; `compress`: "none" or "zstd"."""
    suffix = zst.SUFFIX if compress == "zstd" else ""
    return f"{time.time_ns() // 10**6:013d}-{secrets.token_hex(8)}.tar{suffix}"


class ContainerWriter:
    """A container in the making; leaving the block without `finish` leaves nothing behind.

    Methods raise `ArchiveError` when the store does not take it. `of_many`: it is going to have so
    many members that one checksum of all is read back faster than each member is looked at.
    `follow`: read it back while it is written, so that `verify` waits only for the end.
    """

    def __init__(
        self, store: Store, key: str, *, of_many: bool = True, follow: bool = False
    ) -> None:
        self.key = key
        self.placed: list[Placed] = []
        self.position = 0
        self._store = store
        self._draft = store.create(key)
        self._of_many = of_many
        self._digest = hashlib.sha256()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._back: list[_Back | None] = [None] * len(store.copies)
        if follow:
            try:
                chunks = self._draft.read_back()
            except ArchiveError:
                self._draft.abandon()
                raise
            self._back = [None if c is None else aside.Work(partial(self._of, c)) for c in chunks]

    def __enter__(self) -> "ContainerWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._draft.abandon()

    def add(self, entry: Entry, payload: bytes | Iterable[bytes] = b"") -> Placed:
        """Append a member. The checksums of a payload of `bytes` are in its header as well.

        Raises:
            ValueError: the payload is not as long as the entry says.
        """
        if isinstance(payload, bytes):
            sums = aside.checksums(payload)
            if entry.kind == "f":
                entry = entry.with_note({**entry.note, **sums.note()})
            self._write(entries.encode(entry))
            offset, length = self.position, len(payload)
            self._write(payload)
        else:
            self._write(entries.encode(entry))
            offset, length = self.position, 0
            beside = aside.Sums()
            try:
                for data in payload:
                    beside.update(data)
                    length += len(data)
                    self._write(data)
            finally:
                sums = beside.finish()
        if length != entry.stored_bytes:
            raise ValueError(f"{entry.path!r} has {length} bytes instead of {entry.stored_bytes}")
        self._write(pax.padding(length))
        placed = Placed(entry, offset, sums)
        self.placed.append(placed)
        return placed

    def finish(self) -> int:
        """Complete the container; says how many bytes it has. `verify` is still to be called."""
        manifest = b"".join(_lines(self.placed))
        path = MANIFEST_FOLDER + b"/" + os.fsencode(self.key.partition(".")[0]) + b".jsonl"
        size = len(manifest)
        entry = Entry(path, "f", 0o444, mtime_ns=time.time_ns(), size_bytes=size)
        self._write(entries.encode(entry) + pax.padded(manifest) + pax.END)
        self._write(bytes(-self.position % _RECORD_BYTES))
        self._flush()
        self._draft.commit()
        return self.position

    def verify(self) -> None:
        """Read all of it back, past the caches, and compare it.

        Raises:
            DamagedError: it is not what was written; the message names the first member.
        """
        for copy, back in zip(self._store.copies, self._back, strict=True):
            if not self._of_many:
                found = reader.members(copy, self.key) if back is None else _members(back)
                reader.require_written(self.key, found, self.placed)
                continue
            # One checksum of everything takes a fraction of the time of looking at each header.
            if back is None:
                chunks = copy.read(self.key, 0, self.position, fresh=True)
                given = self._of(aside.read_ahead(chunks))
            else:
                given = back.result()
            if given != self._digest.digest():
                reader.compare(copy, self.key, self.placed)
                raise DamagedError(f"the container {self.key} is not what was written")

    def _of(self, chunks: Iterator[bytes]) -> bytes | list[reader.Member]:
        """What `verify` compares of what a copy gave back."""
        return _sha256(chunks) if self._of_many else list(reader.members_in(chunks))

    def _write(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        self.position += len(data)
        if self._buffered >= CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        if self._of_many:
            self._digest.update(data)
        self._draft.write(data)
        self._buffer, self._buffered = [], 0


_Back = aside.Work[bytes | list[reader.Member]]


def _members(back: _Back) -> Iterator[reader.Member]:
    found = back.result()
    if not isinstance(found, bytes):
        yield from found


def _sha256(chunks: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for data in chunks:
        digest.update(data)
    return digest.digest()


def _lines(placed: list[Placed]) -> Iterator[bytes]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    yield _line(
        {"datamgr_archive": FORMAT, "about": _ABOUT, "written": now, "members": len(placed)}
    )
    for member in placed:
        entry = member.entry
        yield _line(
            {
                **_path(entry.path),
                "kind": entry.kind,
                "size_bytes": entry.size_bytes,
                "offset": member.offset,
                "stored_bytes": entry.stored_bytes,
                **member.sums.note(),
                **{k: v for k, v in entry.note.items() if k not in Checksums._fields},
            }
        )


def _path(path: bytes) -> dict[str, str]:
    """The path as text, and in base64 where that is not the same."""
    shown = path.decode(errors="replace")
    exact = {} if shown.encode() == path else {"path_b64": b64encode(path).decode()}
    return {"path": shown, **exact}


def _line(values: dict[str, object]) -> bytes:
    return json.dumps(values).encode() + b"\n"
