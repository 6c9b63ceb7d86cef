"""The receiver: it accepts connections, greets, and hands writers and readers on."""

import logging
import os
import socket
import ssl
import threading
import time
from contextlib import suppress

from datamgr.daemon import Stop
from datamgr.errors import DatamgrError, InvalidError, UnavailableError
from hdf5_tools.mirror import address, link, protocol, reading, replica
from hdf5_tools.mirror.link import BrokenLinkError, Link
from hdf5_tools.mirror.place import Place
from hdf5_tools.mirror.sessions import TAKE_OVER_S, Sessions, cut

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
_TICK_S = 0.5
_PART_S = 2.0


class Receiver:
    """Serves writers and readers of the replicas below one directory.

    `grace_s`: so long a writer whose link broke may come back to where it was; then its replica
    is settled and the name is free. `token`: None lets everybody in who can connect.
    """

    def __init__(
        self,
        where: Place,
        token: bytes | None,
        *,
        tls: tuple[ssl.SSLContext, bytes] | None = None,
        grace_s: float = 60.0,
    ) -> None:
        self._place = where
        self._token = token
        self._tls = None if tls is None else tls[0]
        self._binding = b"" if tls is None else tls[1]
        self._sessions = Sessions(where, grace_s)
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._greeted: set[socket.socket] = set()
        for name in replica.roll_back_all(where):
            log.info("%s was left incomplete; it is as at its last flush", name)

    def serve(self, listener: socket.socket, stop: Stop) -> None:
        """Accept connections until asked to stop; then settle every replica."""
        listener.setblocking(False)
        while not stop.wait(_TICK_S, listener.fileno()):
            self._sessions.settle_lost()
            try:
                connection, peer = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                log.warning("a connection cannot be accepted: %s", error.strerror)
                stop.wait(_TICK_S)
                continue
            self._start(connection, f"{peer[0]} port {peer[1]}" if peer else "this machine")
        self._end()

    def _start(self, connection: socket.socket, whence: str) -> None:
        connection.setblocking(True)
        with self._lock:
            is_full = len(self._connections) >= MAX_CONNECTIONS and not self._make_room()
            # A daemon: one that hangs in a file system must not keep the process from ending.
            thread = threading.Thread(target=self._run, args=(connection, whence), daemon=True)
            if not is_full:
                self._connections[connection] = thread
        if is_full:
            log.warning(
                "more than %d connections: one from %s was turned away", MAX_CONNECTIONS, whence
            )
            connection.close()
        else:
            thread.start()

    def _make_room(self) -> bool:
        """End whoever has waited longest to say who they are; whether there was anybody."""
        for connection in self._connections:
            if connection not in self._greeted:
                cut(connection)
                del self._connections[connection]
                return True
        return False

    def _run(self, connection: socket.socket, whence: str) -> None:
        secured = Link(connection)
        try:
            self._secure(secured, connection)
            self._serve_one(secured)
        except DatamgrError as error:
            log.info("a connection from %s ended: %s", whence, error)
            if not isinstance(error, BrokenLinkError):
                _refuse(secured, error)
        except Exception:
            log.exception("a connection from %s failed", whence)
        finally:
            with self._lock:
                for ended in (connection, secured.socket):
                    self._connections.pop(ended, None)
                    self._greeted.discard(ended)
            secured.close()

    def _secure(self, peer: Link, connection: socket.socket) -> None:
        connection.settimeout(link.GREETING_S)
        if connection.family != socket.AF_UNIX:
            address.keep_alive(connection)
        if self._tls is None:
            return
        try:
            # It takes the connection over; the shake of hands comes once it can be cut.
            peer.socket = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
            with self._lock:
                self._connections[peer.socket] = self._connections.pop(connection)
            peer.socket.do_handshake()
        except (OSError, KeyError) as error:
            raise BrokenLinkError(f"no TLS: {error}") from error

    def _serve_one(self, peer: Link) -> None:
        hello, nonce = link.greet(peer, self._token, self._binding)
        with self._lock:
            self._greeted.add(peer.socket)
        try:
            name = os.fsencode(str(hello.get("name", "")))
        except UnicodeEncodeError as error:
            raise InvalidError("the name of the replica is no file name") from error
        if hello.get("version") != protocol.VERSION:
            raise UnavailableError(
                f"this receiver speaks version {protocol.VERSION} of the protocol"
            )
        peer.socket.settimeout(None)
        if hello.get("action") == "read":
            with reading.opened(self._place, name) as (file, about):
                link.welcome(peer, self._token, self._binding, nonce, **about)
                reading.serve(peer, file)
            return
        with self._sessions.entered(name, hello, peer.socket) as session:
            link.welcome(peer, self._token, self._binding, nonce, applied=session.applied)
            session.follow(peer)

    def _end(self) -> None:
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            cut(connection)
        ends_at = time.monotonic() + TAKE_OVER_S
        for thread in connections.values():
            thread.join(max(0.0, ends_at - time.monotonic()))
        self._sessions.settle_all()


def _refuse(peer: Link, error: DatamgrError) -> None:
    """Say why, and wait until it was heard: what is unread would end the connection at once."""
    with suppress(OSError, BrokenLinkError):
        peer.socket.settimeout(_PART_S)
        peer.send(protocol.refusal(error))
        ends_at = time.monotonic() + _PART_S
        while time.monotonic() < ends_at and peer.socket.recv(1 << 16):
            pass
