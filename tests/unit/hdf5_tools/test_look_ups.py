"""Look-ups among many texts and numbers of one segment: the same as looking at each."""

import itertools
import math
import random
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdf5_tools.harvest.records import FileRecord, Kind, ObjectRecord
from hdf5_tools.index import container, evaluate, places, query
from hdf5_tools.index.assemble import assemble
from hdf5_tools.index.builder import Builder, FileStamp
from hdf5_tools.index.conditions import Pattern
from hdf5_tools.index.numbers import Numbers
from hdf5_tools.index.segment import Segment
from hdf5_tools.index.strings import Ascending, keys

LETTERS = "abAB"
OBJECTS = 6000


class Content:
    """Values of each name by object, and the segment of them; without a long representation."""

    def __init__(self, folder: Path) -> None:
        chance = random.Random(3)
        # `once`: a text of its own for each; `many`: up to three of few; `long`: of all lengths.
        every = ["".join(t) for n in range(8) for t in itertools.product(LETTERS, repeat=n)]
        self.values: dict[str, list[tuple[Any, ...]]] = {
            "once": [(text,) for text in chance.sample(every, OBJECTS)],
            "many": [tuple(chance.choices(every[:600], k=k % 4)) for k in range(OBJECTS)],
            "long": [("".join(chance.choices(LETTERS, k=k % 40)),) for k in range(OBJECTS)],
            "whole": [(chance.randrange(-700, 700),) for _ in range(OBJECTS)],
            "several": [tuple(chance.choices(range(900), k=k % 3)) for k in range(OBJECTS)],
            "real": [(chance.choice((chance.random(), 0.5, math.nan)),) for _ in range(OBJECTS)],
        }
        found = []
        for number in range(OBJECTS):
            attributes = []
            for name, values in self.values.items():
                kind = {"whole": "int64", "several": "int64", "real": "float64"}.get(name, "string")
                stored = tuple(v.encode() if isinstance(v, str) else v for v in values[number])
                attributes.append((name.encode(), (kind, (len(stored),)), stored))
            found.append(ObjectRecord(b"/%d" % number, Kind.GROUP, ("group", None), attributes))
        builder = Builder()
        builder.add(FileStamp(b"/f", 1, 1, 1, 1), FileRecord(found))
        container.write(folder / "1.segment", assemble(builder.columns()))
        self.segment = Segment(folder / "1.segment")

    def found(self, text: str) -> list[int]:
        members: list[int] = evaluate.objects(self.segment, query.parse(text)).tolist()
        return members

    def holding(self, name: str, test: Any) -> list[int]:
        return [n for n, values in enumerate(self.values[name]) if any(map(test, values))]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return Content(tmp_path_factory.mktemp("look-ups"))


part = st.text(st.sampled_from(LETTERS), max_size=6)


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(["once", "many", "long"]),
    parts=st.lists(part, min_size=1, max_size=4),
    folds=st.booleans(),
)
def test_patterns(content: Content, name: str, parts: list[str], folds: bool) -> None:
    flags = re.DOTALL | (re.IGNORECASE if folds else 0)
    matches = re.compile(".*".join(parts), flags).fullmatch
    found = content.found(f'{name} {"~" if folds else "="} "{"*".join(parts)}"')
    assert found == content.holding(name, matches)


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(["once", "many", "long"]), text=part)
def test_order_of_texts(content: Content, name: str, text: str) -> None:
    assert content.found(f'{name} < "{text}"') == content.holding(name, lambda t: t < text)
    assert content.found(f'{name} >= "{text}"') == content.holding(name, lambda t: t >= text)


odd = st.lists(st.sampled_from([0, 1, 97, 254, 255]), max_size=12).map(bytes)


@settings(max_examples=300, deadline=None)
@given(texts=st.sets(odd, max_size=200), prefix=odd)
def test_prefixes_of_any_bytes_and_texts_with_nul_behind(texts: set[bytes], prefix: bytes) -> None:
    """Also longer than what is kept of each text as a number, and with what fills that up."""
    ordered = sorted(texts)
    letters = np.frombuffer(b"".join(ordered), np.uint8)
    first = np.cumsum([0, *map(len, ordered)])
    forwards = Ascending(ordered.__getitem__, 0, len(ordered), keys(letters, first))
    low, high = forwards.starting(prefix)
    assert ordered[low:high] == [text for text in ordered if text.startswith(prefix)]

    letters, first = places.separated(letters, first)
    assert bytes(letters) == b"".join(text + b"\0" for text in ordered)
    back, again = places.joined(letters, first)
    assert bytes(back) == b"".join(ordered)
    assert np.diff(again).tolist() == [len(text) for text in ordered]


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(odd, max_size=60),
    others=st.lists(odd, max_size=5),
    parts=st.lists(odd, min_size=1, max_size=4),
    folds=st.booleans(),
)
def test_patterns_of_any_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[bytes],
    others: list[bytes],
    parts: list[bytes],
    folds: bool,
) -> None:
    """Also longer than what places are in order by, and with the NUL that ends a text inside."""
    builder = Builder()
    attributes = [
        [(name, ("string", ()), (text,)) for text in values]
        for name, values in ((b"a", others), (b"b", texts), (b"c", others))
    ]
    found = [
        ObjectRecord(b"/%d" % number, Kind.GROUP, ("group", None), [attribute])
        for number, attribute in enumerate(itertools.chain.from_iterable(attributes))
    ]
    builder.add(FileStamp(b"/f", 1, 1, 1, 1), FileRecord(found))
    path = tmp_path_factory.mktemp("odd") / "1.segment"
    container.write(path, assemble(builder.columns()))
    segment = Segment(path)
    pattern = Pattern(tuple(p.lower() for p in parts) if folds else tuple(parts), folds)
    name = segment.name(b"b")
    members = [] if name is None else segment.texts_of(name).matching(pattern).tolist()
    assert members == [len(others) + n for n, text in enumerate(texts) if pattern.fits(text)]


bounds = st.one_of(
    st.integers(-800, 1000).map(str),
    st.decimals(-800, 1000, places=2).map(str),
    st.sampled_from(["0.5", "1e400", "-1e-400", "0.50000000000000001"]),
)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["whole", "several", "real"]), low=bounds, high=bounds)
def test_ranges_of_numbers(content: Content, name: str, low: str, high: str) -> None:
    def bound(text: str) -> Any:
        return float(text) if name == "real" else Fraction(text)

    least, most = bound(low), bound(high)
    found = content.found(f"{name} >= {low} and {name} < {high}")
    above = set(content.holding(name, lambda v: v >= least))
    assert found == sorted(above & set(content.holding(name, lambda v: v < most)))
    assert content.found(f"{name} = {low}") == content.holding(name, lambda v: v == least)


@settings(max_examples=200, deadline=None)
@given(text=part, parts=st.lists(part, min_size=1, max_size=5))
def test_a_pattern_fits_as_its_regular_expression_does(text: str, parts: list[str]) -> None:
    pattern = Pattern(tuple(p.encode() for p in parts))
    assert pattern.fits(text.encode()) == bool(re.fullmatch(".*".join(parts), text))


def test_a_pattern_of_many_stars_takes_no_longer_than_its_text() -> None:
    """A regular expression would go on for years."""
    pattern = Pattern((b"", *(b"a",) * 60, b"b", b""))
    assert not pattern.fits(b"a" * 100_000)
    assert pattern.fits(b"a" * 100_000 + b"b")


@pytest.mark.parametrize(
    ("dtype", "values", "bound", "equal"),
    [
        ("u8", [1, 2**63, 2**64 - 1], str(2**64 - 1), [2]),
        ("i8", [-(2**63), 0, 2**63 - 1], str(2**63), []),
        ("i8", [-(2**63), 0, 2**63 - 1], str(-(2**63)), [0]),
        ("f4", [0.1, 0.5, math.inf, math.nan], "0.1", [0]),
        ("f4", [0.1, 0.5, math.inf, math.nan], "1e39", []),
        ("f8", [-0.0, 0.0, 1.0], "0", [0, 1]),
    ],
)
def test_numbers_at_the_edges(dtype: str, values: list[Any], bound: str, equal: list[int]) -> None:
    numbers = Numbers(np.array(values, dtype), np.arange(len(values)))
    low, high = numbers.run("=", Decimal(bound))
    assert list(range(low, high)) == equal
    least, most = numbers.run(">=", Decimal("-1e300"))
    assert most == sum(not math.isnan(value) for value in values)
    assert least == 0
