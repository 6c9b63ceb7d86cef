"""Values of single types: numbers, texts, enumerations, references.

Each function makes a decoder: of the bytes of several values to the values as records hold them.
Source: HDF5 File Format Specification, section IV.A.2.d "The Datatype Message".
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Literal

from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.unparsed import Unparsed
from hdf5_tools.harvest.records import Value

Decode = Callable[[File, Sequence[bytes]], list[Value]]
Order = Literal["<", ">"]  # as in `struct`

NULL_TERMINATED, NULL_PADDED, SPACE_PADDED = range(3)
_INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}
_MAX_EXPONENT_BITS, MAX_MANTISSA_BITS = 15, 64  # of the largest that h5py reads, x87's
# A sequence of variable length: elements, collection of the global heap, object in it.
SEQUENCE = "IOI"
_MAX_POWER = 2000  # beyond, nothing is left in double precision


def split(data: bytes, size: int) -> list[bytes]:
    """Parts of a size, one after the other."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def integer_letter(order: Order, size: int, signed: bool) -> str:
    """What `struct` calls an integer that fills its bytes."""
    letter = _INTEGERS[size]
    return order + (letter if signed else letter.upper())


def numbers(letter: str) -> Decode:
    """Numbers that `struct` knows."""
    order, kind = letter[0], letter[1]

    def decode(file: File, items: Sequence[bytes]) -> list[Value]:
        return list(struct.unpack(f"{order}{len(items)}{kind}", b"".join(items)))

    return decode


def bits(order: Order, signed: bool, offset: int, precision: int) -> Decode:
    """Integers that take only some of their bits."""
    byteorder = _byteorder(order)
    mask, sign = (1 << precision) - 1, 1 << (precision - 1)

    def decode(file: File, items: Sequence[bytes]) -> list[Value]:
        raw = [int.from_bytes(item, byteorder) >> offset & mask for item in items]
        return [(n ^ sign) - sign for n in raw] if signed else list(raw)

    return decode


def floats(order: Order, sign: int, exponent: tuple[int, int], mantissa: tuple[int, int],
           bias: int, has_hidden_bit: bool) -> Decode:  # fmt: skip
    """Floating point numbers of any layout, rounded to double precision.

    `sign`: its bit; `exponent`, `mantissa`: first bit and number of bits.

    Raises:
        Unparsed: larger than any that h5py reads.
    """
    byteorder = _byteorder(order)
    if not 0 < exponent[1] <= _MAX_EXPONENT_BITS or not 0 < mantissa[1] <= MAX_MANTISSA_BITS:
        raise Unparsed("a floating point number of an unknown layout")
    largest = (1 << exponent[1]) - 1
    mask = (1 << mantissa[1]) - 1
    fraction = mask if has_hidden_bit else mask >> 1
    shift = bias + mantissa[1] - (not has_hidden_bit)

    def one(item: bytes) -> float:
        raw = int.from_bytes(item, byteorder)
        power, number = raw >> exponent[0] & largest, raw >> mantissa[0] & mask
        if power == largest:
            value = math.nan if number & fraction else math.inf
        else:
            if power and has_hidden_bit:
                number |= 1 << mantissa[1]
            value = _scaled(number, max(power, 1) - shift)
        return -value if raw >> sign & 1 else value

    return lambda file, items: [one(item) for item in items]


def _scaled(number: int, power: int) -> float:
    """number × 2**power, rounded once."""
    if not -_MAX_POWER < power < _MAX_POWER:
        return 0.0 if power < 0 or not number else math.inf
    try:
        return float(number << power) if power >= 0 else number / (1 << -power)
    except OverflowError:
        return math.inf


def fixed_text(padding: int) -> Decode:
    """Texts of a fixed size, without what fills them up.

    Raises:
        Unparsed: unknown padding.
    """
    if padding == NULL_TERMINATED:
        return lambda file, items: [item.split(b"\0", 1)[0] for item in items]
    if padding == NULL_PADDED:
        return lambda file, items: [item.rstrip(b"\0") for item in items]
    if padding == SPACE_PADDED:
        return lambda file, items: [item.rstrip(b" ").rstrip(b"\0") for item in items]
    raise Unparsed("a text with unknown padding")


def sequence(file: File, item: bytes, size: int) -> bytes:
    """The bytes of a sequence of variable length, whose elements have a size."""
    count, address, index = file.forms[SEQUENCE].unpack(item)
    if not count or not address or address == file.nowhere:
        return b""
    data = file.global_heap[address][index]
    file.source.spend(len(data))
    if count * size > len(data):
        raise Unparsed("a sequence is longer than its place in the heap")
    return data[: count * size]


def variable_text(file: File, items: Sequence[bytes]) -> list[Value]:
    """Texts of variable length."""
    return [sequence(file, item, 1).split(b"\0", 1)[0] for item in items]


def one_text(file: File, place: tuple[int, int, int]) -> tuple[bytes]:
    """Like `variable_text` of one text: its length, and where in the global heap it is."""
    count, address, index = place
    if not count or not address or address == file.nowhere:
        return (b"",)
    data = file.global_heap[address][index]
    if count != len(data):
        if count > len(data):
            raise Unparsed("a text is longer than its place in the heap")
        data = data[:count]
    file.source.left -= count
    return (data if 0 not in data else data[: data.index(0)],)


def raw(file: File, items: Sequence[bytes]) -> list[Value]:
    """Bytes that nobody knows the meaning of."""
    return list(items)


def nothing(file: File, items: Sequence[bytes]) -> list[Value]:
    """For types whose values are not harvested."""
    return []


def named(decode: Decode, names: dict[Value, bytes]) -> Decode:
    """Enumerated values: their names; numbers that have none."""
    return lambda file, items: [names.get(value, value) for value in decode(file, items)]


def truth(decode: Decode) -> Decode:
    """0 and 1."""
    return lambda file, items: [int(value != 0) for value in decode(file, items)]


def object_paths(file: File, items: Sequence[bytes]) -> list[Value]:
    """The paths under which the objects are listed that references mean; empty without one."""
    unpack = file.forms["O"].unpack_from
    return [file.paths.get(unpack(item)[0], b"") if any(item) else b"" for item in items]


def _byteorder(order: Order) -> Literal["big", "little"]:
    return "big" if order == ">" else "little"
