"""Writes a container: members, then the list of them with their checksums, then the end of a tar.

A container that is complete has been read back from its store and compared.
"""

import hashlib
import json
import os
import secrets
import time
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType

from tiering.archive import entry as entries
from tiering.archive import pax, reader
from tiering.archive.entry import Entry
from tiering.archive.store import CHUNK_BYTES, Store

MANIFEST_FOLDER = b".datamgr-archive"
FORMAT = 1

_RECORD_BYTES = 20 * pax.BLOCK  # what tar programs fill up to
_ABOUT = (
    "A plain tar file: `tar xf` restores it. One line of JSON a member, in their order; offset and "
    "stored_bytes say where the payload is in this tar file, sha256 and adler32 are of the payload"
)


@dataclass(frozen=True)
class Placed:
    """A member as it was written: where its payload is, and what it must hash to."""

    entry: Entry
    offset: int
    sha256: bytes
    adler32: int


def new_key() -> str:
    """A name that sorts by time and is used once."""
    return f"{time.time_ns() // 10**6:013d}-{secrets.token_hex(8)}.tar"


class ContainerWriter:
    """A container in the making; leaving the block without `finish` leaves nothing behind.

    Methods raise `ArchiveError` when the store does not take it.
    """

    def __init__(self, store: Store, key: str) -> None:
        self.key = key
        self.placed: list[Placed] = []
        self.position = 0
        self._store = store
        self._draft = store.create(key)
        self._buffer: list[bytes] = []
        self._buffered = 0

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
        """Append a member. The checksum of a payload of `bytes` is in its header as well.

        Raises:
            ValueError: the payload is not as long as the entry says.
        """
        if isinstance(payload, bytes):
            digest = hashlib.sha256(payload)
            if entry.kind == "f":
                entry = replace(entry, note={**entry.note, "sha256": digest.hexdigest()})
            self._write(entries.encode(entry))
            offset, length, adler = self.position, len(payload), zlib.adler32(payload)
            self._write(payload)
        else:
            digest, length, adler = hashlib.sha256(), 0, 1
            self._write(entries.encode(entry))
            offset = self.position
            for data in payload:
                digest.update(data)
                adler = zlib.adler32(data, adler)
                length += len(data)
                self._write(data)
        if length != entry.stored_bytes:
            raise ValueError(f"{entry.path!r} has {length} bytes instead of {entry.stored_bytes}")
        self._write(pax.padding(length))
        placed = Placed(entry, offset, digest.digest(), adler)
        self.placed.append(placed)
        return placed

    def finish(self) -> int:
        """Complete the container; says how many bytes it has. `verify` is still to be called."""
        manifest = b"".join(_lines(self.placed))
        path = MANIFEST_FOLDER + b"/" + os.fsencode(self.key.removesuffix(".tar")) + b".jsonl"
        size = len(manifest)
        entry = Entry(path, "f", 0o444, mtime_ns=time.time_ns(), size_bytes=size)
        self._write(entries.encode(entry) + pax.padded(manifest) + pax.END)
        self._write(bytes(-self.position % _RECORD_BYTES))
        self._flush()
        self._draft.commit()
        return self.position

    def verify(self) -> None:
        """Read all of it back and compare headers and checksums.

        Raises:
            DamagedError: it is not what was written.
        """
        reader.compare(self._store, self.key, self.placed)

    def _write(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        self.position += len(data)
        if self._buffered >= CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._draft.write(b"".join(self._buffer))
        self._buffer, self._buffered = [], 0


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
                "sha256": member.sha256.hex(),
                "adler32": f"{member.adler32:08x}",
                **{key: value for key, value in entry.note.items() if key != "sha256"},
            }
        )


def _path(path: bytes) -> dict[str, str]:
    """The path as text, and in base64 where that is not the same."""
    shown = path.decode(errors="replace")
    exact = {} if shown.encode() == path else {"path_b64": b64encode(path).decode()}
    return {"path": shown, **exact}


def _line(values: dict[str, object]) -> bytes:
    return json.dumps(values).encode() + b"\n"
