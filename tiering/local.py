"""The work of the daemon in this process, for somebody who owns the root and starts no daemon."""

import json
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from datamgr import db
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.errors import UnavailableError
from tiering import client, engine


class Local:
    """This process itself, for roots that nobody else works on."""

    is_daemon = False

    def __init__(self, running: engine.Engine) -> None:
        self._engine = running
        self._service = running.service

    def ask(self, do: str, **question: Any) -> Any:
        """As `Client.ask`."""
        if self._engine.failed:
            raise UnavailableError(f"the work has stopped: {self._engine.failed[0]}")
        line = json.dumps({"do": do, **question}).encode()
        return client.answer_of(self._service.answer(os.getuid(), line))

    def working(self) -> ExitStack:
        """Carry requests out in threads of this process."""
        stack = ExitStack()
        # One of its own each time: it is set when the threads are to end.
        stop = Stop()
        stack.callback(stop.close)
        stack.enter_context(self._engine.working(1, stop))
        return stack


@contextmanager
def own(settings: Settings, names: Collection[str]) -> Iterator[Local]:
    """Whoever answers for these roots: this process.

    Raises:
        ConflictError: another process works on one.
    """
    with ExitStack() as stack:
        database = stack.enter_context(db.open_database(settings))
        running = stack.enter_context(engine.running(settings, database, names))
        yield Local(running)
