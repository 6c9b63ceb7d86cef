"""A unix stream socket where one line is asked and one answered, whoever is at the other end.

One loop reads and writes without ever waiting for a client; the answers are made by a few threads.
"""

import logging
import os
import queue
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from datamgr.daemon import Stop

MAX_LINE_BYTES = 1 << 16  # of a question, unless it is said otherwise
MAX_CONNECTIONS = 128
MAX_PER_ACCOUNT = 32  # where anybody may ask
THREADS = 4
ASK_SECONDS = 5.0  # until the question is there
TAKE_SECONDS = 15.0  # until the answer is taken
_TICK_S = 0.5

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Connection:
    """One client. While its question is worked on, the loop does not look at it."""

    socket: socket.socket
    uid: int
    ends_at: float
    heard: bytearray = field(default_factory=bytearray)
    to_say: memoryview | None = None
    is_waiting: bool = False


class LineServer:
    """Serves a listening socket; close it after `serve` has returned.

    `answer` makes an answer of an account's number and a question, neither with the newline; it
    is called by several threads and must not raise. `refuse` makes the answer of a sentence.
    """

    def __init__(
        self,
        listener: socket.socket,
        uids: frozenset[int] | None,
        answer: Callable[[int, bytes], bytes],
        refuse: Callable[[str], bytes],
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        """`uids`: who may ask, None for anybody. `max_line_bytes`: of a question."""
        self._listener = listener
        self._uids = uids
        self._answer = answer
        self._refuse = refuse
        self._max_line_bytes = max_line_bytes
        self._connections: set[_Connection] = set()
        self._selector = selectors.EpollSelector()
        self._questions: queue.SimpleQueue[_Connection] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[_Connection] = queue.SimpleQueue()
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def serve(self, stop: Stop) -> None:
        """Answer until asked to stop."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        for number in range(THREADS):
            # Daemons: one that hangs in a file system must not keep the process from ending.
            threading.Thread(target=self._work, name=f"reader-{number}", daemon=True).start()
        while not stop.wait(_TICK_S, self._selector.fileno()):
            for key, _ in self._selector.select(0):
                if key.fileobj is self._listener:
                    self._accept_all(stop)
                elif key.fileobj == self._woken:
                    self._take_answers()
                else:
                    self._serve_one(key.data)
            self._end_the_slow()
        for connection in list(self._connections):
            self._close(connection)

    def _work(self) -> None:
        while True:
            connection = self._questions.get()
            line = bytes(connection.heard).partition(b"\n")[0]
            connection.to_say = memoryview(self._answer(connection.uid, line) + b"\n")
            self._answered.put(connection)
            os.eventfd_write(self._woken, 1)

    def _accept_all(self, stop: Stop) -> None:
        for _ in range(MAX_CONNECTIONS):
            try:
                self._accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("a connection cannot be accepted: %s", error)
                stop.wait(_TICK_S)
                return

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        accepted.setblocking(False)
        credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("=iII", credentials)
        connection = _Connection(accepted, uid, time.monotonic() + ASK_SECONDS)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)
        if self._uids is not None and uid not in self._uids:
            log.warning("process %d of account %d was turned away", pid, uid)
            self._say(connection, self._refuse("this account may not ask here"))
        elif self._uids is None and uid != 0 and self._connections_of(uid) > MAX_PER_ACCOUNT:
            self._say(connection, self._refuse("this account asks too much at a time"))
        elif len(self._connections) > MAX_CONNECTIONS:
            self._make_room(connection)

    def _connections_of(self, uid: int) -> int:
        return sum(connection.uid == uid for connection in self._connections)

    def _make_room(self, newest: _Connection) -> None:
        """End whoever has taken longest to ask; if all have asked, the newest has to wait."""
        asking = [c for c in self._connections if not c.is_waiting and c.to_say is None]
        oldest = min(asking, key=lambda c: c.ends_at)
        if oldest is newest:
            self._say(newest, self._refuse("the service is busy; try again in a moment"))
        else:
            self._close(oldest)

    def _serve_one(self, connection: _Connection) -> None:
        try:
            if connection.to_say is None:
                self._hear(connection)
            else:
                self._say_on(connection)
        except BlockingIOError:
            return
        except OSError:  # gone
            self._close(connection)

    def _hear(self, connection: _Connection) -> None:
        piece = connection.socket.recv(1 << 18)
        connection.heard += piece
        if b"\n" in piece:
            self._selector.unregister(connection.socket)
            connection.is_waiting = True
            self._questions.put(connection)
        elif not piece:
            self._close(connection)
        elif len(connection.heard) > self._max_line_bytes:
            self._say(connection, self._refuse("the question is too long"))

    def _take_answers(self) -> None:
        os.eventfd_read(self._woken)
        while not self._answered.empty():
            connection = self._answered.get()
            connection.is_waiting = False
            connection.ends_at = time.monotonic() + TAKE_SECONDS
            self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)

    def _say(self, connection: _Connection, line: bytes) -> None:
        connection.to_say = memoryview(line + b"\n")
        connection.ends_at = time.monotonic() + ASK_SECONDS
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)

    def _say_on(self, connection: _Connection) -> None:
        if connection.to_say is None:
            return
        connection.to_say = connection.to_say[connection.socket.send(connection.to_say) :]
        if not connection.to_say:
            self._close(connection)

    def _end_the_slow(self) -> None:
        now = time.monotonic()
        for connection in [c for c in self._connections if not c.is_waiting and c.ends_at < now]:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if not connection.is_waiting and connection.socket.fileno() >= 0:
            self._selector.unregister(connection.socket)
        connection.socket.close()
