"""The query language: what it says, and that it refuses anything else in a sentence."""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamgr.errors import InvalidError
from hdf5_tools.index import query
from hdf5_tools.index.conditions import All, AnyOf, Compare, Has, Not, Pattern


def test_comparisons_alone_and_among_others_are_the_same() -> None:
    wanted = {
        'a = "x*y"': Compare(b"a", "=", Pattern((b"x", b"y"))),
        "a.b/c-d >= -1.5e3": Compare(b"a.b/c-d", ">=", Decimal(-1500)),
        "a<.5": Compare(b"a", "<", Decimal("0.5")),
        "a > 500ms": Compare(b"a", ">", Decimal(500), unit="ms"),
        'a > 3 "m s^-1"': Compare(b"a", ">", Decimal(3), unit="m s^-1"),
        "a = 1 in": Compare(b"a", "=", Decimal(1), unit="in"),
        "a != 1": All((Has(b"a"), Not(Compare(b"a", "=", Decimal(1))))),
        "a = true": Compare(b"a", "=", Decimal(1)),
        'a ~ "X*"': Compare(b"a", "=", Pattern((b"x", b""), True)),
        "a = '\\*\"'": Compare(b"a", "=", Pattern((b'*"',))),
    }
    for text, expected in wanted.items():
        node = query.parse(text)
        assert node == expected
        # From here on not by ==, for which all named tuples are tuples.
        assert repr(query.parse(f"  ({text} )")) == repr(node)
        assert repr(query.parse(f"{text} and has b")) == repr(All((node, Has(b"b"))))
        assert repr(query.parse(f"has b OR {text}")) == repr(AnyOf((Has(b"b"), node)))
        name = text.partition(" ")[0].partition("<")[0]
        assert repr(query.parse(text.replace(name, f"`{name}`", 1))) == repr(node)


PIECES = [
    "a", "has", "and", "or", "not", "in", "(", ")", ",", "=", "!=", "<=", "~", '"x*"', "'", '"',
    "`", "`o d`", "@path", "@x", "1", "-2.5e3", "1e999", "ms", "m/s^2", "°C", "%", "true", "\\",
    "*", "é", "\udc80", "\0", "9" * 30,
]  # fmt: skip
pieces = st.one_of(st.sampled_from(PIECES), st.text(max_size=3))


@settings(max_examples=1000, deadline=None)
@given(st.lists(pieces, max_size=12), st.sampled_from(["", " "]))
def test_any_text_is_understood_or_refused(parts: list[str], between: str) -> None:
    text = between.join(parts)
    try:
        query.parse(text)
    except InvalidError as error:
        assert str(error)


@pytest.mark.parametrize(
    "text",
    [
        "a = 1 and " * 20_000 + "a = 1",
        'a = "' + "x" * 1_000_000,
        "a" * 1_000_000,
        "a = " + "1" * 100_000,
        " " * 1_000_000,
        "a = 1" + " " * 1_000_000 + "b",
        "not " * 50_000 + "a = 1",
    ],
)
def test_long_queries_end(text: str) -> None:
    with suppress(InvalidError):
        query.parse.__wrapped__(text)
