"""A replica that repeats what its writer does to an HDF5 file, and is read while it grows."""

from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from datamgr.errors import InvalidError, UnavailableError
from hdf5_tools import append, recover
from hdf5_tools.chunks import Store
from hdf5_tools.mirror import protocol, ranges, values
from hdf5_tools.mirror.place import Place
from hdf5_tools.mirror.protocol import Frame, Kind
from hdf5_tools.mirror.replica import Slot, explained

MAX_CHUNK_BYTES = 256 << 20
MAX_DATASETS = 1024


class StreamReplica:
    """Growing datasets with their attributes, in SWMR mode once the writer's file is.

    Until then a killed receiver leaves what HDF5 cannot read, and so the replica begins anew.
    """

    def __init__(self, where: Place, name: bytes, session: bytes, hello: dict[str, Any]) -> None:
        """Raises DatamgrError as `Slot` does."""
        self._slot = Slot(where, name, session, keep=bool(hello.get("keep")), is_bytes=False)
        self._stores: list[Store] = []
        self._chunk = bytearray()
        self.is_finished = False
        try:
            with explained(self._slot.shown):
                self._file = self._open()
        except BaseException:
            self._slot.close()
            raise

    def apply(self, frame: Frame) -> bytes | None:
        """Carry one operation out; the frame to answer before it is acknowledged, if any.

        Raises:
            InvalidError: it makes no sense.
            UnavailableError: the file system, or HDF5, does not take it.
        """
        with explained(self._slot.shown):
            try:
                return self._apply(frame)
            except (RuntimeError, ValueError, TypeError, KeyError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise UnavailableError(
                    f"the receiver cannot repeat {frame.kind.name} in {self._slot.shown}: {reason}"
                ) from error

    def settle(self) -> None:
        """The writer does not come back: what was published stays, and can be read."""
        if self.is_finished:
            return
        with suppress(OSError, RuntimeError):
            self._file.close()
        self._slot.settle()

    def _apply(self, frame: Frame) -> bytes | None:
        if frame.kind == Kind.CREATE:
            self._create(frame.json())
        elif frame.kind == Kind.ATTRIBUTE:
            values.put_attribute(self._file, frame.json())
        elif frame.kind == Kind.START:
            self._file.swmr_mode = True
            self._slot.start()
        elif frame.kind == Kind.CHUNK:
            self._take(frame)
        elif frame.kind == Kind.PUBLISH:
            self._store(protocol.read_span(frame.payload)[0]).publish(frame.offset)
        elif frame.kind == Kind.FINISH:
            self._store(protocol.read_span(frame.payload)[0]).cut(frame.offset)
        elif frame.kind == Kind.DIGESTS:
            target, count = protocol.read_span(frame.payload)
            found = chunk_digests(self._store(target), frame.offset, ranges.require_count(count))
            return protocol.frame(Kind.DIGESTED, frame.number, frame.offset, found)
        elif frame.kind == Kind.CLOSE:
            self._file.close()
            self._slot.finish()
            self.is_finished = True
            self._slot.close()
        else:
            raise InvalidError(f"{frame.kind.name} is no operation of a stream")
        return None

    def _open(self) -> h5py.File:
        if self._slot.journal.head.is_started:
            with suppress(InvalidError):
                recover.clear_marks(self._slot.file, self._slot.shown)
            try:
                return h5py.File(self._slot.path, "r+", libver="latest")
            except BlockingIOError as error:
                raise UnavailableError(f"{self._slot.shown} is open in a program there") from error
            except (OSError, RuntimeError):
                pass
        return h5py.File(self._slot.path, "w", libver="latest")

    def _create(self, asked: dict[str, Any]) -> None:
        """Make the next dataset, or find the one that was made before."""
        name = str(asked["name"])
        if len(self._stores) == MAX_DATASETS:
            raise InvalidError(f"a stream has at most {MAX_DATASETS} datasets")
        if name not in self._file:
            append.create(
                self._file,
                name,
                [int(length) for length in asked["frame_shape"]],
                values.read_dtype(asked["dtype"]),
                chunk_bytes=int(asked["chunk_bytes"]),
                gzip_level=asked["gzip_level"],
                shuffle=bool(asked["shuffle"]),
            )
        self._stores.append(append.store_of(self._file[name]))

    def _store(self, target: int) -> Store:
        if target >= len(self._stores):
            raise InvalidError(f"the stream has no dataset {target}")
        return self._stores[target]

    def _take(self, frame: Frame) -> None:
        target, is_first, is_last, piece = protocol.read_piece(frame.payload)
        if is_first:
            self._chunk.clear()
        self._chunk += piece
        if len(self._chunk) > MAX_CHUNK_BYTES:
            raise InvalidError(f"a chunk has at most {MAX_CHUNK_BYTES} bytes")
        if is_last:
            store = self._store(target)
            if frame.offset >= (1 << 62) // store.capacity:
                raise InvalidError(f"no dataset has a chunk {frame.offset}")
            _require_length(store, len(self._chunk))
            store.write(frame.offset, np.frombuffer(self._chunk, np.uint8))


def _require_length(store: Store, length: int) -> None:
    """HDF5 writes what it is given, also over what lies behind the chunk."""
    whole = store.capacity * int(np.prod(store.dataset.shape[1:])) * store.dataset.dtype.itemsize
    if length != whole and not store.dataset.id.get_create_plist().get_nfilters():
        raise InvalidError(f"a chunk of {store.dataset.name} has {whole} bytes, not {length}")


def chunk_digests(store: Store, first: int, count: int) -> bytes:
    """XXH3-128 of `count` chunks as they lie in the file; of nothing where there is none."""
    return b"".join(ranges.digest_of(store.read(c)) for c in range(first, first + count))
