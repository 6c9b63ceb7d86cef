"""The thread that sends a writer's operations, and hears how far the receiver has come.

It pipelines: it never waits for one acknowledgement before it sends what comes next. When the link
breaks it connects again and goes on behind the last operation that was applied.
"""

import logging
import os
import select
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from datamgr.daemon import Backoff
from datamgr.errors import DatamgrError, UnavailableError
from hdf5_tools.mirror import link as links
from hdf5_tools.mirror import protocol
from hdf5_tools.mirror.link import WOULD_BLOCK, BrokenLinkError, Link
from hdf5_tools.mirror.protocol import Kind

if TYPE_CHECKING:
    from hdf5_tools.mirror.session import Session

log = logging.getLogger(__name__)

_SILENT_S = 30.0  # without an acknowledgement that is due
_BACKOFF_CAP_S = 5.0


class Sender:
    """The thread of a session. `beat` and `progress` count its rounds, and what it has heard.

    `trouble`: why there is no link just now, or none.
    """

    def __init__(
        self, session: "Session", token: bytes | None, hello: dict[str, Any], patience_s: float
    ) -> None:
        """Connect.

        Raises:
            DatamgrError: nobody answers, or the receiver refuses.
        """
        self.beat = self.progress = 0
        self.trouble = ""
        self._session = session
        self._token = token
        self._hello = hello
        self._apart_s = 2 * max(patience_s, _BACKOFF_CAP_S)
        self.forgive()
        self._is_sleeping = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._link: Link | None = None
        try:
            self._connect(is_first=True)
        except BaseException:
            os.close(self._event)
            raise
        name = f"mirror-{session.url.text_name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to do; under the session's lock."""
        if self._is_sleeping and self._event >= 0:
            os.eventfd_write(self._event, 1)

    def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended by then."""
        self._thread.join(timeout_s)
        has_ended = not self._thread.is_alive()
        if has_ended and self._event >= 0:
            os.close(self._event)
            self._event = -1
        return has_ended

    @property
    def refused_s(self) -> float:
        """For how long the receiver has been refusing again and again.

        Between two refusals it may go on for a while: a full disk lets every new attempt come as
        far as the one before.
        """
        return self._last_refused - self._first_refused

    def forgive(self) -> None:
        """Count refusals from now on."""
        self._first_refused = self._last_refused = -self._apart_s

    def _connect(self, *, is_first: bool = False) -> None:
        session = self._session
        link, said = links.connect(session.url, self._token, **self._hello)
        link.socket.setblocking(False)
        applied = said.get("applied")
        with session.lock:
            self._link = link
            if is_first:
                if session.is_catching_up:
                    session.follower.begin(said)
            elif isinstance(applied, int) and session.ring.rewind(applied):
                session.follower.resumed(applied)
            else:
                log.warning("%s: the receiver has forgotten where it was; comparing", session.url)
                session.ring.clear()
                session.last_operation = None
                session.begin_catch_up(said)
            self.progress += 1
            session.changed.notify_all()

    def _run(self) -> None:
        session = self._session
        backoff = Backoff(first_s=0.1, cap_s=_BACKOFF_CAP_S)
        while not session.is_over:
            try:
                if self._link is None:
                    self._connect()
                    log.info("%s: the link is back", session.url)
                    self.trouble = ""
                self._pump(self._link, backoff)
            except UnavailableError as error:
                if not self.trouble:
                    log.warning("%s: %s; trying again", session.url, error)
                self.trouble = str(error)
                if not isinstance(error, BrokenLinkError):
                    self._note_refusal()
                self._drop_link()
                self._sleep(backoff.next_s())
            except DatamgrError as error:
                with session.lock:
                    session.fail(error)
                break
            except Exception as error:
                log.exception("the mirror failed")
                with session.lock:
                    session.fail(UnavailableError(f"the mirror to {session.url} failed: {error}"))
                break
        self._drop_link()

    def _pump(self, link: Link | None, backoff: Backoff) -> None:
        """Send, feed and listen until the link breaks or everything is over."""
        session = self._session
        if link is None:
            return
        poller = select.poll()
        poller.register(self._event, select.POLLIN)
        heard_at = time.monotonic()
        while not session.is_over:
            self.beat += 1
            is_heard = self._listen(link)
            now = time.monotonic()
            if is_heard and not session.is_catching_up:
                backoff.reset()
            if is_heard or session.ring.is_empty:
                heard_at = now
            elif now - heard_at > _SILENT_S:
                raise BrokenLinkError(f"the receiver was silent for {_SILENT_S:.0f} s")
            follower = session.follower
            feed = follower.step if session.is_catching_up else follower.compare_ahead
            is_fed = session.error is None and feed(session)
            sent = self._send(link)
            if is_heard or is_fed or sent:
                continue
            with session.lock:
                blocked = session.ring.unsent_bytes > 0
                if blocked and sent is None:
                    continue
                self._is_sleeping = True
            poller.register(link.socket, select.POLLIN | (select.POLLOUT if blocked else 0))
            poller.poll(1000)
            self._is_sleeping = False
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)

    def _listen(self, link: Link) -> bool:
        """Take what has come; whether anything has."""
        session = self._session
        try:
            link.fill()
        except WOULD_BLOCK:
            return False
        for frame in link.waiting_frames():
            if frame.kind == Kind.REFUSAL:
                raise protocol.refused(frame)
            with session.lock:
                self.progress += 1
                if frame.kind == Kind.ACK:
                    session.ring.release(frame.number)
                    if (
                        session.last_operation is not None
                        and frame.number >= session.last_operation
                    ):
                        session.is_over = True
                    session.changed.notify_all()
                    continue
            session.follower.answered(session, frame)
        return True

    def _send(self, link: Link) -> int | None:
        """Send what the socket takes: 0 if it takes nothing now, None if there was nothing."""
        session = self._session
        with session.lock:
            view = session.ring.unsent()
        if not view:
            return None
        try:
            count = link.socket.send(view)
        except WOULD_BLOCK:
            return 0
        except OSError as error:
            self._hear_why(link)
            raise BrokenLinkError(f"the link broke: {error.strerror}") from error
        with session.lock:
            session.ring.sent(count)
        return count

    def _hear_why(self, link: Link) -> None:
        """Somebody who refuses says so before closing the connection."""
        with suppress(BrokenLinkError, *WOULD_BLOCK):
            while True:
                self._listen(link)
                if not select.select([link.socket], [], [], 0.2)[0]:
                    return

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def _sleep(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while not self._session.is_over and (left := ends_at - time.monotonic()) > 0:
            self.beat += 1
            time.sleep(min(left, 0.2))

    def _note_refusal(self) -> None:
        now = time.monotonic()
        if now - self._last_refused > self._apart_s:
            self._first_refused = now
        self._last_refused = now
