"""An HDF5 file whose writes also go to a receiver."""

import fcntl
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py

from datamgr import display
from datamgr.errors import ConflictError, InvalidError
from hdf5_tools.mirror import auth, protocol
from hdf5_tools.mirror.address import Url
from hdf5_tools.mirror.blocks import BlockFollower
from hdf5_tools.mirror.protocol import Kind
from hdf5_tools.mirror.session import BUFFER_BYTES, Session, WhenSlow

_EXCLUSIVE = ("x", "w-")
_MODES = ("w", "r+", "a", *_EXCLUSIVE)


class File(h5py.File):  # type: ignore[misc]
    """As h5py.File; `close` also completes the replica, and raises if that is not possible.

    By then the local file is closed and whole. `mirror` is the session.
    """

    def __init__(self, tee: "Tee", mode: str, **options: Any) -> None:
        self._tee = tee
        super().__init__(tee, mode, **options)

    @property
    def mirror(self) -> Session:
        """The link to the replica; its `error` says whether the replica was given up."""
        return self._tee.session

    @property
    def swmr_mode(self) -> bool:
        """Never: see the setter."""
        return False

    @swmr_mode.setter
    def swmr_mode(self, value: bool) -> None:
        if value:
            # Through h5py's file objects HDF5 marks the file wrongly, and no reader may open it.
            raise InvalidError(
                "a file that is mirrored byte by byte cannot be read while it is written; "
                "mirror it by mirror.stream"
            )

    def sync(self, timeout_s: float = 60.0) -> None:
        """Flush, and wait until the receiver has it: this much outlives this machine.

        Raises:
            UnavailableError: it took longer; the file goes on as before.
            DatamgrError: the replica was given up.
        """
        self.flush()
        self._tee.session.drain(timeout_s)

    def close(self) -> None:
        """Close the file, and wait until the replica is the same and complete.

        Raises:
            UnavailableError: the receiver cannot be reached or has no space left; the local file
                is complete, and `datamgr hdf5 mirror send` will complete the replica.
            DatamgrError: the receiver refuses.
        """
        try:
            super().close()
        except BaseException:
            self._tee.abandon()
            raise
        self._tee.finish()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not only if it is still open, as h5py does: it may have been closed by another handle.
        self.close()


class Tee(io.RawIOBase):
    """The file that HDF5 writes to: a local one, and what is done to it goes to a session.

    Not for anything but h5py's driver, which reads, writes and truncates at positions.
    """

    def __init__(self, file: int, session: Session, name: str = "") -> None:
        self.session = session
        self._name = name
        self._file = file
        self._position = 0
        self._size = os.fstat(file).st_size
        self._is_cut = False
        self._is_over = False

    def __repr__(self) -> str:
        """The local file's name: h5py makes it the `filename`."""
        return self._name

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        self._position = offset + (self._size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read from the local file."""
        view = memoryview(buffer)
        got = 0
        while got < len(view):
            count = os.preadv(self._file, [view[got:]], self._position + got)
            if count == 0:
                break
            got += count
        return got

    def write(self, data: Any) -> int:
        """Write all of it, here and there.

        Raises:
            OSError: the local file did not take it.
        """
        view = memoryview(data).cast("B")
        begin = at = self._position
        self._is_cut = False
        self.session.will_change()
        try:
            # HDF5 takes what was written for all of it.
            while at - begin < len(view):
                at += os.pwrite(self._file, view[at - begin :], at)
        finally:
            self._size = max(self._size, at)
            for done in range(0, at - begin, protocol.MAX_PAYLOAD_BYTES):
                piece = view[done : min(done + protocol.MAX_PAYLOAD_BYTES, at - begin)]
                self.session.put(Kind.WRITE, begin + done, piece)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Give the file a size."""
        wanted = self._position if size is None else size
        if wanted != self._size:
            self.session.will_change()
            os.ftruncate(self._file, wanted)
            self._size = wanted
            self.session.put(Kind.TRUNCATE, wanted, b"")
        self._is_cut = True
        return wanted

    def flush(self) -> None:
        """HDF5 flushes something; the whole file, if it has cut it to its size before."""
        if not self._is_over and self._is_cut:
            self.session.put(Kind.COMMIT, 0, b"")
        self._is_cut = False

    def finish(self) -> None:
        """HDF5 has closed the file."""
        if self._is_over:
            return
        try:
            self.session.finish()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """HDF5 could not close the file."""
        if not self._is_over:
            self._is_over = True
            if self.session.abandon():
                os.close(self._file)


def open(
    url: str,
    local: Path | str,
    mode: str = "w",
    *,
    token_file: Path | None = None,
    when_slow: WhenSlow | str = WhenSlow.CATCH_UP,
    buffer_bytes: int = BUFFER_BYTES,
    patience_s: float = 60.0,
    **options: Any,
) -> File:
    """An HDF5 file at `local` whose writes also go to the replica at `url`.

    `mode`: as for h5py.File; "r+" and "a" compare the replica with the local file first. `options`
    go to h5py.File (`libver`, `rdcc_nbytes` …). `buffer_bytes` may be written and not yet
    acknowledged; `when_slow` says what happens then. `patience_s`: so long BLOCK waits for room
    and `close` for any progress.

    Raises:
        UnavailableError: no receiver answers.
        ForbiddenError: the token is wrong, or the name leads out of the receiver's directory.
        ConflictError: somebody else writes this replica or the local file.
        InvalidError: the URL, the name or the mode is none.
        OSError: the local file cannot be opened, as by h5py.File.
    """
    if mode not in _MODES:
        raise InvalidError(f"a mirrored file is opened to be written: mode {mode!r} is not")
    where = Url.parse(url)
    token = None if token_file is None else auth.read_token(token_file)
    path = Path(local)
    file = _open_local(path, mode)
    try:
        keep = mode in ("r+", "a") and os.fstat(file).st_size > 0
        session = Session(
            where, token, BlockFollower(file), buffer_bytes=buffer_bytes,
            when_slow=WhenSlow(when_slow), patience_s=patience_s, action="write", keep=keep,
        )  # fmt: skip
    except BaseException:
        os.close(file)
        if mode in _EXCLUSIVE:
            path.unlink()
        raise
    if not keep:
        os.ftruncate(file, 0)
    tee = Tee(file, session, str(path))
    try:
        return File(tee, "r+" if keep else "w", **options)
    except BaseException:
        tee.abandon()
        raise


def _open_local(path: Path, mode: str) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | (0 if mode == "r+" else os.O_CREAT)
    file = os.open(path, flags | (os.O_EXCL if mode in _EXCLUSIVE else 0), 0o666)
    try:
        # As HDF5 does, which does not know of this descriptor.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise ConflictError(f"{display.printable(path)} is open in another program") from error
    return file
