"""Headers of a tar file: blocks of 512 bytes and PAX records.

Source: POSIX.1-2017, pax, "pax Interchange Format" and "ustar Interchange Format".
"""

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from tiering.archive.store import DamagedError

BLOCK = 512
END = bytes(2 * BLOCK)
_MAX_OCTAL_7, _MAX_OCTAL_11 = 0o7777777, 0o77777777777

Records = Mapping[bytes, bytes]


class Header(NamedTuple):
    """The fields of one block; a number that does not fit is 0 here and a PAX record besides."""

    name: bytes
    type: bytes
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0
    link: bytes = b""
    user: bytes = b""
    group: bytes = b""
    device: tuple[int, int] = (0, 0)

    def encode(self) -> bytes:
        """The block with its checksum."""
        fields = (
            self.name[:100],
            _octal(self.mode, 7),
            _octal(self.uid, 7),
            _octal(self.gid, 7),
            _octal(self.size, 11),
            _octal(self.mtime_s, 11),
        )
        rest = (
            self.type,
            self.link[:100],
            b"ustar\x0000",
            self.user[:31],
            self.group[:31],
            _octal(self.device[0], 7),
            _octal(self.device[1], 7),
        )
        block = _BLOCK.pack(*fields, b" " * 8, *rest)
        return b"%s%06o\0 %s" % (block[:148], _sum(block), block[156:])


# name, mode, uid, gid, size, mtime, checksum, type, link, magic, user, group, device
_BLOCK = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s167x")


def decode(block: bytes) -> Header | None:
    """The fields of a block; None for the zeros that end an archive.

    Raises:
        DamagedError: it is no header.
    """
    if len(block) != BLOCK:
        raise DamagedError("it ends in the middle of a header")
    if not any(block):
        return None
    try:
        expected = int(block[148:156].rstrip(b"\0 "), 8)
        if _sum(block) - sum(block[148:156]) + 8 * ord(" ") != expected:
            raise DamagedError("a header has a wrong checksum")
        return Header(
            name=_text(block, 0, 100),
            type=block[156:157],
            size=_number(block, 124, 12),
            mode=_number(block, 100, 8),
            uid=_number(block, 108, 8),
            gid=_number(block, 116, 8),
            mtime_s=_number(block, 136, 12),
            link=_text(block, 157, 100),
            user=_text(block, 265, 32),
            group=_text(block, 297, 32),
            device=(_number(block, 329, 8), _number(block, 337, 8)),
        )
    except ValueError as error:
        raise DamagedError("a header has a number that is none") from error


def fits(number: int, digits: int) -> bool:
    """Whether a field of 7 or 11 octal digits holds the number."""
    return 0 <= number <= (_MAX_OCTAL_7 if digits == 7 else _MAX_OCTAL_11)


def padded(data: bytes) -> bytes:
    """The bytes, filled up with zeros to whole blocks."""
    return data + padding(len(data))


def padding(length: int) -> bytes:
    """The zeros that fill up the last block of so many bytes."""
    return bytes(-length % BLOCK)


def encode_records(records: Records) -> bytes:
    """`LENGTH KEYWORD=VALUE\\n` each, the length counting itself."""
    parts = []
    for keyword, value in records.items():
        rest = b" %s=%s\n" % (keyword, value)
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        parts.append(b"%d%s" % (length, rest))
    return b"".join(parts)


def decode_records(body: bytes) -> dict[bytes, bytes]:
    """The records of an extended header.

    Raises:
        DamagedError: they are malformed.
    """
    records = {}
    start = 0
    while start < len(body):
        blank = body.find(b" ", start, start + 20)
        try:
            end = start + int(body[start:blank])
        except ValueError as error:
            raise DamagedError("an extended header has no length") from error
        keyword, equals, value = body[blank + 1 : end].partition(b"=")
        if blank < 0 or end > len(body) or not equals or value[-1:] != b"\n":
            raise DamagedError("an extended header is malformed")
        records[keyword] = value[:-1]
        start = end
    return records


def encode_time(time_ns: int) -> bytes:
    """Seconds as a decimal number, negative before 1970."""
    seconds, rest = divmod(abs(time_ns), 10**9)
    fraction = b".%09d" % rest if rest else b""
    return b"%s%d%s" % (b"-" if time_ns < 0 else b"", seconds, fraction)


def decode_time(text: bytes) -> int:
    """The reverse of `encode_time`, in nanoseconds.

    Raises:
        DamagedError: it is no number.
    """
    try:
        whole, _, fraction = text.lstrip(b"-").partition(b".")
        size_ns = int(whole) * 10**9 + int(fraction.ljust(9, b"0")[:9])
    except ValueError as error:
        raise DamagedError(f"{text!r} is no time") from error
    return -size_ns if text.startswith(b"-") else size_ns


def _sum(block: bytes) -> int:
    """The sum of the bytes of a block, in two calls instead of one for each byte.

    The lower half of Adler-32 is the sum of bytes plus one, modulo 65521: more than 256 can reach.
    """
    half = BLOCK // 2
    return (zlib.adler32(block[:half]) & 0xFFFF) + (zlib.adler32(block[half:]) & 0xFFFF) - 2


def _octal(number: int, digits: int) -> bytes:
    return b"%0*o" % (digits, number if fits(number, digits) else 0)


def _text(block: bytes, start: int, width: int) -> bytes:
    return block[start : start + width].split(b"\0", 1)[0]


def _number(block: bytes, start: int, width: int) -> int:
    return int(block[start : start + width].strip(b"\0 ") or b"0", 8)
