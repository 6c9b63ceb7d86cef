"""Whether a file and its replica are the same, and making them so, once nobody writes."""

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import h5py

from datamgr import display
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from hdf5_tools.mirror import auth, link, protocol, ranges
from hdf5_tools.mirror.address import Url
from hdf5_tools.mirror.blocks import BlockFollower
from hdf5_tools.mirror.protocol import Kind
from hdf5_tools.mirror.session import Session

_ANSWER_S = 120.0
_MAX_CHUNKS = 1_000_000  # of a dataset, that are looked at to name it


@dataclass(frozen=True)
class Differing:
    """Bytes from `begin` to before `end`; the datasets of the local file with data in there."""

    begin: int
    end: int
    datasets: tuple[str, ...]


@dataclass(frozen=True)
class Verified:
    """What a comparison found. `is_complete`: the replica's writer has closed it."""

    size_bytes: int
    replica_bytes: int
    is_complete: bool
    differing: list[Differing]


def verify(url: str, local: Path, *, token_file: Path | None = None) -> Verified:
    """Compare both sides by the hashes of their blocks; neither is changed.

    Raises:
        NotFoundError: one of them is not there.
        UnavailableError, ForbiddenError: the receiver does not answer, or not to this token.
    """
    where = Url.parse(url)
    token = None if token_file is None else auth.read_token(token_file)
    file = _open(local)
    try:
        peer, about = link.connect(where, token, action="read")
        try:
            peer.socket.settimeout(_ANSWER_S)
            size, other = os.fstat(file).st_size, int(about["size_bytes"])
            blocks = ranges.blocks_of(max(size, other))
            differing = []
            for first in range(0, blocks, ranges.MAX_BLOCKS):
                count = min(ranges.MAX_BLOCKS, blocks - first)
                asked = protocol.span(0, count)
                peer.send(protocol.frame(Kind.DIGESTS, first + 1, first, asked))
                own = ranges.split(ranges.digests(file, first, count))
                theirs = ranges.split(peer.receive(Kind.DIGESTED).payload)
                pairs = zip(own, theirs, strict=True)
                differing += [first + i for i, (a, b) in enumerate(pairs) if a != b]
        finally:
            peer.close()
    finally:
        os.close(file)
    found = ranges.merged(differing, max(size, other))
    named = _datasets(local, found)
    return Verified(
        size, other, bool(about["is_complete"]),
        [Differing(begin, end, tuple(n)) for (begin, end), n in zip(found, named, strict=True)],
    )  # fmt: skip


def send(
    url: str, local: Path, *, token_file: Path | None = None, patience_s: float = 60.0
) -> None:
    """Make the replica equal to a file that nobody writes; only what differs is sent.

    Raises:
        ConflictError: the local file is being written, or the replica is.
        DatamgrError: as `mirror.open` and `File.close`.
    """
    where = Url.parse(url)
    token = None if token_file is None else auth.read_token(token_file)
    file = _open(local)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(f"{display.printable(local)} is being written") from error
        session = Session(
            where, token, BlockFollower(file), patience_s=patience_s, action="write", keep=True
        )
        session.finish()
    finally:
        os.close(file)


def _open(local: Path) -> int:
    shown = display.printable(local)
    try:
        # Without waiting: a pipe would have us wait for its writer.
        file = os.open(local, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no file {shown}") from error
    except OSError as error:
        raise ForbiddenError(f"{shown} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise InvalidError(f"{shown} is no regular file")
    return file


def _datasets(local: Path, found: list[tuple[int, int]]) -> list[list[str]]:
    """For each range the datasets with data in it; none if the file cannot be asked."""
    named: list[list[str]] = [[] for _ in found]
    if not found:
        return named

    def note(name: str, begin: int, size: int) -> None:
        for names, (low, high) in zip(named, found, strict=True):
            if begin < high and begin + size > low and name not in names[-1:]:
                names.append(name)

    def visit(name: str, node: object) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        if node.chunks is None:
            offset = node.id.get_offset()
            if offset is not None:
                note(name, offset, node.id.get_storage_size())
        else:
            for number in range(min(node.id.get_num_chunks(), _MAX_CHUNKS)):
                chunk = node.id.get_chunk_info(number)
                note(name, chunk.byte_offset, chunk.size)

    try:
        with h5py.File(local, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError):
        pass  # it is compared as bytes; being HDF5 is no condition
    return named
