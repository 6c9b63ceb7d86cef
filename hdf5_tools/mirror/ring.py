"""What was sent and is not acknowledged yet, and what is still to be sent: a bounded buffer."""

from collections import deque

from hdf5_tools.mirror import protocol
from hdf5_tools.mirror.protocol import HEADER_BYTES, Kind

MIN_BYTES = 4 * (HEADER_BYTES + protocol.MAX_PAYLOAD_BYTES)


class Ring:
    """Operations as they travel, one behind the other; the caller locks.

    Positions count bytes since the beginning: released ≤ sent ≤ filled ≤ released + capacity.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._buffer = bytearray(max(capacity_bytes, MIN_BYTES))
        self._view = memoryview(self._buffer)
        self._size = len(self._buffer)
        self._ends: deque[int] = deque()  # of the operations that are not released
        self._released = self._sent = self._filled = 0
        self.last = 0  # number of the operation that was put last
        self.acknowledged = 0

    @property
    def capacity_bytes(self) -> int:
        """What fits in, headers included."""
        return len(self._buffer)

    def has_room(self, payload_bytes: int) -> bool:
        """Whether an operation of this size fits in."""
        free = len(self._buffer) - (self._filled - self._released)
        return free >= HEADER_BYTES + payload_bytes

    def put(self, kind: Kind, offset: int, payload: bytes | memoryview = b"") -> int:
        """Number an operation and copy it; there has to be room."""
        self.last += 1
        if not self._ends:
            # From the beginning again, which the processor still has near.
            self._released = self._sent = self._filled = -(-self._filled // self._size) * self._size
        self._copy(protocol.header(kind, self.last, offset, payload))
        self._copy(payload)
        self._ends.append(self._filled)
        return self.last

    @property
    def unsent_bytes(self) -> int:
        """How much is still to be sent."""
        return self._filled - self._sent

    @property
    def is_empty(self) -> bool:
        """Whether everything was acknowledged."""
        return not self._ends

    def unsent(self) -> memoryview:
        """The next bytes to send, as far as they lie together."""
        begin = self._sent % len(self._buffer)
        return self._view[begin : begin + min(self.unsent_bytes, len(self._buffer) - begin)]

    def sent(self, count: int) -> None:
        """So many of them were sent."""
        self._sent += count

    def release(self, number: int) -> None:
        """Forget every operation up to this one: it was carried out."""
        while self.acknowledged < number and self._ends:
            self._released = self._ends.popleft()
            self.acknowledged += 1

    def rewind(self, applied: int) -> bool:
        """Send everything after operation `applied` again; whether all of it is still here."""
        if not self.acknowledged <= applied <= self.last:
            return False
        self.release(applied)
        self._sent = self._released
        return True

    def clear(self) -> None:
        """Forget every operation, sent or not."""
        self._ends.clear()
        self._released = self._sent = self._filled
        self.acknowledged = self.last

    def _copy(self, data: bytes | memoryview) -> None:
        at = self._filled % len(self._buffer)
        first = min(len(data), len(self._buffer) - at)
        self._view[at : at + first] = data[:first]
        if first < len(data):
            self._view[: len(data) - first] = data[first:]
        self._filled += len(data)
