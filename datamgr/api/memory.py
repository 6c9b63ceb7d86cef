"""Answers that were made already, in a bounded memory of one process."""

import threading
from collections import OrderedDict

Key = bytes
# What an entry takes beside its text.
OVERHEAD_BYTES = 500


class Memory:
    """The answers that were asked for last, in at most `limit_bytes`; 0 remembers nothing.

    It knows nothing of who may see what: that is for the keys to tell apart.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._answers: OrderedDict[Key, bytes] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def find(self, key: Key) -> bytes | None:
        """The answer of this key, which counts as asked for now."""
        with self._lock:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
            return answer

    def keep(self, key: Key, answer: bytes) -> None:
        """Remember an answer, and forget those that were not asked for longest."""
        with self._lock:
            self._forget(key)
            self._answers[key] = answer
            self._size_bytes += len(answer) + OVERHEAD_BYTES
            while self._size_bytes > self._limit_bytes:
                self._forget(next(iter(self._answers)))

    def _forget(self, key: Key) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._size_bytes -= len(answer) + OVERHEAD_BYTES
