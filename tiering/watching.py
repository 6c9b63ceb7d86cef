"""Notices at once what is removed and renamed below a managed root, by inotify.

What it misses, `reconcile` finds: nothing depends on it but that `ghi ls` and the trash are right
at once.
"""

import logging
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from watchdog.events import (
    DirMovedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from datamgr.errors import DatamgrError
from tiering import reconcile
from tiering.root import ManagedRoot

_GATHER_S = 0.3  # removals come in crowds

log = logging.getLogger(__name__)


class _Gatherer(FileSystemEventHandler):
    """Hands on what happened, and keeps the observer's thread free."""

    def __init__(self, events: "queue.SimpleQueue[FileSystemEvent | None]") -> None:
        self._events = events

    def on_any_event(self, event: FileSystemEvent) -> None:
        """As watchdog says."""
        self._events.put(event)


@contextmanager
def watched(root: ManagedRoot) -> Iterator[None]:
    """A block during which the tables follow what is removed and renamed below the root."""
    events: queue.SimpleQueue[FileSystemEvent | None] = queue.SimpleQueue()
    observer = Observer()
    observer.schedule(
        _Gatherer(events),
        str(root.settings.root),
        recursive=True,
        event_filter=[FileDeletedEvent, FileMovedEvent, DirMovedEvent],
    )
    # To watch millions of directories takes a while, in which the daemon can do its work.
    starter = threading.Thread(target=_start, args=(observer, root), daemon=True)
    follower = threading.Thread(target=_follow, args=(root, events), daemon=True)
    starter.start()
    follower.start()
    try:
        yield
    finally:
        events.put(None)
        follower.join()
        if observer.is_alive():
            observer.stop()
            observer.join()


def _start(observer: "Observer", root: ManagedRoot) -> None:  # type: ignore[valid-type]
    try:
        observer.start()  # type: ignore[attr-defined]
    except OSError as error:
        log.warning(
            "%s: removals are seen by `datamgr tier reconcile` alone, as not all directories can "
            "be watched (%s); see fs.inotify.max_user_watches",
            root.name,
            error.strerror,
        )


def _follow(root: ManagedRoot, events: "queue.SimpleQueue[FileSystemEvent | None]") -> None:
    gone: list[bytes] = []
    while True:
        try:
            event = events.get(timeout=_GATHER_S if gone else None)
        except queue.Empty:
            _apply(root, gone)
            gone = []
            continue
        if event is None:
            _apply(root, gone)
            return
        source = _relative(root, event.src_path)
        if not isinstance(event, FileMovedEvent | DirMovedEvent):
            gone.append(source)
            continue
        _apply(root, gone)
        gone = []
        target = _relative(root, event.dest_path)
        try:
            # What it was moved over is gone, if it was anything.
            reconcile.removed(root, [target])
            reconcile.renamed(root, source, target)
        except DatamgrError as error:
            log.warning("%s: a rename was not noted: %s", root.name, error)


def _apply(root: ManagedRoot, gone: list[bytes]) -> None:
    if not gone:
        return
    try:
        reconcile.removed(root, gone)
    except DatamgrError as error:
        log.warning("%s: removals were not noted: %s", root.name, error)


def _relative(root: ManagedRoot, path: bytes | str) -> bytes:
    return os.path.relpath(os.fsencode(path), os.fsencode(root.settings.root))
