"""Chunks as they lie in a file: shuffled and deflated here, outside of HDF5's lock."""

import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from datamgr.errors import InvalidError

Array = npt.NDArray[Any]

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


class Encoder:
    """Encodes chunks in threads and hands them back in their order, a bounded number at a time."""

    def __init__(self, pipeline: Pipeline, threads: int) -> None:
        self._pipeline = pipeline
        self._pool = ThreadPoolExecutor(threads, "chunk-encoder")
        self._room = 2 * threads
        self._under_way: list[Future[bytes | Array]] = []

    def put(self, chunk: Array) -> list[bytes | Array]:
        """Take a chunk that nobody changes any more; the chunks that are done by now, in order."""
        self._under_way.append(self._pool.submit(self._pipeline.encode, chunk))
        return self._done(len(self._under_way) - self._room)

    def drain(self) -> list[bytes | Array]:
        """Wait for all."""
        return self._done(len(self._under_way))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _done(self, at_least: int) -> list[bytes | Array]:
        ready: list[bytes | Array] = []
        while self._under_way and (at_least > len(ready) or self._under_way[0].done()):
            ready.append(self._under_way.pop(0).result())
        return ready
