"""Catching up: what differs from the local file, or is known to have changed, is sent as it is."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from datamgr.errors import InvalidError
from hdf5_tools.mirror import protocol, ranges
from hdf5_tools.mirror.protocol import Frame, Kind
from hdf5_tools.mirror.session import Session

_PASSES = 3
_COLD_S = 0.25  # since a part was last written, to be compared before the end
_AHEAD = 16  # parts, which hold what follows up for as long as they take to be hashed


class CatchUp(ABC):
    """Follows a local file, which its writer goes on changing meanwhile.

    The file has parts, numbered within each of its targets: a target is all of it, or a dataset.
    A part is marked after it was changed; one that was read while it changed is sent once more.
    Parts are compared once they have not been written for a while, and the rest at the end: both
    sides still have them in memory then.
    """

    def __init__(self) -> None:
        self._changed: set[tuple[int, int]] = set()
        self._to_compare: list[tuple[int, int, int]] = []  # target, first part, how many
        self._asked: dict[int, tuple[int, int, int, float]] = {}  # and when
        self._uncompared: dict[tuple[int, int], float] = {}  # since when, the oldest first
        self._sent: dict[tuple[int, int], bytes] = {}  # digests of parts as they were sent
        self._has_begun = True  # what has to come before any part was put
        self._differing = 0
        self._passes = 0

    @abstractmethod
    def extent(self) -> list[int]:
        """How many parts each target has now."""

    @abstractmethod
    def digest(self, target: int, part: int) -> bytes:
        """Of a part as it is; called without the lock."""

    @abstractmethod
    def read(self, target: int, part: int) -> bytes | memoryview:
        """A part as it is; called without the lock."""

    @abstractmethod
    def write(self, session: Session, target: int, part: int, data: bytes | memoryview) -> None:
        """Put operations that write a part; called with the lock."""

    @abstractmethod
    def room_bytes(self) -> int:
        """What a part takes at most."""

    @abstractmethod
    def start(self, session: Session) -> None:
        """Put what has to come before any part."""

    @abstractmethod
    def end(self, session: Session) -> None:
        """Put what makes the parts count."""

    @abstractmethod
    def close(self, session: Session) -> int:
        """Put the operation that completes the replica; its number."""

    def begin(self, said: dict[str, Any] | None) -> None:
        """Compare what was not; everything with a receiver that knew nothing of us, and said so."""
        self._differing = 0
        if said is None:
            self._to_compare += _runs(self._uncompared)
            return
        self._to_compare = [(target, 0, count) for target, count in enumerate(self.extent())]
        self._uncompared.clear()
        self._sent.clear()
        self._asked.clear()
        self._passes = 0
        self._has_begun = False

    def resumed(self, applied: int) -> None:
        """The link broke and is back: ask again what was answered to nobody."""
        for number in [number for number in self._asked if number <= applied]:
            self._to_compare.append(self._asked.pop(number)[:3])

    @property
    def uncompared(self) -> int:
        """How many parts were written since they were compared."""
        return len(self._uncompared)

    def touch(self, target: int, parts: Iterable[int]) -> None:
        """These were changed; under the lock."""
        now = time.monotonic()
        for part in parts:
            self._uncompared.pop((target, part), None)
            self._uncompared[target, part] = now
            self._sent.pop((target, part), None)

    def mark(self, target: int, parts: Iterable[int]) -> None:
        """These were changed and not sent; under the lock."""
        self._changed.update((target, part) for part in parts)

    def compare_ahead(self, session: Session) -> bool:
        """While there is nothing else to do: put a question about what was not written lately."""
        with session.lock:
            if session.is_catching_up or session.ring.unsent_bytes or self._asked:
                return False
            cold: list[tuple[int, int]] = []
            before = time.monotonic() - _COLD_S
            for key, since in self._uncompared.items():
                if since > before or len(cold) == _AHEAD:
                    break
                cold.append(key)
            if not cold or not session.ring.has_room(4 * protocol.HEADER_BYTES * len(cold)):
                return False
            for target, first, count in _runs(cold):
                self._put_question(session, target, first, count)
            return True

    def step(self, session: Session) -> bool:
        """Put a changed part, or a question; at the end, leave catching up."""
        with session.lock:
            if not session.is_catching_up or session.last_operation is not None:
                return False
            if not session.ring.has_room(self.room_bytes()):
                return False
            if not self._has_begun:
                self._has_begun = True
                self.start(session)
                return True
            if not self._changed:
                return self._ask(session) or self._leave(session)
            target, part = self._changed.pop()
        data = self.read(target, part)
        if data:
            digest = ranges.digest_of(data)
            with session.lock:
                self.write(session, target, part, data)
                self.touch(target, [part])
                # For the comparison, instead of reading it again. If it was changed meanwhile it is
                # marked, and sent again before anything is compared.
                self._sent[target, part] = digest
        return True

    def answered(self, session: Session, frame: Frame) -> None:
        """Compare the digests that came with those of the local file."""
        asked = self._asked.get(frame.number)
        if frame.kind != Kind.DIGESTED or asked is None:
            return
        target, first, count, at = asked
        theirs = list(ranges.split(frame.payload))
        own = self._own(session, target, first, count)
        equal = [i < len(theirs) and theirs[i] == own[i] for i in range(count)]
        differing = [first + i for i in range(count) if not equal[i]]
        with session.lock:
            if self._asked.pop(frame.number, None) is None:
                return
            for part in range(first, first + count):
                if equal[part - first] and self._uncompared.get((target, part), at) <= at:
                    self._uncompared.pop((target, part), None)
                    self._sent.pop((target, part), None)
            if session.is_catching_up:
                self.mark(target, differing)
                self._differing += len(differing)
            else:  # written meanwhile, as a rule; if not, the end will tell
                self.touch(target, differing)

    def _own(self, session: Session, target: int, first: int, count: int) -> list[bytes]:
        """The digests of parts of the local file."""
        parts = range(first, first + count)
        with session.lock:
            sent = [self._sent.get((target, part)) for part in parts]
        return [known or self.digest(target, part) for part, known in zip(parts, sent, strict=True)]

    def _ask(self, session: Session) -> bool:
        while self._to_compare:
            target, first, left = self._to_compare.pop()
            count = min(left, ranges.MAX_BLOCKS)
            if count:
                self._put_question(session, target, first, count)
                self._to_compare.append((target, first + count, left - count))
                return True
        return False

    def _put_question(self, session: Session, target: int, first: int, count: int) -> None:
        number = session.ring.put(Kind.DIGESTS, first, protocol.span(target, count))
        self._asked[number] = (target, first, count, time.monotonic())

    def _leave(self, session: Session) -> bool:
        """Nothing is left to send: follow again, or close."""
        if self._asked:
            return False
        self.end(session)
        if not session.is_closing:
            session.is_catching_up = False
        elif not self._differing:
            session.last_operation = self.close(session)
        elif self._passes < _PASSES:
            self._passes += 1
            self.begin(None)
        else:
            session.fail(InvalidError(f"{session.url} differs, however often it is sent"))
        return True


def _runs(keys: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Parts as target, first and how many, neighbours put together."""
    found: list[tuple[int, int, int]] = []
    for target, part in sorted(keys):
        if found and (found[-1][0], found[-1][1] + found[-1][2]) == (target, part):
            found[-1] = (target, found[-1][1], found[-1][2] + 1)
        else:
            found.append((target, part, 1))
    return found
