"""Managed roots at work: opened, recovered, and requests for them carried out in threads."""

import logging
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from datamgr import daemon
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.db import Database
from datamgr.worker import Worker
from tiering import carry_out, recovery
from tiering.requests import KIND
from tiering.root import ManagedRoot, open_root
from tiering.service import Service

# A crash costs a request nothing but time, so it is given up late.
MAX_ATTEMPTS = 100

log = logging.getLogger(__name__)


@dataclass
class Engine:
    """The only process at work on some roots."""

    settings: Settings
    database: Database
    roots: Mapping[str, ManagedRoot]
    failed: list[BaseException] = field(default_factory=list)

    @property
    def service(self) -> Service:
        """What answers questions about the roots."""
        return Service(self.settings, self.database, self.roots)

    @contextmanager
    def working(self, number: int, stop: Stop) -> Iterator[None]:
        """A block during which so many threads carry out requests; `stop` is set at its end."""
        threads = [
            threading.Thread(target=self._work, args=(stop,), name=f"tier-{n}")
            for n in range(number)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _work(self, stop: Stop) -> None:
        handler = partial(carry_out.run, roots=self.roots)
        worker = _Worker(
            self.settings,
            self.database,
            [KIND],
            {KIND: handler},
            max_attempts=MAX_ATTEMPTS,
            fair=True,
        )
        worker.roots = self.roots
        try:
            daemon.run_daemon(worker.step, stop)
        except BaseException as error:
            log.exception("a thread that carries out requests ended")
            self.failed.append(error)
            stop.set()
        finally:
            worker.close()


class _Worker(Worker):
    """A worker that takes nothing on unless the roots are still its process' own."""

    roots: Mapping[str, ManagedRoot]

    def run_one(self, stop: Stop) -> bool:
        """As any worker.

        Raises:
            ConflictError: another process has taken a root, after the database was away.
        """
        for root in self.roots.values():
            root.hold()
        return super().run_one(stop)


@contextmanager
def running(settings: Settings, database: Database, names: Collection[str]) -> Iterator[Engine]:
    """The roots of these names, recovered from what a process before left unfinished.

    Raises:
        NotFoundError: there is no such root, or its directory or archive is not there.
        ConflictError: another process works on one.
        UnavailableError: a file system cannot be used for tiering.
    """
    with ExitStack() as stack:
        roots = {name: stack.enter_context(open_root(settings, database, name)) for name in names}
        for root in roots.values():
            report = recovery.recover(root)
            for failure in report.failures:
                log.warning("%s: %s", os.fsdecode(failure.path), failure.reason)
            if report.done:
                log.info("%s: resolved %d unfinished operations", root.name, report.done)
        yield Engine(settings, database, roots)
