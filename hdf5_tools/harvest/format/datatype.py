"""Types: what they are called, and what bytes of them stand for.

Source: HDF5 File Format Specification, section IV.A.2.d "The Datatype Message".
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hdf5_tools.harvest.format import leaf
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.unparsed import Unparsed
from hdf5_tools.harvest.records import Value

# A part of a value: what is added to the attribute's name, its type, its values.
Part = tuple[bytes, str, list[Value]]


@dataclass(frozen=True, slots=True)
class Datatype:
    """`name`: as in records. `size`: bytes of a value. `is_readable`: h5py makes values of it.

    `decode`: values of the bytes of several. `letter`: for `struct`, where it knows such values.
    """

    name: str
    size: int
    is_readable: bool
    decode: leaf.Decode = leaf.nothing
    letter: str | None = None

    @property
    def is_immediate(self) -> bool:
        """Whether values have one part, and are known before all objects have paths."""
        return self.decode is not leaf.object_paths

    def parts(self, file: File, items: list[bytes] | None) -> Iterator[Part]:
        """The parts of values; without any, of `None`.

        Raises:
            Unparsed: damage.
        """
        yield b"", self.name, [] if items is None else self.decode(file, items)


@dataclass(frozen=True, slots=True)
class Compound(Datatype):
    """`members`: name, position, type."""

    members: tuple[tuple[bytes, int, Datatype], ...] = ()

    @property
    def is_immediate(self) -> bool:
        """It has a part for each member."""
        return False

    def parts(self, file: File, items: list[bytes] | None) -> Iterator[Part]:
        """Those of the members follow."""
        yield b"", self.name, []
        for name, at, member in self.members:
            end = at + member.size
            inner = None if items is None else [item[at:end] for item in items]
            for suffix, of, values in member.parts(file, inner):
                yield b"." + name + suffix, of, values


@dataclass(frozen=True, slots=True)
class Several(Datatype):
    """An array (`count` elements), or a sequence of variable length (`None`)."""

    base: Datatype = Datatype("", 0, False)
    count: int | None = None

    @property
    def is_immediate(self) -> bool:
        """Its elements may not be."""
        return False

    def parts(self, file: File, items: list[bytes] | None) -> Iterator[Part]:
        """Those of all elements together."""
        inner = None if items is None else list(self._elements(file, items))
        for suffix, of, values in self.base.parts(file, inner):
            yield suffix, of if suffix else self.name, values

    def _elements(self, file: File, items: list[bytes]) -> Iterator[bytes]:
        size = self.base.size
        for item in items:
            whole = leaf.sequence(file, item, size) if self.count is None else item
            yield from leaf.split(whole, size)


_HEAD = struct.Struct("<BBBBI")
_BITS = struct.Struct("<HH")
_FLOAT = struct.Struct("<HHBBBBI")
_MAX_DEPTH = 32
_ORDERS: tuple[leaf.Order, leaf.Order] = ("<", ">")
_IEEE = {  # size: precision, sign, exponent, mantissa, bias
    2: ("e", 16, 15, (10, 5), (0, 10), 15),
    4: ("f", 32, 31, (23, 8), (0, 23), 127),
    8: ("d", 64, 63, (52, 11), (0, 52), 1023),
}


@dataclass(slots=True)
class _Message:
    """A datatype message that is read from front to back. `flags`: its three bytes of bits."""

    body: bytes
    at: int = 0
    depth: int = 0

    def take(self, form: struct.Struct) -> tuple[int, ...]:
        values = form.unpack_from(self.body, self.at)
        self.at += form.size
        return values

    def name(self, is_padded: bool) -> bytes:
        """A text that ends with NUL, and maybe fills multiples of 8 bytes."""
        end = self.body.index(0, self.at)
        found = self.body[self.at : end]
        length = end + 1 - self.at
        self.at += (length + 7) & ~7 if is_padded else length
        return found


def read(body: bytes) -> Datatype:
    """The type of a message.

    Raises:
        Unparsed: damage, a type that this module does not know.
    """
    return _read(_Message(body))


def _read(message: _Message) -> Datatype:
    head, low, middle, _, size = message.take(_HEAD)
    number, version = head & 0x0F, head >> 4
    message.depth += 1
    if not 1 <= version <= 5 or number not in _READERS or not size:
        raise Unparsed("an unknown datatype")
    if message.depth > _MAX_DEPTH:
        raise Unparsed("a datatype is nested too deeply")
    found = _READERS[number](message, version, low | middle << 8, size)
    message.depth -= 1
    return found


def _integer(message: _Message, version: int, flags: int, size: int) -> Datatype:
    signed = bool(flags & 8)
    return _whole(message, flags, size, signed, "int" if signed else "uint")


def _bitfield(message: _Message, version: int, flags: int, size: int) -> Datatype:
    return _whole(message, flags, size, False, "bitfield")


def _whole(message: _Message, flags: int, size: int, signed: bool, kind: str) -> Datatype:
    offset, precision = message.take(_BITS)
    name, order = f"{kind}{8 * size}", _ORDERS[flags & 1]
    if not 4 * size <= precision <= 8 * size - offset:
        raise Unparsed("an integer of more or fewer bits than is plausible")
    if size not in (1, 2, 4, 8):
        return Datatype(name, size, False)
    if precision < 8 * size:
        return Datatype(name, size, True, leaf.bits(order, signed, offset, precision))
    letter = leaf.integer_letter(order, size, signed)
    return Datatype(name, size, True, leaf.numbers(letter), letter)


def _float(message: _Message, version: int, flags: int, size: int) -> Datatype:
    offset, precision, exponent, exponent_bits, mantissa, bits, bias = message.take(_FLOAT)
    order, sign = _ORDERS[flags & 1], flags >> 8
    normalised = flags >> 4 & 3
    places = sign, (exponent, exponent_bits), (mantissa, bits), bias
    name = f"float{8 * size}"
    if flags & 0x40 or normalised == 1 or offset:
        raise Unparsed("a floating point number of an unknown layout")
    if size in _IEEE and normalised == 2 and (precision, *places) == _IEEE[size][1:]:
        letter = order + _IEEE[size][0]
        return Datatype(name, size, True, leaf.numbers(letter), letter)
    if max(sign + 1, exponent + exponent_bits, mantissa + bits) > min(precision, 8 * size):
        raise Unparsed("a floating point number of more bits than it has")
    if bits > leaf.MAX_MANTISSA_BITS:
        return Datatype(name, size, False)
    return Datatype(name, size, True, leaf.floats(order, *places, normalised == 2))


def _time(message: _Message, version: int, flags: int, size: int) -> Datatype:
    message.at += 2
    return Datatype("time", size, False)


def _text(message: _Message, version: int, flags: int, size: int) -> Datatype:
    return Datatype("string", size, True, leaf.fixed_text(flags & 0x0F))


def _opaque(message: _Message, version: int, flags: int, size: int) -> Datatype:
    message.at += flags & 0xFF
    return Datatype("opaque", size, True, leaf.raw)


def _compound(message: _Message, version: int, flags: int, size: int) -> Datatype:
    width = (size.bit_length() - 1) // 8 + 1
    members = []
    for _ in range(flags):
        name = message.name(version < 3)
        if version < 3:
            at = message.take(_OFFSET)[0]
        else:
            at = int.from_bytes(message.body[message.at : message.at + width], "little")
            message.at += width
        dimensions: tuple[int, ...] = ()
        if version == 1:
            rank, *extents = message.take(_DIMENSIONS)
            dimensions = tuple(extents[:rank])
        member = _read(message)
        if dimensions:
            member = _array_of(member, dimensions)
        if at + member.size > size:
            raise Unparsed("a member lies outside of its compound")
        members.append((name, at, member))
    if not members:
        raise Unparsed("a compound has no members")
    shown = ", ".join(f"{name.decode(errors='replace')}: {m.name}" for name, _, m in members)
    is_readable = all(member.is_readable and _is_utf8(name) for name, _, member in members)
    return Compound(f"compound{{{shown}}}", size, is_readable, members=tuple(members))


_OFFSET = struct.Struct("<I")
_DIMENSIONS = struct.Struct("<B3x4x4x4I")


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reference(message: _Message, version: int, flags: int, size: int) -> Datatype:
    if flags & 0x0F == 0:
        return Datatype("reference", size, True, leaf.object_paths)
    return Datatype("region", size, flags & 0x0F == 1)


def _enumeration(message: _Message, version: int, flags: int, size: int) -> Datatype:
    base = _read(message)
    if base.letter is None or base.size != size:
        raise Unparsed("an enumeration of something odd")
    names = [message.name(version < 3) for _ in range(flags)]
    values = struct.unpack_from(
        f"{base.letter[0]}{flags}{base.letter[1]}", message.body, message.at
    )
    message.at += flags * size
    members = dict(zip(names, values, strict=True))
    if members == {b"FALSE": 0, b"TRUE": 1}:
        return Datatype("bool", size, True, leaf.truth(base.decode))
    by_value = dict(zip(reversed(values), reversed(names), strict=True))
    if any(value >= 1 << 63 for value in values):
        raise Unparsed("an enumeration of numbers that h5py cannot hold")
    return Datatype("enum", size, True, leaf.named(base.decode, by_value))


def _variable(message: _Message, version: int, flags: int, size: int) -> Datatype:
    base = _read(message)
    if flags & 0x0F == 1:
        return Datatype("string", size, True, leaf.variable_text)
    return Several(f"vlen<{base.name}>", size, base.is_readable, base=base)


def _array(message: _Message, version: int, flags: int, size: int) -> Datatype:
    rank = message.body[message.at]
    message.at += 1 if version >= 3 else 4
    dimensions = message.take(struct.Struct(f"<{rank}I"))
    if version < 3:
        message.at += 4 * rank
    found = _array_of(_read(message), dimensions)
    if found.size != size:
        raise Unparsed("an array of another size than its elements have")
    return found


def _array_of(base: Datatype, dimensions: tuple[int, ...]) -> Datatype:
    count = math.prod(dimensions)
    if not count:
        raise Unparsed("an array without elements")
    name = f"{base.name}[{','.join(map(str, dimensions))}]"
    return Several(name, count * base.size, base.is_readable, base=base, count=count)


def _complex(message: _Message, version: int, flags: int, size: int) -> Datatype:
    _read(message)
    return Datatype("other", size, True)


_READERS: dict[int, Callable[[_Message, int, int, int], Datatype]] = {
    0: _integer, 1: _float, 2: _time, 3: _text, 4: _bitfield, 5: _opaque, 6: _compound,
    7: _reference, 8: _enumeration, 9: _variable, 10: _array, 11: _complex,
}  # fmt: skip
