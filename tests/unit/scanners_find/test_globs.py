"""Patterns match as fnmatch(3) has it in the locale C, whatever bytes there are."""

import ctypes
import random

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from datamgr.errors import InvalidError
from scanners import globs
from scanners.find import Question

NAMES = [
    b"a.h5", b"a\n.h5", b"\xff.h5", b"\xc3\xa9", b"x]y", b"-", b"'q\"", b"[", b"a\\b", b".h5",
    b"A/B.h5", b"*", b"?", b"\xff\xfe", b"\n", b"^", b"!", b"a-z", b"$", b"(", b"",
]  # fmt: skip


def matching(glob: bytes, names: list[bytes]) -> list[bytes]:
    mask = pc.match_substring_regex(pa.array(names, pa.binary()), globs.to_regex(glob))
    return [name for name, is_match in zip(names, mask.to_pylist(), strict=True) if is_match]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        (b"*.h5", [b"a.h5", b"a\n.h5", b"\xff.h5", b".h5", b"A/B.h5"]),
        (b"??", [b"\xc3\xa9", b"\xff\xfe"]),
        (b"\xff*", [b"\xff.h5", b"\xff\xfe"]),
        (b"*\n*", [b"a\n.h5", b"\n"]),
        (b"*['\"]*", [b"'q\""]),
        (b"[]x]*", [b"x]y"]),
        (b"\\*", [b"*"]),
        (b"a\\\\b", [b"a\\b"]),
        (b"[", [b"["]),
        (b"", [b""]),
        (b"[!!-~]*", [b"\xff.h5", b"\xc3\xa9", b"\xff\xfe", b"\n"]),
    ],
)
def test_a_pattern_matches_bytes(glob: bytes, expected: list[bytes]) -> None:
    assert matching(glob, NAMES) == expected


def test_random_patterns_match_what_the_c_library_matches() -> None:
    fnmatch = ctypes.CDLL(None).fnmatch
    chance = random.Random(4)
    alphabet = [b"a", b"b", b"-", b"*", b"?", b"[", b"]", b"!", b"\\a", b"\xff", b"\n", b"."]
    letters = [b"a", b"b", b"-", b"]", b"[", b"!", b"\xff", b"\n", b".", b"*"]
    for _ in range(3000):
        glob = b"".join(chance.choices(alphabet, k=chance.randrange(1, 7)))
        if b"\\" in glob and b"[" in glob:
            continue  # a backslash within brackets is a letter here and none there
        names = [b"".join(chance.choices(letters, k=chance.randrange(5))) for _ in range(8)]
        try:
            found = matching(glob, names)
        except InvalidError:
            continue  # a range that goes backwards, which matches nothing there
        assert found == [name for name in names if fnmatch(glob, name, 0) == 0], glob


@pytest.mark.parametrize("glob", [b"a\\", b"[z-a]"])
def test_what_is_no_pattern_is_said(glob: bytes) -> None:
    with pytest.raises(InvalidError):
        Question(name=glob)
