"""The writers that a receiver knows: one for each replica, across its connections."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from datamgr import display
from datamgr.errors import ConflictError, DatamgrError, InvalidError, UnavailableError
from hdf5_tools.mirror import protocol
from hdf5_tools.mirror.link import BrokenLinkError, Link
from hdf5_tools.mirror.place import Place
from hdf5_tools.mirror.protocol import Frame, Kind
from hdf5_tools.mirror.replay import StreamReplica
from hdf5_tools.mirror.replica import ByteReplica

log = logging.getLogger(__name__)

TAKE_OVER_S = 10.0
_SESSION_BYTES = 16


class Replica(Protocol):
    """What follows a writer."""

    is_finished: bool

    def apply(self, frame: Frame) -> bytes | None:
        """Carry one operation out; the frame to answer, if any."""

    def settle(self) -> None:
        """The writer does not come back: leave what is readable, and close."""


_REPLICAS: dict[str, Callable[[Place, bytes, bytes, dict[str, Any]], Replica]] = {
    "write": ByteReplica,
    "stream": StreamReplica,
}


@dataclass(eq=False)
class Session:
    """A writer of one replica. `lock`: held by the connection that serves it."""

    id: bytes
    name: bytes
    replica: Replica | None = None
    applied: int | None = None  # the last operation; None before the first
    connection: socket.socket | None = None
    cut_off_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def shown(self) -> str:
        """The name of the replica."""
        return display.printable(self.name)

    def follow(self, peer: Link) -> None:
        """Apply what comes until the link ends, and say after each batch how far that went."""
        acknowledged = self.applied
        while True:
            for frame in peer.waiting_frames():
                answer = self._apply(frame)
                if answer is not None:
                    peer.send(answer)
            if self.applied is not None and self.applied != acknowledged:
                acknowledged = self.applied
                peer.send(protocol.frame(Kind.ACK, acknowledged))
            peer.fill()

    def settle(self) -> None:
        """Leave the replica readable, and know nothing more of it; with the lock."""
        replica, self.replica, self.applied = self.replica, None, None
        if replica is not None:
            try:
                replica.settle()
            except (DatamgrError, OSError) as error:
                log.warning("%s: %s", self.shown, error)

    def _apply(self, frame: Frame) -> bytes | None:
        if self.replica is None or self.replica.is_finished:
            raise InvalidError("an operation came after the end")
        if self.applied is not None and frame.number != self.applied + 1:
            raise BrokenLinkError(f"operation {frame.number} came after {self.applied}")
        answer = self.replica.apply(frame)
        self.applied = frame.number
        return answer


class Sessions:
    """Which replica has which writer. `grace_s`: how long one whose link broke may come back."""

    def __init__(self, where: Place, grace_s: float) -> None:
        self._place = where
        self._grace_s = grace_s
        self._by_name: dict[bytes, Session] = {}
        self._lock = threading.Lock()

    @contextmanager
    def entered(
        self, name: bytes, hello: dict[str, Any], connection: socket.socket
    ) -> Iterator[Session]:
        """The session of a writer, with its replica, for as long as this connection lasts.

        After any error but that of the link the replica is settled: what was written last cannot
        be told, so the writer has to compare when it comes again.

        Raises:
            InvalidError: it did not say who it is, or the name is none.
            ConflictError: the replica has another writer.
            UnavailableError: the file system hangs in what came before.
        """
        session = self._find(name, hello, connection)
        try:
            self._open(session, hello)
            yield session
        except BrokenLinkError:
            raise
        except BaseException:
            session.settle()
            raise
        finally:
            session.connection, session.cut_off_at = None, time.monotonic()
            if session.replica is None or session.replica.is_finished:
                self._forget(session)
            session.lock.release()

    def settle_lost(self) -> None:
        """Settle those whose grace is over."""
        over = time.monotonic() - self._grace_s
        with self._lock:
            lost = [s for s in self._by_name.values() if s.cut_off_at and s.cut_off_at < over]
        for session in lost:
            if session.lock.acquire(blocking=False):
                try:
                    if session.connection is None and session.cut_off_at is not None:
                        log.warning("the writer of %s is gone", session.shown)
                        session.settle()
                        self._forget(session)
                finally:
                    session.lock.release()

    def settle_all(self) -> None:
        """Settle all that no connection serves any more."""
        for session in list(self._by_name.values()):
            if session.lock.acquire(blocking=False):
                session.settle()
                session.lock.release()

    def _find(self, name: bytes, hello: dict[str, Any], connection: socket.socket) -> Session:
        try:
            own = bytes.fromhex(str(hello["session"]))
        except (KeyError, ValueError):
            own = b""
        if len(own) != _SESSION_BYTES or hello.get("action") not in _REPLICAS:
            raise InvalidError("a writer writes or streams, in a session of 16 bytes")
        with self._lock:
            session = self._by_name.setdefault(name, Session(own, name))
            if session.id != own:
                raise ConflictError(self._in_use(session))
            if session.connection is not None:
                # The same writer has noticed earlier than we did that its link is broken.
                cut(session.connection)
        if not session.lock.acquire(timeout=TAKE_OVER_S):
            raise UnavailableError("the receiver is still busy with what came before")
        session.connection, session.cut_off_at = connection, None
        return session

    def _open(self, session: Session, hello: dict[str, Any]) -> None:
        with self._lock:
            if self._by_name.setdefault(session.name, session) is not session:
                raise ConflictError(f"{session.shown} has another writer now")
        if session.replica is None:
            make = _REPLICAS[str(hello["action"])]
            session.replica = make(self._place, session.name, session.id, hello)
            log.info("%s has a writer", session.shown)

    def _forget(self, session: Session) -> None:
        with self._lock:
            if self._by_name.get(session.name) is session:
                del self._by_name[session.name]

    def _in_use(self, session: Session) -> str:
        since = session.cut_off_at
        if session.connection is not None or since is None:
            return f"{session.shown} has another writer at the receiver"
        left = max(0.0, self._grace_s - (time.monotonic() - since))
        return (
            f"{session.shown} has another writer at the receiver, whose link broke; it may come "
            f"back within {left:.0f} s"
        )


def cut(connection: socket.socket) -> None:
    """End a connection that another thread serves."""
    with suppress(OSError):
        # Not the method of TLS, which takes from that thread what it is using.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
