"""Chunks as they lie in a file: shuffled and deflated here, outside of HDF5's lock, and stored."""

import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from datamgr.errors import InvalidError

Array = npt.NDArray[Any]

STEP_CHUNKS = 64

# Source: HDF5 file format specification, "Filter Pipeline message".
_DEFLATE, _SHUFFLE = 1, 2


@dataclass(frozen=True)
class Pipeline:
    """What a chunk goes through before it is stored. `gzip_level`: None, or from 0 to 9."""

    gzip_level: int | None = None
    shuffle: bool = False

    def encode(self, chunk: Array) -> bytes | Array:
        """The bytes of a whole chunk, C-contiguous, as the filters of HDF5 would leave them."""
        if self.shuffle and chunk.itemsize > 1:
            octets = chunk.reshape(-1).view(np.uint8).reshape(-1, chunk.itemsize)
            chunk = np.ascontiguousarray(octets.T)
        return chunk if self.gzip_level is None else zlib.compress(chunk.data, self.gzip_level)


def pipeline_of(dataset: h5py.Dataset) -> Pipeline:
    """What the chunks of a dataset go through.

    Raises:
        InvalidError: a filter that cannot be applied here.
    """
    properties = dataset.id.get_create_plist()
    level, shuffle = None, False
    for position in range(properties.get_nfilters()):
        code, _, values, name = properties.get_filter(position)
        if code == _SHUFFLE and level is None:
            shuffle = True
        elif code == _DEFLATE and level is None:
            level = values[0]
        else:
            raise InvalidError(
                f"{dataset.name} has the filter {name.decode(errors='replace') or code}; "
                "chunks are appended without filters, or with shuffle and gzip"
            )
    return Pipeline(level, shuffle)


def lengthened(deflated: bytes) -> bytes:
    """The same content, five bytes longer: with an empty block behind the header.

    Source: RFC 1950, 2.2 (two bytes of header), and RFC 1951, 3.2.4 (stored blocks).
    """
    return deflated[:2] + b"\0\0\0\xff\xff" + deflated[2:]


class Store:
    """Whole chunks of a dataset that grows along its first axis, and the counter of its frames.

    The dataset grows in steps of many chunks, for each step costs HDF5 a look-up.
    """

    def __init__(self, dataset: h5py.Dataset, counter: h5py.Dataset) -> None:
        self.dataset = dataset
        self.capacity = int(dataset.chunks[0])
        self._write = dataset.id.write_direct_chunk  # h5py looks each `id` up anew
        self._counter = counter
        self._file = dataset.file
        self._extent = int(dataset.shape[0])
        self._origin = (0,) * (dataset.ndim - 1)
        self._is_compressed = dataset.compression is not None
        # Beyond these chunks there is nothing; of the one written last, how long it is is known.
        self._chunks = -(-self._extent // self.capacity)
        self._last: tuple[int, int] | None = None

    def write(self, chunk: int, encoded: bytes | Array) -> None:
        """Write the chunk of this number as it is to lie in the file."""
        frames = (chunk + 1) * self.capacity
        if frames > self._extent:
            step = STEP_CHUNKS * self.capacity
            self._extent = -(-frames // step) * step
            self.dataset.resize(self._extent, axis=0)
        if self._is_compressed:
            encoded = self._of_another_size(chunk, bytes(encoded))
        self._write((chunk * self.capacity, *self._origin), encoded)

    def _of_another_size(self, chunk: int, encoded: bytes) -> bytes:
        """One of another size than before goes to another place in the file.

        In its own, a compressed chunk would be neither the old nor the new while it is written, or
        for ever if that is cut short.
        """
        if self._last is not None and self._last[0] == chunk:
            before = self._last[1]
        else:
            before = len(self.read(chunk)) if chunk < self._chunks else 0
        if len(encoded) == before:
            encoded = lengthened(encoded)
        self._last, self._chunks = (chunk, len(encoded)), max(self._chunks, chunk + 1)
        return encoded

    def read(self, chunk: int) -> bytes:
        """The chunk of this number as it lies in the file; nothing if it cannot be read."""
        if chunk * self.capacity >= self.dataset.shape[0]:
            return b""
        try:
            # To ask first whether it is there would look at every chunk of the dataset.
            stored = self.dataset.id.read_direct_chunk((chunk * self.capacity, *self._origin))
        except (OSError, RuntimeError, ValueError):
            return b""
        return bytes(stored[1])

    def publish(self, frames: int) -> None:
        """Put what was written into the file, then count so many frames."""
        # A file without SWMR is read only after all of it is written.
        together = not self._file.swmr_mode
        if not together:
            self.dataset.flush()
        self._counter[()] = frames
        (self._file if together else self._counter).flush()

    def cut(self, frames: int) -> None:
        """Give the dataset so many frames."""
        if self.dataset.shape[0] != frames:
            self.dataset.resize(frames, axis=0)
            self.dataset.flush()
        self._extent = frames


class Encoder:
    """Encodes chunks in threads and hands them back in their order, a bounded number at a time."""

    def __init__(self, pipeline: Pipeline, threads: int) -> None:
        self._pipeline = pipeline
        self._pool = ThreadPoolExecutor(threads, "chunk-encoder")
        self._room = 2 * threads
        self._under_way: list[Future[bytes | Array]] = []

    def put(self, chunk: Array) -> None:
        """Take a chunk that nobody changes any more."""
        self._under_way.append(self._pool.submit(self._pipeline.encode, chunk))

    def done(self) -> Iterator[bytes | Array]:
        """The chunks that are done by now, in order; waits only while there are too many.

        Each is given again the next time, unless the one after it was asked for.
        """
        while len(self._under_way) > self._room or (self._under_way and self._under_way[0].done()):
            yield self._under_way[0].result()
            del self._under_way[0]

    def drain(self) -> Iterator[bytes | Array]:
        """As `done`, of all: waits for each."""
        while self._under_way:
            yield self._under_way[0].result()
            del self._under_way[0]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
