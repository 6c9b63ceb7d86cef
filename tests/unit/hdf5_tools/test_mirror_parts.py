"""The parts of mirrors that need no receiver: frames, the buffer, the journal, names."""

import contextlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamgr.errors import DatamgrError, ForbiddenError, InvalidError
from hdf5_tools.mirror import auth, place, protocol, ranges, undo
from hdf5_tools.mirror.address import Address, Url
from hdf5_tools.mirror.protocol import BrokenFrameError, Kind, Reader
from hdf5_tools.mirror.ring import Ring


class Pieces:
    """A socket that delivers bytes in pieces of chosen lengths."""

    def __init__(self, data: bytes, chance: random.Random) -> None:
        self._data = data
        self._chance = chance

    def recv_into(self, buffer: memoryview) -> int:
        count = min(len(buffer), self._chance.randint(1, 3000), len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        return count


payloads = st.lists(st.binary(max_size=2000), max_size=20)


@given(payloads, st.randoms(use_true_random=False))
def test_frames_arrive_as_they_were_sent(sent: list[bytes], chance: random.Random) -> None:
    data = b"".join(protocol.frame(Kind.WRITE, i, 7 * i, p) for i, p in enumerate(sent))
    reader, socket, got = Reader(9000), Pieces(data, chance), []
    while reader.fill(socket):
        got += [(f.kind, f.number, f.offset, bytes(f.payload)) for f in reader.frames()]
    assert got == [(Kind.WRITE, i, 7 * i, p) for i, p in enumerate(sent)]


@given(st.binary(max_size=300), st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(payload: bytes, place: int, change: int) -> None:
    data = bytearray(protocol.frame(Kind.WRITE, 3, 5, payload))
    data[place % len(data)] ^= change
    reader = Reader()
    reader.fill(Pieces(bytes(data), random.Random(1)))
    reader.fill(Pieces(bytes(data), random.Random(1)))
    try:
        got = list(reader.frames())
    except BrokenFrameError:
        return
    assert got == []  # it waits for the length that the changed header has


@given(st.binary(max_size=5000))
def test_garbage_is_no_frame(data: bytes) -> None:
    reader = Reader()
    if data and reader.fill(Pieces(data, random.Random(2))):
        with contextlib.suppress(BrokenFrameError):
            assert list(reader.frames()) == []


def test_frames_have_a_limit() -> None:
    reader = Reader()
    frame = protocol.frame(Kind.HELLO, payload=bytes(protocol.MAX_GREETING_BYTES + 1))
    reader.fill(Pieces(frame, random.Random(3)))
    with pytest.raises(BrokenFrameError, match="may come"):
        list(reader.frames())


@given(st.binary(min_size=1, max_size=50), st.integers(0, 1000))
def test_pieces_are_the_chunk(data: bytes, target: int) -> None:
    pieces = [protocol.read_piece(memoryview(p)) for p in protocol.pieces(target, data)]
    assert b"".join(p[3] for p in pieces) == data
    assert {p[0] for p in pieces} == {target}
    assert (pieces[0][1], pieces[-1][2]) == (True, True)


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_ring_delivers_each_operation_in_its_order(chance: random.Random) -> None:
    """Puts, sends, acknowledgements and rewinds in any order, and what arrives by them."""
    ring, model, arrived, applied = Ring(0), [], bytearray(), 0
    for _ in range(200):
        what = chance.random()
        if what < 0.4:
            payload = bytes([chance.randrange(256)]) * chance.choice([0, 10, 5000, 1 << 20])
            if ring.has_room(len(payload)):
                number = ring.put(Kind.WRITE, len(model), payload)
                assert number == len(model) + 1
                model.append(protocol.frame(Kind.WRITE, number, number - 1, payload))
        elif what < 0.8:
            view = ring.unsent()
            count = chance.randint(0, len(view))
            arrived += view[:count]
            ring.sent(count)
        else:
            while applied < len(model) and len(arrived) >= len(model[applied]):
                assert bytes(arrived[: len(model[applied])]) == model[applied]
                del arrived[: len(model[applied])]
                applied += 1
            if chance.random() < 0.5:
                ring.release(applied)
            else:  # the link broke: what was not applied comes once more
                assert ring.rewind(applied)
                arrived.clear()
    assert not ring.rewind(ring.acknowledged - 1)
    assert not ring.rewind(ring.last + 1)


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_journal_leads_back_to_the_last_commit(chance: random.Random) -> None:
    """From any moment, also from one in the middle of saving."""
    replica, journal = (os.memfd_create(name) for name in ("replica", "journal"))
    kept = undo.Journal(journal, replica, b"name", bytes(16))
    committed = b""
    for _ in range(chance.randrange(30)):
        what, at = chance.random(), chance.randrange(50_000)
        if what < 0.6:
            data = bytes([chance.randrange(256)]) * chance.randrange(20_000)
            kept.before_write(at, at + len(data))
            undo.write_all(replica, data, at)
        elif what < 0.8:
            kept.before_write(at, os.fstat(replica).st_size)
            os.ftruncate(replica, at)
        else:
            kept.commit()
            committed = os.pread(replica, 1 << 20, 0)
    if chance.random() < 0.5:  # killed while it saved what it has not overwritten yet
        os.pwrite(journal, os.urandom(chance.randrange(50)), os.fstat(journal).st_size)
    undo.undo(journal, replica)
    undo.undo(journal, replica)
    assert os.pread(replica, 1 << 20, 0) == committed
    assert undo.read_head(journal) == kept.head
    os.close(replica)
    kept.close()


def test_names() -> None:
    for name in (b"a.h5", b"a/b/c.h5", b"\xff\n", b"..a", b"x" * 220):
        place.check_name(name)
    for name in (b"", b".", b"a/", b"x" * 221, b"\0", b"a/" * 600 + b"b"):
        with pytest.raises(InvalidError):
            place.check_name(name)
    for name in (b"..", b"/a", b"a/../b", b".h5mirror/x", b"a.incomplete", b"a.incomplete-1"):
        with pytest.raises(ForbiddenError):
            place.check_name(name)


def test_addresses() -> None:
    assert Address.parse("[::1]:80") == Address("::1", 80)
    assert str(Address.parse("[::1]:80")) == "[::1]:80"
    assert Address.parse("unix:/a:b") == Address(path="/a:b")
    assert Url.parse("h5ms://h:1/a/b%20c") == Url(Address("h", 1), b"a/b c", tls=True)
    for text in ("h5m://h:1/a%ff.h5", "h5ms://[::1]:1/a/b", "h5m+unix:/run/x?a.h5"):
        assert str(Url.parse(text)).lower() == text
    for wrong in ("", "a", "a:b", "a:1:", ":1", "unix:", "a:65536", "a:²"):
        with pytest.raises(InvalidError):
            Address.parse(wrong)
    for wrong in ("", "h5m://a/b", "http://a:1/b", "h5m://a:1", "h5m://a:1/b?c", "h5m://[a:1/b"):
        with pytest.raises(InvalidError):
            Url.parse(wrong)


def test_tokens(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for content, mode in ((b"short", 0o600), (b"x" * 32, 0o604)):
        path.write_bytes(content)
        path.chmod(mode)
        with pytest.raises(DatamgrError):
            auth.read_token(path)
    with pytest.raises(DatamgrError, match="no file"):
        auth.read_token(tmp_path / "none")
    proof = auth.prove(b"token", b"writer", b"nonce", b"binding", b"said")
    assert auth.is_proof(proof, b"token", b"writer", b"nonce", b"binding", b"said")
    for changed in (b"nonce2", b"binding2"):
        assert not auth.is_proof(proof, b"token", b"writer", changed, b"binding", b"said")


def test_ranges_are_put_together() -> None:
    mebi = ranges.BLOCK_BYTES
    assert ranges.merged([0, 1, 3], 3 * mebi + 5) == [(0, 2 * mebi), (3 * mebi, 3 * mebi + 5)]
    assert ranges.blocks_of(0) == 0
    assert ranges.blocks_of(mebi + 1) == 2
