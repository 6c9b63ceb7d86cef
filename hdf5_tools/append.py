"""Growing datasets: one frame after the other, nearly as fast as plain writes, read meanwhile.

A frame is one element along the first axis. Frames are gathered into whole chunks, which go past
HDF5's selection and filter code by direct chunk writes; the dataset grows in steps of many chunks,
so the number of frames that count is published beside it, in the dataset `NAME_frames`.
"""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from datamgr.errors import ConflictError, InvalidError
from hdf5_tools.chunks import Array, Encoder, Pipeline, Store, pipeline_of

CHUNK_BYTES = 1 << 20
# On the dataset: the name of the one beside it that says how many frames count.
COUNTER_ATTRIBUTE = "frames_written_in"


class FrameShapeError(InvalidError):
    """A frame does not have the shape of the dataset's frames."""


class FrameTypeError(InvalidError):
    """A frame does not have the type of the dataset."""


def create(
    group: h5py.Group,
    name: str,
    frame_shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    gzip_level: int | None = None,
    shuffle: bool = False,
) -> h5py.Dataset:
    """Make an empty dataset of frames, and its counter `NAME_frames` beside it.

    `chunk_bytes`: what a chunk holds at least one and at most so many bytes of frames. The file
    must have been opened with `libver="latest"` if it is to be read while it grows; all datasets
    are to be made before `file.swmr_mode = True`.

    Raises:
        InvalidError: the type has no fixed size, or a frame is empty or over 4 GiB.
        ConflictError: there is something of one of these names.
    """
    for made in (name, f"{name}_frames"):
        if made in group:
            raise ConflictError(
                f"{made} exists in {group.name}; a Writer goes on behind its frames"
            )
    kind = np.dtype(dtype)
    shape = tuple(frame_shape)
    frame_bytes = kind.itemsize * int(np.prod(shape, dtype=np.int64))
    if kind.hasobject:
        raise InvalidError(f"frames of {name} cannot be {kind}: its elements have no fixed size")
    if not 0 < frame_bytes < 1 << 32:
        raise InvalidError(f"frames of {name} have {frame_bytes} bytes; a chunk has 1 B to 4 GiB")
    frames = max(1, min(chunk_bytes, (1 << 32) - 1) // frame_bytes)
    dataset = group.create_dataset(
        name,
        (0, *shape),
        kind,
        maxshape=(None, *shape),
        chunks=(frames, *shape),
        compression=None if gzip_level is None else "gzip",
        compression_opts=gzip_level,
        shuffle=shuffle,
    )
    # With its place in the file now: readers refuse one beyond the end that they know of.
    counter = group.create_dataset(f"{name}_frames", data=np.uint64(0))
    # Without the group, which may be copied or get another name.
    dataset.attrs[COUNTER_ATTRIBUTE] = counter.name.rpartition("/")[2]
    return dataset


def frames_written(dataset: h5py.Dataset) -> int:
    """How many frames of a dataset count: what its counter says, or its extent if it has none."""
    if COUNTER_ATTRIBUTE not in dataset.attrs:
        return int(dataset.shape[0])
    counter = counter_of(dataset)
    counter.refresh()
    return int(counter[()])


def counter_of(dataset: h5py.Dataset) -> h5py.Dataset:
    """The dataset that says how many frames of a dataset of `create` count.

    Raises:
        InvalidError: it is not there.
    """
    name = dataset.attrs[COUNTER_ATTRIBUTE]
    try:
        return dataset.parent[name]
    except KeyError as error:
        raise InvalidError(
            f"the counter of the frames of {dataset.name}, {name}, is missing: copy both together"
        ) from error


class Writer:
    """Appends frames to a dataset of `create`, after those it has.

    `flush_frames`, `flush_s`: after so many frames, or as soon as a frame comes later than that
    after the last flush, all frames are put into the file and counted. In a file in SWMR mode
    what was flushed survives the end of the process (see `recover`); the end of the machine only
    once the kernel has written it (`os.fsync`). Not for several threads at once.

    Raises:
        InvalidError: the dataset does not grow along its first axis by chunks of whole frames, or
            has filters other than shuffle and gzip.
    """

    def __init__(
        self,
        dataset: h5py.Dataset,
        *,
        flush_frames: int | None = None,
        flush_s: float | None = 1.0,
        threads: int = 2,
        store: Store | None = None,
    ) -> None:
        """`store`: what takes the chunks; by default the dataset does."""
        _check(dataset)
        pipeline = pipeline_of(dataset)
        self._store = store_of(dataset) if store is None else store
        self._dataset = dataset
        self._name = dataset.name
        self._frame_shape = tuple(dataset.shape[1:])
        self._dtype = dataset.dtype
        self._capacity = self._store.capacity
        self._flush_frames = flush_frames
        self._flush_s = flush_s
        self._pipeline = pipeline
        self._encoder = None if pipeline == Pipeline() else Encoder(pipeline, threads)
        self._written = frames_written(dataset)
        self._stored = self._written // self._capacity  # whole chunks in the file
        self._buffer = np.zeros((self._capacity, *self._frame_shape), self._dtype)
        self._held = self._written % self._capacity
        if self._held:
            first = self._written - self._held
            self._buffer[: self._held] = dataset[first : self._written]
        self._unflushed = 0
        self._flushed_s = time.monotonic()
        self._is_open = True

    @property
    def frames(self) -> int:
        """Frames taken so far, with those that were there before."""
        return self._written

    def append(self, frame: npt.ArrayLike) -> None:
        """Take one frame.

        Raises:
            FrameShapeError: another shape than the dataset's frames.
            FrameTypeError: another type than the dataset; nothing is converted silently.
            ConflictError: the writer is closed; or its file, which a flush finds.
            OSError: the disk did not take what was held before; this frame is not taken, or, if
                that was a flush, still held.
        """
        array = frame if isinstance(frame, np.ndarray) else np.asarray(frame)
        if array.shape != self._frame_shape:
            raise FrameShapeError(
                f"a frame of {self._dataset.name} has the shape {self._frame_shape}, "
                f"not {array.shape}"
            )
        self._require(array)
        if self._capacity == 1 and self._encoder is None:
            # The chunk is the frame: from where it lies into the file.
            self._add(array if array.flags.c_contiguous else np.ascontiguousarray(array))
        else:
            self._hand_on_if_full()
            self._buffer[self._held] = array
            self._held += 1
        self._written += 1
        self._unflushed += 1
        self._flush_if_due()

    def extend(self, frames: npt.ArrayLike) -> None:
        """Take several frames, `(n, *frame_shape)`; the same as `append` of each, but faster.

        Raises:
            FrameShapeError, FrameTypeError, ConflictError: as by `append`.
        """
        array = frames if isinstance(frames, np.ndarray) else np.asarray(frames)
        if array.shape[1:] != self._frame_shape or array.ndim != len(self._frame_shape) + 1:
            raise FrameShapeError(
                f"frames of {self._dataset.name} have the shape (n, "
                f"{str(self._frame_shape)[1:-1]}), not {array.shape}"
            )
        self._require(array)
        is_direct = self._encoder is None and array.flags.c_contiguous
        at = 0
        while at < len(array):
            self._hand_on_if_full()
            count = min(self._capacity - self._held, len(array) - at)
            taken = array[at : at + count]
            if is_direct and count == self._capacity:
                self._add(taken)  # a whole chunk, from where it lies
            else:
                self._buffer[self._held : self._held + count] = taken
                self._held += count
            at += count
            self._written += count
            self._unflushed += count
        self._flush_if_due()

    def flush(self) -> None:
        """Put every frame into the file, and then count them for readers.

        Raises:
            ConflictError: the writer, or its file, is closed.
        """
        self._require_open()
        if not self._dataset:
            raise ConflictError(f"the file of {self._name} was closed before its writer")
        self._hand_on_if_full()
        if self._encoder is not None:
            for encoded in self._encoder.drain():
                self._add(encoded)
        if self._held:
            # With what was in the buffer before, which nobody counts, behind the frames.
            self._store.write(self._stored, self._pipeline.encode(self._buffer))
        self._store.publish(self._written)
        self._unflushed = 0
        self._flushed_s = time.monotonic()

    def close(self) -> None:
        """Flush, and cut the dataset to the frames that count."""
        if not self._is_open:
            return
        try:
            self.flush()
            self._store.cut(self._written)
        finally:
            self._is_open = False
            if self._encoder is not None:
                self._encoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require(self, array: Array) -> None:
        if array.dtype != self._dtype:
            raise FrameTypeError(
                f"{self._dataset.name} takes {self._dtype}, not {array.dtype}; convert it by "
                f"astype({str(self._dtype)!r})"
            )
        self._require_open()

    def _require_open(self) -> None:
        if not self._is_open:
            raise ConflictError(f"the writer of {self._name} was closed")

    def _flush_if_due(self) -> None:
        enough = self._flush_frames is not None and self._unflushed >= self._flush_frames
        late = self._flush_s is not None and time.monotonic() - self._flushed_s >= self._flush_s
        if enough or late:
            self.flush()

    def _hand_on_if_full(self) -> None:
        """Write the buffer if it is a whole chunk.

        Here as in `flush` a chunk is kept until it is written: after an error, of a full disk or by
        Ctrl-C, the next call begins with it, and no frame is counted that is not there.
        """
        if self._held < self._capacity:
            return
        if self._encoder is None:
            self._add(self._buffer)
            self._held = 0
            return
        self._encoder.put(self._buffer)
        self._buffer, self._held = np.zeros_like(self._buffer), 0
        for encoded in self._encoder.done():
            self._add(encoded)

    def _add(self, encoded: bytes | Array) -> None:
        """Write the next whole chunk."""
        self._store.write(self._stored, encoded)
        self._stored += 1


def store_of(dataset: h5py.Dataset) -> Store:
    """What takes the chunks of a dataset.

    Raises:
        InvalidError: it does not grow along its first axis by chunks of whole frames.
    """
    _check(dataset)
    return Store(dataset, counter_of(dataset))


def _check(dataset: h5py.Dataset) -> None:
    if dataset.file.mode == "r":
        raise InvalidError(f"the file of {dataset.name} was opened for reading; use mode 'r+'")
    chunks: Any = dataset.chunks
    if chunks is None or dataset.maxshape[0] is not None or chunks[1:] != dataset.shape[1:]:
        raise InvalidError(
            f"{dataset.name} does not grow by whole frames: it needs an unlimited first axis and "
            "chunks of whole frames, as append.create makes it"
        )
    if COUNTER_ATTRIBUTE not in dataset.attrs:
        raise InvalidError(f"{dataset.name} has no counter of its frames; use append.create")
