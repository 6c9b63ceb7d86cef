"""How often a client may try something."""

import threading
import time
from collections import OrderedDict, deque

MAX_CLIENTS = 10_000


class RateLimit:
    """At most `number` tries of one client in any `span_s` seconds; safe to ask from threads."""

    def __init__(self, number: int, span_s: float) -> None:
        self._number = number
        self._span_s = span_s
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()
        self._mutex = threading.Lock()

    def admits(self, client: str, now: float | None = None) -> bool:
        """Whether this try may be made; one that may not does not count."""
        now = time.monotonic() if now is None else now
        with self._mutex:
            tries = self._tries.setdefault(client, deque())
            self._tries.move_to_end(client)
            # Those who tried longest ago are forgotten: memory is bounded, whoever asks.
            while len(self._tries) > MAX_CLIENTS:
                self._tries.popitem(last=False)
            while tries and tries[0] <= now - self._span_s:
                tries.popleft()
            if len(tries) >= self._number:
                return False
            tries.append(now)
            return True
