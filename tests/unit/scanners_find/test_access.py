"""Who may list a directory, by the modes on its path."""

import itertools

import pytest

from scanners import access
from scanners.access import HIDDEN

OWNER, GROUP, OTHER = (1, {9}), (2, {7, 9}), (3, {9})
UID, GID = 1, 7


def of(*modes: int, top_level: int = 0, acl: bool = False) -> str:
    """The requirement of the last of directories in each other, all of UID and GID."""
    text = ""
    for level, mode in enumerate(modes):
        text = access.extended(text, level, UID, GID, mode, acl)
    return access.resolved(text, top_level)


def who(requirement: str) -> str:
    """Which of owner, group and others meet it: `ogx`, `o--` and the like."""
    return "".join(
        letter if access.is_met(requirement, *caller) else "-"
        for letter, caller in zip("ogx", (OWNER, GROUP, OTHER), strict=True)
    )


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o755, "ogx"),
        (0o750, "og-"),
        (0o700, "o--"),
        (0o711, "o--"),  # others may search, not read
        (0o744, "o--"),  # others may read names and nothing more
        (0o070, "-g-"),  # the owner's class counts for the owner, although the group has more
        (0o705, "o-x"),
        (0o077, "-gx"),
        (0o007, "--x"),
        (0o000, "---"),
        (0o2770, "og-"),
        (0o1777, "ogx"),
    ],
)
def test_the_class_of_a_caller_decides(mode: int, expected: str) -> None:
    assert who(of(mode)) == expected


def test_every_mode_is_decided_as_the_kernel_does() -> None:
    for mode in range(0o1000):
        expected = "".join(
            letter if mode >> shift & 5 == 5 else "-"
            for letter, shift in zip("ogx", (6, 3, 0), strict=True)
        )
        assert who(of(mode)) == expected, oct(mode)


def test_all_directories_on_the_path_must_be_passed() -> None:
    for above, below in itertools.product((0o755, 0o750, 0o700, 0o070, 0o000), repeat=2):
        expected = "".join(
            one if one == other else "-"
            for one, other in zip(who(of(above)), who(of(below)), strict=True)
        )
        assert who(of(above, below)) == expected


def test_the_owner_in_the_group_is_the_owner() -> None:
    assert not access.is_met(of(0o070), UID, {GID})


def test_above_the_project_searching_is_enough() -> None:
    """`/home` of mode 0711 hides its names, and yet everybody reaches a home they know of."""
    assert who(of(0o711, 0o755, top_level=0)) == "o--"
    assert who(of(0o711, 0o755, top_level=1)) == "ogx"
    assert who(of(0o710, 0o755, top_level=1)) == "og-"
    assert who(of(0o700, 0o755, top_level=1)) == "o--"
    assert who(of(0o111, 0o755, top_level=1)) == "ogx"
    assert who(of(0o111, 0o755, top_level=0)) == "---"


def test_with_an_access_control_list_only_the_owner_is_sure() -> None:
    assert who(of(0o755, acl=True)) == "o--"
    assert of(0o055, acl=True) == HIDDEN


def test_what_is_below_the_hidden_is_hidden() -> None:
    assert of(0o000, 0o777) == HIDDEN
    assert access.extended(HIDDEN, 3, UID, GID, 0o777) == HIDDEN


def test_a_path_open_to_all_demands_nothing() -> None:
    assert of(0o755, 0o2775, 0o1777) == ""


def test_the_same_demands_in_any_order_are_one_text() -> None:
    one = access.extended(access.extended("", 0, 1, 7, 0o750), 1, 2, 8, 0o750)
    other = access.extended(access.extended("", 0, 2, 8, 0o2770), 1, 1, 7, 0o750)
    assert one == other == "110:1:7 110:2:8"
    assert access.extended(one, 2, 1, 7, 0o750) == one


def test_the_length_is_bounded() -> None:
    text = ""
    for uid in range(1, 1000):
        text = access.extended(text, uid, uid, 1, 0o700)
    assert text == HIDDEN


def test_rules_are_numbered_by_their_text_alone() -> None:
    found = [("110:1:7 100:1@1", 1), ("110:1:7", 1), ("110:1:7 100:1@1", 2), (HIDDEN, 2)]
    rules = access.rules(found, {1: 1, 2: 2})
    assert rules.requirements == {1: HIDDEN, 2: "100:1 110:1:7", 3: "110:1:7"}
    assert rules == access.rules(reversed(found), {1: 1, 2: 2})
    assert [rules.number_of[pair] for pair in found] == [2, 3, 3, 1]


@pytest.mark.parametrize(("path", "level"), [(b"/", 0), (b"/a", 1), (b"/a/b", 2)])
def test_the_level_of_a_path(path: bytes, level: int) -> None:
    assert access.level(path) == level
