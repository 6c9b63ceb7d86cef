"""Patterns of names as shells know them, exact on bytes."""

import re

from datamgr.errors import InvalidError

# A bracket that opens a class closes it only after its first member.
_CLASS = re.compile(rb"\[([!^]?+)(\][^\]]*+|[^\]]++)\]")


def to_regex(glob: bytes) -> bytes:
    r"""The expression, for RE2 on bytes, that matches exactly the names that `glob` matches.

    `*` stands for any bytes, `?` for one, `[a-z]` and `[!a-z]` for one of these or another, and a
    backslash takes their meaning away. No byte is special, neither `/` nor a leading dot nor what
    is no UTF-8; a letter beyond ASCII has more than one byte.
    Source: fnmatch(3) without flags, in the locale C.

    Raises:
        InvalidError: a backslash stands at the end, or a range goes backwards.
    """
    parts = [rb"(?s)\A"]
    position = 0
    while position < len(glob):
        byte = glob[position : position + 1]
        position += 1
        if byte == b"*":
            parts.append(b".*")
        elif byte == b"?":
            parts.append(b".")
        elif byte == b"[" and (match := _CLASS.match(glob, position - 1)):
            parts.append(_class(match[1] != b"", match[2]))
            position = match.end()
        elif byte == b"\\":
            if position == len(glob):
                raise InvalidError("a pattern ends with a backslash; write two of them for one")
            parts.append(_byte(glob[position]))
            position += 1
        else:
            parts.append(_byte(byte[0]))
    return b"".join([*parts, rb"\z"])


def _class(negated: bool, members: bytes) -> bytes:
    ranges = []
    position = 0
    while position < len(members):
        first = last = members[position]
        position += 1
        if members[position : position + 1] == b"-" and position + 1 < len(members):
            last = members[position + 1]
            position += 2
        if last < first:
            raise InvalidError("a range in a pattern goes backwards, such as [z-a]")
        ranges.append(_byte(first) + b"-" + _byte(last))
    return b"[" + (b"^" if negated else b"") + b"".join(ranges) + b"]"


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value
