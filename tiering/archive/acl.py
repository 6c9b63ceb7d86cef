"""Access control lists: as the kernel stores them, and as tar programs write them.

Source: acl(5); linux/posix_acl_xattr.h; star(5), SCHILY.acl.access.
"""

import struct

from tiering.archive.store import DamagedError

# Their extended attributes and their keywords in a PAX header.
KEYWORDS = {
    b"system.posix_acl_access": b"SCHILY.acl.access",
    b"system.posix_acl_default": b"SCHILY.acl.default",
}

_NAMES = {1: b"user", 2: b"user", 4: b"group", 8: b"group", 16: b"mask", 32: b"other"}
_NUMBERED = {2: b"user", 8: b"group"}
_TAGS = {(name, tag in _NUMBERED): tag for tag, name in _NAMES.items()}
_NOBODY = 2**32 - 1
_VERSION = 2


def to_text(packed: bytes) -> bytes:
    """Entries with numbers, separated by commas: `user::rw-,user:1000:r--,...`."""
    return b",".join(
        b"%s:%s:%s" % (_NAMES[tag], b"%d" % number if tag in _NUMBERED else b"", _letters(rights))
        for tag, rights, number in struct.iter_unpack("<HHI", packed[4:])
    )


def from_text(text: bytes) -> bytes:
    """The reverse of `to_text`.

    Raises:
        DamagedError: it was not written by that.
    """
    packed = struct.pack("<I", _VERSION)
    try:
        for entry in text.split(b","):
            name, number, letters = entry.split(b":")
            rights = sum(
                bit for bit, letter in zip((4, 2, 1), letters, strict=True) if letter != 45
            )
            tag = _TAGS[name, bool(number)]
            packed += struct.pack("<HHI", tag, rights, int(number) if number else _NOBODY)
    except (ValueError, KeyError, struct.error) as error:
        raise DamagedError(f"{text!r} is no access control list") from error
    return packed


def _letters(rights: int) -> bytes:
    return bytes(
        letter if rights & bit else ord("-") for bit, letter in zip((4, 2, 1), b"rwx", strict=True)
    )
