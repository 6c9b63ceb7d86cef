"""Modes of the group alone, in chmod's notation; everything else is refused in one sentence."""

import pytest

from datamgr.errors import InvalidError
from pitoolbox import modes


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("g+rX", [("+", "rX")]),
        ("g+rX,g-w", [("+", "rX"), ("-", "w")]),
        ("g+r-w", [("+", "r"), ("-", "w")]),
        ("g=rx", [("=", "rx")]),
        ("g=", [("=", "")]),
        ("g=u", [("=", "u")]),
        ("g+s", [("+", "s")]),
        ("gg+r", [("+", "r")]),
        ("0", [("=", "")]),
        ("5", [("=", "rx")]),
        ("070", [("=", "rwx")]),
        ("0040", [("=", "r")]),
        ("2050", [("=", "rx"), ("+", "s")]),
    ],
)
def test_what_chmod_understands_of_the_group(text: str, clauses: list[tuple[str, str]]) -> None:
    assert list(modes.parse(text)) == clauses


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("u+r", "not about the group alone"),
        ("o-rwx", "not about the group alone"),
        ("a+r", "not about the group alone"),
        ("ug+r", "not about the group alone"),
        ("g+r,o+r", "not about the group alone"),
        ("+x", "not about the group alone"),
        ("750", "not about the group alone"),
        ("007", "not about the group alone"),
        ("4050", "not about the group alone"),
        ("1050", "not about the group alone"),
        ("6050", "not about the group alone"),
        ("55", "not about the group alone"),
        ("g+t", "sticky"),
        ("g+", "says nothing"),
        ("g=rq", "no mode"),
        ("g=ur", "no mode"),
        ("g+r,", "no mode"),
        ("g+r g+w", "no mode"),
        ("", "no mode"),
        ("g", "no mode"),
        ("9", "no mode"),
        ("08", "no mode"),
        ("g+r\n", "no mode"),
        ("-1", "not about the group alone"),
        ("\udcff", "no mode"),
        ("٠٥٠", "no mode"),
    ],
)
def test_everything_else_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why) as refusal:
        modes.parse(text)
    assert str(refusal.value).isprintable()
    assert "write it like g+rX" in str(refusal.value)
