"""Several processes that serve one socket, each with a Python and a core of its own."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection

from datamgr import daemon
from datamgr.errors import DatamgrError, UnavailableError

log = logging.getLogger(__name__)

# Forked before anything has threads: they share the socket, which the kernel lets each accept on.
_fork = multiprocessing.get_context("fork")
END_S = 15


def run(number: int, serve: Callable[[int], None]) -> None:
    """Call `serve` with 0, 1, … in `number` processes until SIGTERM or Ctrl-C ends them.

    Only in the main thread of a process that has no other.

    Raises:
        UnavailableError: one of them ended by itself, and so the others were ended.
    """
    started = [_fork.Process(target=_worker, args=(serve, n), daemon=True) for n in range(number)]
    with daemon.stop_on_signals() as stop:
        for one in started:
            one.start()
        try:
            while not stop.wait(60, *(one.sentinel for one in started)):
                if any(not one.is_alive() for one in started):
                    raise UnavailableError("a process of the web pages ended; its log says why")
        finally:
            for one in started:
                one.terminate()
            for one in started:
                one.join(END_S)


def _worker(serve: Callable[[int], None], number: int) -> None:
    # A terminal sends Ctrl-C to all; until `serve` heeds it, only the parent does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        serve(number)
    except DatamgrError as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from error


def _end_with_parent() -> None:
    """Nobody else would end this one, if its parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
