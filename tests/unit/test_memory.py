"""The memory of answers is bounded, and forgets what was not asked for longest."""

from datamgr.api.memory import OVERHEAD_BYTES, Memory

ENTRY = b"x" * 100
ROOM = 100 + OVERHEAD_BYTES


def test_what_was_not_asked_for_longest_goes_first() -> None:
    memory: Memory[bytes] = Memory(2 * ROOM)
    memory.keep(b"1", ENTRY, len(ENTRY))
    memory.keep(b"2", ENTRY, len(ENTRY))
    assert memory.find(b"1") == ENTRY
    memory.keep(b"3", ENTRY, len(ENTRY))
    assert [memory.find(key) for key in (b"1", b"2", b"3")] == [ENTRY, None, ENTRY]


def test_the_same_key_takes_its_room_once() -> None:
    memory: Memory[bytes] = Memory(2 * ROOM)
    for _ in range(5):
        memory.keep(b"1", ENTRY, len(ENTRY))
    memory.keep(b"2", ENTRY, len(ENTRY))
    assert memory.find(b"1") == ENTRY


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    memory: Memory[bytes] = Memory(ROOM - 1)
    memory.keep(b"1", ENTRY, len(ENTRY))
    assert memory.find(b"1") is None
    memory.keep(b"2", b"", 0)
    assert memory.find(b"2") == b""
