"""The life of a long-running process: steps until a signal, patience with what is away."""

import logging
import os
import random
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from datamgr.errors import UnavailableError

log = logging.getLogger(__name__)


class Stop:
    """Whether the process was asked to stop. It can be waited for together with sockets."""

    def __init__(self) -> None:
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._asked = False

    def set(self) -> None:
        """Ask to stop; safe in a signal handler and from any thread."""
        self._asked = True
        os.eventfd_write(self._event_fd, 1)

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._asked

    def wait(self, timeout_s: float, *readable_fds: int) -> bool:
        """Sleep until asked, one of the file descriptors is readable, or the time is over."""
        poller = select.poll()
        for fd in (self._event_fd, *readable_fds):
            poller.register(fd, select.POLLIN)
        poller.poll(timeout_s * 1000)
        return self._asked

    def close(self) -> None:
        """Free the file descriptor."""
        os.close(self._event_fd)


@dataclass
class Backoff:
    """How long to wait before the next try: doubling up to a cap, with jitter."""

    first_s: float = 1.0
    cap_s: float = 60.0
    _next_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again: it went well."""
        self._next_s = self.first_s

    def next_s(self) -> float:
        """The wait after one more failure, from half to all of the nominal one."""
        nominal, self._next_s = self._next_s, min(2 * self._next_s, self.cap_s)
        # So that processes that failed together do not all come back together.
        return nominal * random.uniform(0.5, 1)  # noqa: S311  no secret


@contextmanager
def stop_on_signals(hasten: Callable[[], None] | None = None) -> Iterator[Stop]:
    """A `Stop` that SIGTERM, SIGINT and a closed terminal set; only in the main thread.

    A second Ctrl-C calls `hasten`, by default it interrupts at once (KeyboardInterrupt). A
    second SIGTERM is no impatience: a service manager and a supervisor may each send one.
    """
    stop = Stop()

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.is_set() and signum == signal.SIGINT:
            (hasten or _interrupt)()
        stop.set()

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        stop.close()


def run_daemon(
    step: Callable[[Stop], float], stop: Stop, *, backoff: Backoff | None = None
) -> None:
    """Repeat `step` until asked to stop; it returns for how many seconds to rest before the next.

    A step that blocks has to watch the `stop` it is given. While something it needs is away
    (UnavailableError) it is tried again, ever less often; the log says so once each way.
    """
    backoff = backoff or Backoff()
    away = False
    while not stop.is_set():
        try:
            rest_s = step(stop)
        except UnavailableError as error:
            if not away:
                log.warning("%s; trying again until it does", error)
            away, rest_s = True, backoff.next_s()
        else:
            if away:
                log.info("what was unavailable is back")
                backoff.reset()
            away = False
        if rest_s > 0:
            stop.wait(rest_s)


@contextmanager
def beating(beat: Callable[[], None], interval_s: float) -> Iterator[None]:
    """Call `beat` every `interval_s` in a thread of its own for as long as the block lasts."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(interval_s):
            beat()

    thread = threading.Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _interrupt() -> None:
    raise KeyboardInterrupt
