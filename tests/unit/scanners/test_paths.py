"""Paths as bytes: below, shown, cut in pieces, and the bins of ages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanners import ages, directory, mounts, paths
from tests import oracle

names = st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & {0, ord("/")})


@pytest.mark.parametrize(
    ("path", "above", "answer"),
    [(b"/a", b"/a", True), (b"/a/b", b"/a", True), (b"/ab", b"/a", False), (b"/a", b"/", True),
     (b"/", b"/", True), (b"/a", b"/a/b", False), (b"/", b"/a", False)],
)  # fmt: skip
def test_below_is_by_whole_names(path: bytes, above: bytes, answer: bool) -> None:
    assert paths.is_below(path, above) is answer


@given(names, names)
def test_different_names_are_shown_differently(one: bytes, other: bytes) -> None:
    assert (paths.display_name(one) == paths.display_name(other)) is (one == other)


def test_a_backslash_is_no_escape() -> None:
    alike = [b"\xff", b"\\xff", b"\\", b"\\\\", b"\\\\xff", b"\xfe\\xff", b"\\xfe\xff"]
    assert len({paths.display_name(name) for name in alike}) == len(alike)


@given(names)
def test_what_is_shown_is_text_for_postgresql(name: bytes) -> None:
    shown = paths.display_name(name)
    assert shown.encode("utf-8")
    assert "\0" not in shown


@given(st.lists(names, min_size=1, max_size=50), st.sampled_from([0, 10, 100, 4096]))
def test_pieces_are_short_and_join_to_the_path(parts: list[bytes], limit: int) -> None:
    path = b"/" + b"/".join(parts)
    pieces = directory._pieces(path, limit)
    assert b"/" + b"/".join(pieces) == path
    assert all(len(piece) < limit or b"/" not in piece for piece in pieces)


@given(names)
def test_mount_points_are_read_as_they_are_named(name: bytes) -> None:
    """As the kernel writes them: blank, tab, newline and backslash in octal."""
    written = b"".join(b"\\%03o" % b if b in b" \t\n\\" else bytes([b]) for b in name)
    assert mounts.unescape(written) == name


@given(st.integers(-(10**10), 10**10))
def test_ages_are_binned_as_the_oracle_does(age_s: int) -> None:
    assert ages.bin_of(age_s) == oracle.age_bin(age_s)
    assert ages.bin_of(None) is None
