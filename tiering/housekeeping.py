"""What a daemon does by itself: follow what happens on disk, and look after the archive."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from datamgr.daemon import Stop
from datamgr.errors import DatamgrError
from tiering import upkeep, watching
from tiering.questions import Action
from tiering.request import Request
from tiering.root import ManagedRoot, Report

EXPIRE_EVERY_S = 3600.0
RECONCILE_EVERY_S = 86_400.0
SCRUB_EVERY_S = 86_400.0

log = logging.getLogger(__name__)


class _Stopped(BaseException):
    """The daemon is to stop; no Exception, so that no work takes it for a failure of its own."""


@contextmanager
def running(roots: Mapping[str, ManagedRoot], stop: Stop) -> Iterator[None]:
    """A block during which removals are noticed, and the archive is looked after."""
    with ExitStack() as stack:
        threads = []
        for root in roots.values():
            stack.enter_context(watching.watched(root))
            for every_s, work in (
                (EXPIRE_EVERY_S, _expire),
                (RECONCILE_EVERY_S, _reconcile),
                (SCRUB_EVERY_S, _scrub),
            ):
                threads.append(threading.Thread(target=_repeat, args=(root, stop, every_s, work)))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _repeat(
    root: ManagedRoot, stop: Stop, every_s: float, work: Callable[[ManagedRoot, Report], str]
) -> None:
    def watch() -> None:
        if stop.is_set():
            raise _Stopped

    next_at = time.monotonic()
    while not stop.wait(max(0.0, next_at - time.monotonic())):
        next_at = time.monotonic() + every_s
        report = Report(watch=watch)
        try:
            log.info("%s: %s", root.name, work(root, report))
        except _Stopped:
            return
        except DatamgrError as error:
            log.warning("%s: upkeep failed and is tried again: %s", root.name, error)
        for failure in report.failures:
            log.error("%s: %s: %s", root.name, os.fsdecode(failure.path), failure.reason)


def _expire(root: ManagedRoot, report: Report) -> str:
    return f"{upkeep.expired(root, report)['freed']} containers were freed"


def _reconcile(root: ManagedRoot, report: Report) -> str:
    told = upkeep.reconciled(root, report)
    return "{seen} files, {renamed} renamed, {removed} removed, {returned} back".format(**told)


def _scrub(root: ManagedRoot, report: Report) -> str:
    """The containers that were not read for long, at a rate at which other work goes on."""
    tier = root.settings
    if not tier.scrub_days:
        return "the archive is not read again (scrub_days is 0)"
    request = Request(
        root=root.name,
        action=Action.SCRUB,
        older_than_s=int(tier.scrub_days * 86_400),
        bytes_per_s=tier.scrub_bytes_per_s,
        repair=True,
    )
    told = upkeep.scrubbed(root, request, report)
    return f"{told['containers']} containers were read again, {len(told['damaged'])} damaged"
