"""Keeps processes running together: started in order, restarted when they die, stopped together."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from datamgr import process
from datamgr.daemon import Backoff, Stop
from datamgr.errors import InvalidError, UnavailableError

Show = Callable[[str, str], None]

TICK_S = 0.2
HOPELESS = {2, 4}  # wrong usage and invalid input: the next try would end the same way


@dataclass(frozen=True)
class Timing:
    """How patient a supervisor is, in seconds."""

    grace_s: float = 10.0
    restart_first_s: float = 1.0
    restart_cap_s: float = 60.0
    healthy_s: float = 60.0


@dataclass
class Child:
    """One supervised process and its restarts."""

    name: str
    argv: Sequence[str]
    backoff: Backoff
    running: process.Process | None = None
    reader: threading.Thread | None = None
    last_line: str = ""
    started_at: float = 0.0
    due_at: float = 0.0


class Supervisor:
    """Supervises one process per named command line.

    `show(name, line)` receives what the processes say, and under the name `up` what becomes of
    them; it is called from several threads.
    """

    def __init__(
        self, commands: Mapping[str, Sequence[str]], show: Show, timing: Timing | None = None
    ) -> None:
        self._timing = timing or Timing()
        self._show = show
        self._hastened = False
        self._children = [
            Child(name, argv, Backoff(self._timing.restart_first_s, self._timing.restart_cap_s))
            for name, argv in commands.items()
        ]

    def hasten(self) -> None:
        """Do not wait for processes to end by themselves; safe in a signal handler."""
        self._hastened = True

    def run(self, stop: Stop) -> None:
        """Keep all running until `stop`, then stop them in reverse order. Only in the main thread.

        Raises:
            InvalidError: one ended because of its usage or its input (exit code 2 or 4).
        """
        with self._all_stopped_at_end():
            for child in self._children:
                self._start(child)
            while not stop.wait(TICK_S):
                for child in self._children:
                    self._tend(child)

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.running is None:
            if now >= child.due_at:
                self._start(child)
            return
        code = child.running.poll()
        if code is None:
            return
        self._reap(child)
        if code in HOPELESS:
            said = child.last_line.removeprefix("datamgr: ") or "it said nothing"
            raise InvalidError(f"the service {child.name} cannot run: {said}")
        if now - child.started_at >= self._timing.healthy_s:
            child.backoff.reset()
        self._put_off(child, f"{child.name} {_ended(code)}")

    def _start(self, child: Child) -> None:
        child.started_at = time.monotonic()
        child.last_line = ""
        try:
            child.running = process.spawn_bound(child.argv)
        except UnavailableError as error:
            self._put_off(child, str(error))
            return
        child.reader = threading.Thread(target=self._read, args=(child, child.running), daemon=True)
        child.reader.start()
        self._show("up", f"{child.name} started, process {child.running.pid}")

    def _put_off(self, child: Child, why: str) -> None:
        wait_s = child.backoff.next_s()
        child.due_at = time.monotonic() + wait_s
        self._show("up", f"{why}; starting it again in {wait_s:.1f} s")

    def _read(self, child: Child, running: process.Process) -> None:
        for line in running.stdout or ():
            text = line.decode(errors="replace").rstrip("\n")
            child.last_line = text or child.last_line
            self._show(child.name, text)

    def _reap(self, child: Child) -> None:
        """Collect what is left of a process that has ended."""
        if child.running is None or child.reader is None:
            return
        # Processes it left behind would keep its output, and perhaps its port, open.
        with suppress(ProcessLookupError):
            os.killpg(child.running.pid, signal.SIGKILL)
        child.reader.join(timeout=5)
        if child.running.stdout is not None:
            child.running.stdout.close()
        child.running = child.reader = None

    @contextmanager
    def _all_stopped_at_end(self) -> Iterator[None]:
        try:
            yield
        finally:
            for child in reversed(self._children):
                self._stop(child)

    def _stop(self, child: Child) -> None:
        if child.running is None:
            return
        child.running.terminate()
        patience_ends = time.monotonic() + self._timing.grace_s
        while child.running.poll() is None:
            if self._hastened or time.monotonic() >= patience_ends:
                self._show("up", f"{child.name} does not stop; killing it")
                os.killpg(child.running.pid, signal.SIGKILL)
                child.running.wait()
                break
            time.sleep(TICK_S / 4)
        self._show("up", f"{child.name} {_ended(child.running.wait())}")
        self._reap(child)


def _ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
