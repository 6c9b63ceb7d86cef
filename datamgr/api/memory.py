"""Answers that were made already, in a bounded memory of one process."""

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Key = bytes
Answer = TypeVar("Answer")
# What an entry takes beside its text.
OVERHEAD_BYTES = 1000


class Memory(Generic[Answer]):
    """The answers that were asked for last, in at most `limit_bytes`; 0 remembers nothing.

    It knows nothing of who may see what: that is for the keys to tell apart.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._answers: OrderedDict[Key, tuple[Answer, int]] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def find(self, key: Key) -> Answer | None:
        """The answer of this key, which counts as asked for now."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                return None
            self._answers.move_to_end(key)
            return found[0]

    def keep(self, key: Key, answer: Answer, size_bytes: int) -> None:
        """Remember an answer of this size, and forget those that were not asked for longest."""
        with self._lock:
            self._forget(key)
            self._answers[key] = answer, size_bytes + OVERHEAD_BYTES
            self._size_bytes += size_bytes + OVERHEAD_BYTES
            while self._size_bytes > self._limit_bytes:
                self._forget(next(iter(self._answers)))

    def _forget(self, key: Key) -> None:
        forgotten = self._answers.pop(key, None)
        if forgotten is not None:
            self._size_bytes -= forgotten[1]
