"""Growing datasets that a receiver repeats, so that its file is read while it grows, too."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from datamgr.errors import ConflictError, InvalidError
from hdf5_tools import append
from hdf5_tools.chunks import Array, Store
from hdf5_tools.mirror import auth, protocol, ranges, replay, values
from hdf5_tools.mirror.address import Url
from hdf5_tools.mirror.catchup import CatchUp
from hdf5_tools.mirror.protocol import HEADER_BYTES, Kind
from hdf5_tools.mirror.session import BUFFER_BYTES, Session, WhenSlow


class ChunkFollower(CatchUp):
    """Follows the chunks of growing datasets, each a target."""

    def __init__(self) -> None:
        super().__init__()
        self.stores: list[Store] = []
        self.chunks: list[int] = []  # of each dataset, stored here
        self.counts: list[tuple[Kind, int]] = []  # of each dataset, what was said of its frames
        self.made: list[tuple[Kind, bytes]] = []  # what made the file, in its order
        self._made_bytes = self._largest = 4096

    def changed(
        self, kind: Kind, offset: int, payload: bytes | memoryview, *, was_sent: bool
    ) -> None:
        """An operation changed a chunk; what makes the file is in `made`, counts in `counts`."""
        if kind == Kind.CHUNK:
            target = protocol.read_piece(memoryview(payload))[0]
            self.touch(target, [offset])
            if not was_sent:
                self.mark(target, [offset])

    def extent(self) -> list[int]:
        """Chunks of each dataset."""
        return list(self.chunks)

    def digest(self, target: int, part: int) -> bytes:
        """Of a chunk as it lies in the file."""
        return ranges.digest_of(self.stores[target].read(part))

    def read(self, target: int, part: int) -> bytes:
        """A chunk as it lies in the file."""
        return self.stores[target].read(part)

    def write(self, session: Session, target: int, part: int, data: bytes | memoryview) -> None:
        """In pieces."""
        for piece in protocol.pieces(target, data):
            session.ring.put(Kind.CHUNK, part, piece)

    def room_bytes(self) -> int:
        """The largest chunk, filters may add a little; and what comes before and at the end."""
        return self._made_bytes + self._largest

    def has_made(self, kind: Kind, payload: bytes, chunk_bytes: int) -> None:
        """The file was given something more; under the lock."""
        self.made.append((kind, payload))
        self._made_bytes += len(payload) + 4 * HEADER_BYTES
        # Filters may make a chunk a little larger, and it is sent in pieces.
        self._largest = max(self._largest, chunk_bytes + chunk_bytes // 50 + 4096)

    def start(self, session: Session) -> None:
        """Make the file again; what is there stays as it is."""
        for kind, payload in self.made:
            session.ring.put(kind, 0, payload)

    def end(self, session: Session) -> None:
        """Count the frames."""
        for target, (kind, frames) in enumerate(self.counts):
            session.ring.put(Kind.PUBLISH, frames, protocol.span(target, 0))
            if kind == Kind.FINISH:
                session.ring.put(kind, frames, protocol.span(target, 0))

    def close(self, session: Session) -> int:
        """With nothing more."""
        return session.ring.put(Kind.CLOSE, 0)


class _Store(Store):
    """Stores a chunk here, then sends it."""

    def __init__(self, inner: Store, counter: h5py.Dataset, target: int, owner: "Stream") -> None:
        super().__init__(inner.dataset, counter)
        self._target = target
        self._session = owner.mirror
        self._follower = owner.follower

    def write(self, chunk: int, encoded: bytes | Array) -> None:
        super().write(chunk, encoded)
        whole: Any = encoded if isinstance(encoded, bytes) else np.ascontiguousarray(encoded)
        chunks = self._follower.chunks
        with self._session.lock:
            chunks[self._target] = max(chunks[self._target], chunk + 1)
        # Together: the receiver puts pieces together that follow each other.
        pieces = protocol.pieces(self._target, memoryview(whole).cast("B"))
        self._session.put(Kind.CHUNK, chunk, *pieces)

    def publish(self, frames: int) -> None:
        super().publish(frames)
        self._count(Kind.PUBLISH, frames)

    def cut(self, frames: int) -> None:
        super().cut(frames)
        self._count(Kind.FINISH, frames)

    def _count(self, kind: Kind, frames: int) -> None:
        with self._session.lock:
            self._follower.counts[self._target] = (kind, frames)
        self._session.put(kind, frames, protocol.span(self._target, 0))


class Stream:
    """A file of growing datasets and its replica, both read while they grow.

    First `create` and `set_attribute`, then `start`, then `writer`. `mirror` is the session and
    `file` the local file, which is not to be changed by other ways than these.
    """

    def __init__(self, file: h5py.File, session: Session, follower: ChunkFollower) -> None:
        self.file = file
        self.mirror = session
        self.follower = follower
        self._targets: dict[str, int] = {}
        self._writers: list[append.Writer] = []

    def create(
        self,
        name: str,
        frame_shape: Sequence[int],
        dtype: npt.DTypeLike,
        *,
        chunk_bytes: int = append.CHUNK_BYTES,
        gzip_level: int | None = None,
        shuffle: bool = False,
    ) -> None:
        """Make an empty dataset of frames, here and there; see `append.create`.

        Raises:
            InvalidError: as append.create, or frames that are no numbers or above 256 MiB.
            ConflictError: the file was started.
        """
        self._require_unstarted()
        kind = np.dtype(dtype)
        asked = protocol.to_json(
            name=name, frame_shape=list(frame_shape), dtype=values.write_dtype(kind),
            chunk_bytes=chunk_bytes, gzip_level=gzip_level, shuffle=shuffle,
        )  # fmt: skip
        frame_bytes = kind.itemsize * int(np.prod(list(frame_shape), dtype=np.int64))
        largest = max(frame_bytes, chunk_bytes)
        if largest > replay.MAX_CHUNK_BYTES * 9 // 10:
            raise InvalidError(f"chunks of {name} would have more than 230 MiB: too large to send")
        self._require_room(asked, largest)
        dataset = append.create(
            self.file, name, frame_shape, kind, chunk_bytes=chunk_bytes, gzip_level=gzip_level,
            shuffle=shuffle,
        )  # fmt: skip
        self._targets[dataset.name] = len(self.follower.stores)
        store = append.store_of(dataset)
        with self.mirror.lock:
            self.follower.stores.append(store)
            self.follower.chunks.append(0)
            self.follower.counts.append((Kind.PUBLISH, 0))
        self._make(Kind.CREATE, asked, largest)

    def set_attribute(self, path: str, name: str, value: Any) -> None:
        """Give the object at `path` an attribute: a text, or a scalar or array of numbers.

        Raises:
            InvalidError: it is something else, above 700 kB, or the object is not there.
            ConflictError: the file was started.
        """
        self._require_unstarted()
        asked = values.attribute(path, name, value)
        payload = protocol.to_json(**asked)
        if len(payload) > protocol.MAX_PAYLOAD_BYTES:
            raise InvalidError(f"the attribute {name} of {path} is too large to be sent")
        self._require_room(payload)
        values.put_attribute(self.file, asked)
        self._make(Kind.ATTRIBUTE, payload)

    def start(self) -> None:
        """From now on both files may be read (SWMR), and have all their datasets."""
        self._require_unstarted()
        self.file.swmr_mode = True
        self._make(Kind.START, b"")

    def writer(self, name: str, **options: Any) -> append.Writer:
        """What appends frames to a dataset of `create`; see `append.Writer` for options.

        `close` of the stream closes it.

        Raises:
            ConflictError: the file was not started.
        """
        if not self.file.swmr_mode:
            raise ConflictError(f"{self.file.filename} was not started: nobody could read frames")
        dataset = self.file[name]
        target = self._targets[dataset.name]
        counter = append.counter_of(dataset)
        store = _Store(self.follower.stores[target], counter, target, self)
        writer = append.Writer(dataset, store=store, **options)
        self._writers.append(writer)
        return writer

    def close(self) -> None:
        """Close the file, and wait until the replica has every chunk and is complete.

        Raises:
            UnavailableError: the receiver cannot be reached or has no space left; the local file
                is complete.
            DatamgrError: the receiver refuses.
        """
        if not self.file:
            return
        try:
            for writer in self._writers:
                writer.close()
            self.mirror.finish()
        except BaseException:
            self.mirror.abandon()
            raise
        finally:
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make(self, kind: Kind, payload: bytes, chunk_bytes: int = 0) -> None:
        with self.mirror.lock:
            self.follower.has_made(kind, payload, chunk_bytes)
        self.mirror.put(kind, 0, payload)

    def _require_room(self, payload: bytes, chunk_bytes: int = 0) -> None:
        """What made the file and a chunk have to fit into the buffer, to catch up."""
        capacity = self.mirror.ring.capacity_bytes
        if self.follower.room_bytes() + len(payload) + 2 * chunk_bytes > capacity:
            raise InvalidError(
                f"the buffer of this stream, {capacity} bytes, is too small for that: give more "
                "buffer_bytes"
            )

    def _require_unstarted(self) -> None:
        if self.file.swmr_mode:
            raise ConflictError(f"{self.file.filename} was started; nothing is made in it any more")


def stream(
    url: str,
    local: Path | str,
    mode: str = "w",
    *,
    token_file: Path | None = None,
    when_slow: WhenSlow | str = WhenSlow.CATCH_UP,
    buffer_bytes: int = BUFFER_BYTES,
    patience_s: float = 60.0,
) -> Stream:
    """A file at `local` for growing datasets, and a replica that can be read while it grows.

    `mode`: "w" or "x"; the rest as for `mirror.open`.

    Raises:
        DatamgrError: as `mirror.open`.
        OSError: the local file cannot be made, or is being written.
    """
    if mode not in ("w", "x"):
        raise InvalidError(f"a stream begins with a new file: mode {mode!r} does not")
    where = Url.parse(url)
    token = None if token_file is None else auth.read_token(token_file)
    follower = ChunkFollower()
    session = Session(
        where, token, follower, buffer_bytes=buffer_bytes, when_slow=WhenSlow(when_slow),
        patience_s=patience_s, action="stream",
    )  # fmt: skip
    try:
        return Stream(h5py.File(local, mode, libver="latest"), session, follower)
    except BaseException:
        session.abandon()
        raise
