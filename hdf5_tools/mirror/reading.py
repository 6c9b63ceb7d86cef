"""Comparing: the receiver hands out the hashes of a replica's blocks, and nothing else of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from datamgr import display
from datamgr.errors import InvalidError, NotFoundError
from hdf5_tools.mirror import place, protocol, ranges
from hdf5_tools.mirror.link import Link
from hdf5_tools.mirror.place import INCOMPLETE, Place
from hdf5_tools.mirror.protocol import Kind


@contextmanager
def opened(where: Place, name: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """A replica, or what there is of an incomplete one; its descriptor and what to say of it.

    Raises:
        NotFoundError, ForbiddenError, InvalidError: there is none of that name.
    """
    with where.folder(name, make=False) as (folder, leaf):
        is_complete = True
        try:
            file = place.open_regular(folder, leaf, os.O_RDONLY)
        except NotFoundError:
            try:
                file = place.open_regular(folder, leaf + INCOMPLETE, os.O_RDONLY)
            except NotFoundError as error:
                raise NotFoundError(f"there is no {display.printable(name)}") from error
            is_complete = False
    try:
        yield file, {"size_bytes": os.fstat(file).st_size, "is_complete": is_complete}
    finally:
        os.close(file)


def serve(peer: Link, file: int) -> None:
    """Answer with digests until the link ends."""
    for frame in peer.frames():
        if frame.kind != Kind.DIGESTS:
            raise InvalidError("a reader asks for digests and nothing else")
        count = ranges.require_count(protocol.read_span(frame.payload)[1])
        if frame.offset > 1 << 42:
            raise InvalidError("a reader asks for blocks that no file has")
        found = ranges.digests(file, frame.offset, count)
        peer.send(protocol.frame(Kind.DIGESTED, frame.number, frame.offset, found))
