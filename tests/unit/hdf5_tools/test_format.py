"""The parts of the parser of HDF5 files, on bytes made here."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdf5_tools.harvest.format import btree, checksum, datatype, fractal_heap, leaf, superblock
from hdf5_tools.harvest.format.source import Source, forms
from hdf5_tools.harvest.format.unparsed import OneOfSeveral, Unparsed
from hdf5_tools.lookup3 import lookup3

NO_FILE: Any = None


def source(tmp_path: Path, content: bytes) -> Source:
    path = tmp_path / "x"
    path.write_bytes(content)
    with path.open("rb") as file:
        return Source(file.fileno())


def test_the_library_makes_the_same_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [bytes(range(length)) + b"\xff" * length for length in range(64)]
    sums = [lookup3(block).to_bytes(4, "little") for block in blocks]
    for block, right in zip(blocks, sums, strict=True):
        assert checksum.verify(block + right) == block + right
    wrong = blocks[9] + bytes(4)
    with pytest.raises(Unparsed):
        checksum.verify(wrong)
    with pytest.raises(Unparsed):
        checksum.verify(b"abc")
    monkeypatch.setattr(checksum, "_checksum", checksum._python)  # where it is not exported
    assert checksum.verify(blocks[5] + sums[5])
    with pytest.raises(Unparsed):
        checksum.verify(wrong)


def test_a_source_gives_what_was_asked_for_or_nothing(tmp_path: Path) -> None:
    """Across windows, beyond what is read at once, and up to the last byte."""
    content = np.arange(200_000, dtype="<u4").tobytes()  # 800 000 bytes
    found = source(tmp_path, content)
    with (tmp_path / "x").open("rb") as file:
        found = Source(file.fileno())
        for at, length in (
            (0, 10), (262_140, 8), (294_900, 100), (300_000, 100_000), (799_999, 1), (5, 0),
        ):  # fmt: skip
            assert found.read(at, length) == content[at : at + length]
        assert found.peek(799_990, 100) == content[-10:]
        for at, length in ((799_999, 2), (1 << 63, 8), (0, 1 << 40)):
            with pytest.raises(Unparsed):
                found.read(at, length)
    with pytest.raises(Unparsed, match="overlap"):
        found.spend(1 << 50)


def test_a_superblock_is_looked_for_at_powers_of_two(tmp_path: Path) -> None:
    body = b"\x89HDF\r\n\x1a\n" + bytes((0, 0, 0, 0, 0, 8, 8, 0)) + bytes(8)
    addresses = struct.pack("<QQQQQQ", 0, 0, 5000, (1 << 64) - 1, 0, 96) + bytes(24)
    found = superblock.read(source(tmp_path, bytes(2048) + body + addresses))
    assert (found.root, found.offset, found.end) == (96, 8, 5000)
    with pytest.raises(Unparsed):
        superblock.read(source(tmp_path, bytes(1024) + b"x" + body + addresses))
    driver = struct.pack("<QQQQQQ", 0, 0, 5000, 800, 0, 96) + bytes(24)
    with pytest.raises(OneOfSeveral):
        superblock.read(source(tmp_path, body + driver))


def test_a_structure_has_the_sizes_of_the_file() -> None:
    assert forms(8, 8)["4sOL"].size == 20
    assert forms(4, 2)["4sOLol"].size == 16


@pytest.mark.parametrize("letter", "efd")
def test_floats_of_any_layout(letter: str) -> None:
    """What IEEE's are by the general way, which is for others."""
    bits, exponent, bias = {"e": (10, 5, 15), "f": (23, 8, 127), "d": (52, 11, 1023)}[letter]
    size = struct.calcsize(letter)
    decode = leaf.floats("<", 8 * size - 1, (bits, exponent), (0, bits), bias, True)
    values = [0.0, -0.0, 1.0, -2.5, 1 / 3, float("inf"), -float("inf"), 6e-8, 1e-40, 5e-324, 6e4]
    items = [np.array(value, letter).tobytes() for value in values]
    wanted = [struct.unpack(letter, item)[0] for item in items]
    assert repr(decode(NO_FILE, items)) == repr(wanted)
    assert str(decode(NO_FILE, [b"\xff" * size])[0]) in ("nan", "-nan")


def test_numbers_of_some_bits() -> None:
    """Bits 2 to 6 of 0b1010_1100: 0b01011, 11; signed with the 5th bit set: 0b10011, -13."""
    assert leaf.bits("<", False, 2, 5)(NO_FILE, [bytes([0b1010_1100])]) == [0b01011]
    assert leaf.bits(">", True, 2, 5)(NO_FILE, [bytes([0b0100_1100])]) == [0b10011 - 32]


def nested(depth: int) -> bytes:
    head = struct.pack("<BBBBI", 0x19, 0, 0, 0, 16)  # sequences of sequences of …
    return head * depth + struct.pack("<BBBBIHH", 0x10, 8, 0, 0, 4, 0, 32)


def test_types_are_not_nested_without_end() -> None:
    assert datatype.read(nested(3)).name == "vlen<vlen<vlen<int32>>>"
    with pytest.raises(Unparsed, match="nested"):
        datatype.read(nested(1000))


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<BBBBIHH", 0x10, 8, 0, 0, 4, 0, 33),  # 33 bits of 32
        struct.pack("<BBBBIHH", 0x10, 8, 0, 0, 0, 0, 0),  # of no size
        struct.pack("<BBBBI", 0x1D, 0, 0, 0, 4),  # class 13
        struct.pack("<BBBBI", 0x13, 7, 0, 0, 4),  # padding 7
        struct.pack("<BBBBI", 0x36, 0, 0, 0, 4),  # no members
    ],
)
def test_types_that_cannot_be(body: bytes) -> None:
    with pytest.raises(Unparsed):
        datatype.read(body)


def test_sizes_of_numbers_and_heap_ids() -> None:
    assert [btree.encoded_size(n) for n in (0, 1, 255, 256, 65_535, 65_536)] == [1, 1, 1, 2, 2, 3]
    shape = fractal_heap._shape(4, 512, 65_536, 40, 4096)
    assert (shape.place, shape.count_at, shape.count_mask) == (5, 48, 0xFFFF)
    assert shape.direct_rows == 9  # 512, 512, 1024 … 65 536
    with pytest.raises(Unparsed):
        fractal_heap._shape(3, 512, 65_536, 40, 4096)
