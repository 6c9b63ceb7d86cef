"""A writer's side of a mirror: operations go into a bounded buffer, from which a thread sends.

When the buffer runs over, or the receiver has forgotten the session, the replica catches up.
"""

import enum
import logging
import os
import threading
import time
from collections import deque
from typing import Any, Protocol

from datamgr.errors import DatamgrError, UnavailableError
from hdf5_tools.mirror.address import Url
from hdf5_tools.mirror.protocol import HEADER_BYTES, Frame, Kind
from hdf5_tools.mirror.ring import Ring
from hdf5_tools.mirror.sending import Sender

log = logging.getLogger(__name__)

BUFFER_BYTES = 64 << 20
# Python's garbage collector may come, in the sending thread, to an object of h5py, and wait there
# for h5py's lock, which a writer holds while HDF5 writes. A writer that waited for the thread
# would wait for ever: it gives up waiting, and the replica catches up.
_STUCK_S = 12.0  # longer than any call of the thread
_LOCKED_S = 1.0  # longer than it ever holds the lock
_POLL_S = 0.002


class WhenSlow(enum.StrEnum):
    """What a write does that finds the buffer full.

    BLOCK waits until there is room, at most `patience_s`. CATCH_UP goes on, and what the buffer
    could not take is sent later, as it is then.
    """

    BLOCK = "block"
    CATCH_UP = "catch-up"


class Follower(Protocol):
    """What compares, and brings a replica up to date that missed operations.

    All but `step`, `answered` and `compare_ahead` are called under the lock.
    """

    def begin(self, said: dict[str, Any] | None) -> None:
        """Compare what was not; everything with a receiver that knew nothing of us, and said so."""

    def resumed(self, applied: int) -> None:
        """The link broke and is back; operations up to `applied` are not sent again."""

    def changed(
        self, kind: Kind, offset: int, payload: bytes | memoryview, *, was_sent: bool
    ) -> None:
        """An operation was carried out here, and put or not."""

    def compare_ahead(self, session: "Session") -> bool:
        """Put a question before the end, if there is one; takes the lock."""

    def step(self, session: "Session") -> bool:
        """Put a few operations; False when there is nothing to do before an answer comes."""

    def answered(self, session: "Session", frame: Frame) -> None:
        """An answer came."""


class Session:
    """The link to one replica, from the first greeting to the last acknowledgement.

    Local work never fails because of it: an error is logged when it appears, and raised by
    `finish`. What is public is shared with the sending thread and the follower, under `lock`.
    """

    def __init__(
        self,
        url: Url,
        token: bytes | None,
        follower: Follower,
        *,
        buffer_bytes: int = BUFFER_BYTES,
        when_slow: WhenSlow = WhenSlow.CATCH_UP,
        patience_s: float = 60.0,
        **hello: Any,
    ) -> None:
        """Connect. With `keep=True` in `hello` everything is compared first.

        Raises:
            DatamgrError: nobody answers, or the receiver refuses.
        """
        self.url = url
        self.follower = follower
        self.error: DatamgrError | None = None
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.ring = Ring(buffer_bytes)
        self.is_catching_up = bool(hello.get("keep"))
        self.is_closing = False
        self.is_over = False
        # Of the operations that were put; none from when the next one is begun here.
        self.last_kind: Kind | None = None
        self.last_operation: int | None = None  # the one that closes
        self._when_slow = when_slow
        self._patience_s = patience_s
        self._passed_by: deque[tuple[Kind, int, bytes]] = deque()
        hello = {"session": os.urandom(16).hex(), **hello}
        self._sender = Sender(self, token, hello, patience_s)
        self._sender.start()

    def put(self, kind: Kind, offset: int, *payloads: bytes | memoryview) -> None:
        """Let operations follow those before, all or, for now, none; one for each payload.

        May wait as `when_slow` says, and never fails.
        """
        needed = sum(len(payload) + HEADER_BYTES for payload in payloads)
        if not self._take_lock(needed):
            self._passed_by += [(kind, offset, bytes(payload)) for payload in payloads]
            return
        try:
            self.last_kind = kind
            for payload in payloads:
                if not self.is_catching_up:
                    self.ring.put(kind, offset, payload)
                self.follower.changed(kind, offset, payload, was_sent=not self.is_catching_up)
            self._sender.wake()
        finally:
            self.lock.release()

    def will_change(self) -> None:
        """The local file is about to be changed by what will be put: it is not as at a commit."""
        self.last_kind = None

    def drain(self, timeout_s: float) -> None:
        """Wait until every operation so far was applied.

        Raises:
            UnavailableError: that took longer.
            DatamgrError: the replica was given up.
        """
        ends_at = time.monotonic() + timeout_s
        with self.lock:
            self._take_passed_by()
            self._sender.wake()
            while self.is_catching_up or not self.ring.is_empty:
                if self.error is not None:
                    raise self.error
                if time.monotonic() > ends_at:
                    reason = self._sender.trouble or "the receiver is behind"
                    raise UnavailableError(f"the replica {self.url} is not up to date: {reason}")
                self.changed.wait(0.1)

    def finish(self) -> None:
        """Compare everything a last time, let the replica take its name, and end.

        Raises:
            UnavailableError: for `patience_s` there was no progress.
            DatamgrError: the receiver refuses.
        """
        with self.lock:
            self._take_passed_by()
            self.is_closing = True
            self._sender.forgive()
            self.begin_catch_up(None)
            seen, since = self._sender.progress, time.monotonic()
            while not self.is_over and self.error is None:
                self.changed.wait(0.5)
                if self._sender.progress != seen:
                    seen, since = self._sender.progress, time.monotonic()
                if not self._has_patience(since):
                    reason = self._sender.trouble or "the receiver does not go on"
                    self.error = UnavailableError(f"the replica {self.url} is incomplete: {reason}")
        self.abandon()
        if self.error is not None:
            raise self.error

    def abandon(self) -> bool:
        """End without more: the replica stays incomplete, as at the last commit.

        False if the thread does not end, and may look at the local file once more.
        """
        with self.lock:
            self.is_over = True
            self._sender.wake()
        return self._sender.join(2 * _STUCK_S)

    def fail(self, error: DatamgrError) -> None:
        """Give the replica up; under the lock."""
        log.error("the replica %s is given up: %s", self.url, error)
        self.error = error
        self.is_catching_up = True
        self.changed.notify_all()

    def _take_passed_by(self) -> None:
        """Have those operations caught up with that could not wait for the lock."""
        while self._passed_by:
            self.is_catching_up = True
            self.follower.changed(*self._passed_by.popleft(), was_sent=False)

    def _take_lock(self, needed_bytes: int) -> bool:
        """Take the lock, with room in the buffer or catching up; False: it could not be had."""
        if not self.lock.acquire(timeout=0 if self._passed_by else _LOCKED_S):
            return False
        self._take_passed_by()
        ends_at = time.monotonic() + (self._patience_s if self._when_slow is WhenSlow.BLOCK else 0)
        beat, beat_at = self._sender.beat, time.monotonic()
        while not self.is_catching_up and not self.ring.has_room(needed_bytes):
            now = time.monotonic()
            if self._sender.beat != beat:
                beat, beat_at = self._sender.beat, now
            if now >= ends_at or now - beat_at > _STUCK_S:
                log.warning("%s: the receiver is too slow; the replica will catch up", self.url)
                self.is_catching_up = True
                break
            self._sender.wake()
            # Not by the condition, which would wait for the lock without an end.
            self.lock.release()
            time.sleep(_POLL_S)
            if not self.lock.acquire(timeout=_LOCKED_S):
                return False
        return True

    def begin_catch_up(self, said: dict[str, Any] | None) -> None:
        """Let the follower `begin`; under the lock."""
        self.is_catching_up = True
        self.follower.begin(said)
        self.changed.notify_all()
        self._sender.wake()

    def _has_patience(self, since: float) -> bool:
        now = time.monotonic()
        return max(now - since, self._sender.refused_s) <= self._patience_s
